//! Request bodies: JSON, YAML or protobuf, checked against the kind that the path means.

use serde_json::Value;

use super::{FieldValidation, WriteOptions};
use crate::api::call::Call;
use crate::machinery::json::{parse_json, parse_yaml};
use crate::machinery::protobuf;
use crate::status::ApiError;

/// What objects may be sent as.
pub(super) const ACCEPTED: &[&str] = &[
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];
/// How much of an unreadable body is repeated to the client.
const EXCERPT_LENGTH: usize = 30;

/// A body that was understood.
pub(crate) struct Decoded {
    pub(crate) object: Value,
    /// Duplicate fields, each as a sentence.
    pub(crate) faults: Vec<String>,
    /// The kind is not the one that is served here; custom resources complain about that later.
    pub(crate) wrong_kind: bool,
}

/// The body as a value of whatever kind.
pub(crate) fn body_value(call: &Call) -> Result<(Value, Vec<String>), ApiError> {
    let kind = &call.resource.kind;
    let unrecognized = |why: &str| {
        ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {kind}): {why} ({})",
            excerpt(&call.body)
        ))
    };
    match call.content_type() {
        "" | "application/json" => {
            let parsed = parse_json(&call.body).map_err(|error| {
                unrecognized(&format!(
                    "couldn't get version/kind; json parse error: {}",
                    error.message
                ))
            })?;
            Ok((parsed.value, parsed.duplicates))
        }
        "application/yaml" | "application/x-yaml" | "text/yaml" => {
            let parsed = parse_yaml(&call.body).map_err(|error| {
                unrecognized(&format!(
                    "couldn't get version/kind; json parse error: {}",
                    error.message
                ))
            })?;
            Ok((parsed.value, parsed.duplicates))
        }
        "application/vnd.kubernetes.protobuf" => protobuf::decode(&call.body)
            .map(|value| (value, Vec::new()))
            .map_err(|error| unrecognized(&error.to_string())),
        _ => Err(ApiError::unsupported_media_type(ACCEPTED)),
    }
}

/// The body as an object of the kind in the path.
pub(crate) fn decode(call: &mut Call, options: &WriteOptions) -> Result<Decoded, ApiError> {
    let (mut object, faults) = body_value(call)?;
    let resource = std::sync::Arc::clone(&call.resource);
    let expected = resource.api_version();
    let is_custom = resource.custom().is_some();
    let given = |name: &str| {
        object
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (api_version, kind) = (given("apiVersion"), given("kind"));
    if !object.is_object() || (is_custom && kind.is_empty()) {
        let why = format!(
            "Object 'Kind' is missing in '{}'",
            String::from_utf8_lossy(&call.body)
        );
        return Err(ApiError::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {why} ({})",
            resource.kind,
            excerpt(&call.body)
        )));
    }
    if kind.is_empty() {
        object["kind"] = Value::String(resource.kind.clone());
    }
    if api_version.is_empty() {
        object["apiVersion"] = Value::String(expected.clone());
    }
    let wrong_version = !api_version.is_empty() && api_version != expected;
    if is_custom && wrong_version {
        if options.field_validation == FieldValidation::Warn {
            let unknown = object
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str());
            let unknown =
                unknown.filter(|name| !matches!(*name, "apiVersion" | "kind" | "metadata"));
            call.warnings
                .extend(unknown.map(|name| format!("unknown field \"{name}\"")));
        }
        return Err(ApiError::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    let wrong_kind = !kind.is_empty() && kind != resource.kind;
    if !is_custom && (wrong_kind || wrong_version) {
        let version = object["apiVersion"].as_str().unwrap_or_default();
        let short = version.rsplit('/').next().unwrap_or_default();
        let given = if kind.is_empty() {
            &resource.kind
        } else {
            &kind
        };
        return Err(ApiError::bad_request(format!(
            "{given} in version \"{short}\" cannot be handled as a {}: no kind \"{given}\" is registered for version \"{version}\" at this path",
            resource.kind
        )));
    }
    Ok(Decoded {
        object,
        faults,
        wrong_kind,
    })
}

/// The start of a body, as the real server repeats it.
fn excerpt(body: &[u8]) -> String {
    if body.is_empty() {
        return "<empty>".to_owned();
    }
    match std::str::from_utf8(body) {
        Ok(text) if text.len() <= EXCERPT_LENGTH => text.to_owned(),
        Ok(text) => {
            let end = (0..=EXCERPT_LENGTH)
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or_default();
            format!("{} ...", text.get(..end).unwrap_or_default())
        }
        Err(_) => "binary data".to_owned(),
    }
}
