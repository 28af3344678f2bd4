//! Failures as Kubernetes words them: one error type, turned into a `Status` object in one place.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// A failed request: everything that a `Status` object says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status code.
    pub code: u16,
    /// Machine-readable reason; empty when the real server gives none.
    pub reason: &'static str,
    /// What a person reads.
    pub message: String,
    /// Which object, and which of its fields.
    pub details: Option<Box<Details>>,
}

/// The `details` of a `Status`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details {
    /// Name of the object, empty when there is none yet.
    pub name: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Resource (`pods`) or kind (`Pod`), whichever the real server gives for this reason.
    pub kind: String,
    /// UID of the object.
    pub uid: String,
    /// One entry per fault.
    pub causes: Vec<Cause>,
    /// Seconds after which a retry is sensible.
    pub retry_after_seconds: u32,
}

/// One fault of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// For example `FieldValueInvalid`.
    pub reason: &'static str,
    /// What is wrong, without the field's path.
    pub message: String,
    /// Path of the field, for example `spec.ports[0].name`.
    pub field: String,
}

impl Cause {
    /// A field that must be there and is not; `detail` may be empty.
    pub fn required(field: impl Into<String>, detail: &str) -> Self {
        Self::plain("FieldValueRequired", "Required value", field.into(), detail)
    }

    /// A value that may not be.
    pub fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {}", printed(value));
        Self::plain("FieldValueInvalid", &message, field.into(), detail)
    }

    /// A value that may not be and is not worth printing (failed CEL rules).
    pub fn invalid_omitted(field: impl Into<String>, detail: &str) -> Self {
        Self::plain("FieldValueInvalid", "Invalid value", field.into(), detail)
    }

    /// A value of the wrong type.
    pub fn type_invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        let message = format!("Invalid value: {}", printed(value));
        Self::plain("FieldValueTypeInvalid", &message, field.into(), detail)
    }

    /// A value outside a closed set.
    pub fn not_supported(field: impl Into<String>, value: &Value, supported: &[String]) -> Self {
        let list = supported
            .iter()
            .map(|one| quoted(one))
            .collect::<Vec<_>>()
            .join(", ");
        let detail = if supported.is_empty() {
            String::new()
        } else {
            format!("supported values: {list}")
        };
        let message = format!("Unsupported value: {}", printed(value));
        Self::plain("FieldValueNotSupported", &message, field.into(), &detail)
    }

    /// A value that occurs twice where it must be unique.
    pub fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Duplicate value: {}", printed(value));
        Self::plain("FieldValueDuplicate", &message, field.into(), "")
    }

    /// A field that may not be set.
    pub fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self::plain("FieldValueForbidden", "Forbidden", field.into(), detail)
    }

    /// A string that is too long; `detail` says the limit.
    pub fn too_long(field: impl Into<String>, detail: &str) -> Self {
        Self::plain("FieldValueTooLong", "Too long", field.into(), detail)
    }

    /// A list or map with too many entries.
    pub fn too_many(field: impl Into<String>, actual: usize, max: u64) -> Self {
        let detail = format!("must have at most {max} items");
        Self::plain(
            "FieldValueTooMany",
            &format!("Too many: {actual}"),
            field.into(),
            &detail,
        )
    }

    /// A reference to something that is not there.
    pub fn not_found(field: impl Into<String>, value: &Value) -> Self {
        let message = format!("Not found: {}", printed(value));
        Self::plain("FieldValueNotFound", &message, field.into(), "")
    }

    fn plain(reason: &'static str, message: &str, field: String, detail: &str) -> Self {
        let message = if detail.is_empty() {
            message.to_owned()
        } else {
            format!("{message}: {detail}")
        };
        Self {
            reason,
            message,
            field,
        }
    }

    /// `field: message`, as it stands in the message of the `Status`.
    pub fn sentence(&self) -> String {
        format!("{}: {}", self.field, self.message)
    }
}

/// A value as Go prints it in a field error.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => quoted(text),
        other => go_json(other),
    }
}

/// A string in Go's `%q` form, for all that occurs in names and values.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for symbol in text.chars() {
        match symbol {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other if other.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(other))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Compact JSON with Go's HTML escaping of `<`, `>` and `&`.
pub fn go_json(value: &Value) -> String {
    value
        .to_string()
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
}

/// `resource.group`, or just the resource in the core group.
fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

impl ApiError {
    fn about(code: u16, reason: &'static str, message: String, details: Details) -> Self {
        Self {
            code,
            reason,
            message,
            details: Some(Box::new(details)),
        }
    }

    fn bare(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: None,
        }
    }

    fn object(group: &str, kind: &str, name: &str) -> Details {
        Details {
            name: name.to_owned(),
            group: group.to_owned(),
            kind: kind.to_owned(),
            ..Details::default()
        }
    }

    /// 404: no object of that name.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {} not found", qualified(resource, group), quoted(name));
        Self::about(
            404,
            "NotFound",
            message,
            Self::object(group, resource, name),
        )
    }

    /// 404: no such path in the API.
    pub fn no_such_path() -> Self {
        Self::about(
            404,
            "NotFound",
            "the server could not find the requested resource".to_owned(),
            Details::default(),
        )
    }

    /// 409: an object of that name exists.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!(
            "{} {} already exists",
            qualified(resource, group),
            quoted(name)
        );
        Self::about(
            409,
            "AlreadyExists",
            message,
            Self::object(group, resource, name),
        )
    }

    /// 409: the object is not as the client thinks; `why` completes the sentence.
    pub fn conflict(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {}: {why}",
            qualified(resource, group),
            quoted(name)
        );
        Self::about(
            409,
            "Conflict",
            message,
            Self::object(group, resource, name),
        )
    }

    /// 409: the resource version is not the stored one.
    pub fn modified(group: &str, resource: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(group, resource, name, why)
    }

    /// 409: server-side apply met fields of other managers.
    pub fn apply_conflict(message: String, causes: Vec<Cause>) -> Self {
        Self::about(
            409,
            "Conflict",
            message,
            Details {
                causes,
                ..Details::default()
            },
        )
    }

    /// 422: the object breaks its schema or rules.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let mut seen = HashSet::new();
        let mut sentences: Vec<String> = causes.iter().map(Cause::sentence).collect();
        sentences.retain(|sentence| seen.insert(sentence.clone()));
        let faults = match sentences.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!(
            "{} {} is invalid: {faults}",
            qualified(kind, group),
            quoted(name)
        );
        let details = Details {
            causes,
            ..Self::object(group, kind, name)
        };
        Self::about(422, "Invalid", message, details)
    }

    /// 422: a patch that cannot be applied to the object.
    pub fn unprocessable_patch() -> Self {
        let message = "the server rejected our request due to an error in our request".to_owned();
        Self::about(422, "Invalid", message, Details::default())
    }

    /// 400.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::bare(400, "BadRequest", message)
    }

    /// 403; `why` follows the colon.
    pub fn forbidden(group: &str, resource: &str, name: &str, why: &str) -> Self {
        let what = qualified(resource, group);
        let message = match (resource.is_empty(), name.is_empty()) {
            (true, _) => format!("forbidden: {why}"),
            (false, true) => format!("{what} is forbidden: {why}"),
            (false, false) => format!("{what} {} is forbidden: {why}", quoted(name)),
        };
        Self::about(
            403,
            "Forbidden",
            message,
            Self::object(group, resource, name),
        )
    }

    /// 401.
    pub fn unauthorized() -> Self {
        Self::bare(401, "Unauthorized", "Unauthorized")
    }

    /// 410 for a watch or a continue token from too long ago.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::bare(410, "Expired", message)
    }

    /// 415; `accepted` are the media types that would do.
    pub fn unsupported_media_type(accepted: &[&str]) -> Self {
        let list = accepted.join(", ");
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {list}"
        );
        Self::bare(415, "UnsupportedMediaType", message)
    }

    /// 406; `accepted` are the media types on offer.
    pub fn not_acceptable(accepted: &[&str]) -> Self {
        let message = format!(
            "only the following media types are accepted: {}",
            accepted.join(", ")
        );
        Self::bare(406, "NotAcceptable", message)
    }

    /// 405.
    pub fn method_not_allowed(group: &str, resource: &str, action: &str) -> Self {
        let message = format!(
            "{action} is not supported on resources of kind {}",
            quoted(&qualified(resource, group))
        );
        Self::about(
            405,
            "MethodNotAllowed",
            message,
            Self::object(group, resource, ""),
        )
    }

    /// 504 for a list at a resource version that is still to come.
    pub fn too_large_resource_version(asked: u64, current: u64) -> Self {
        let cause = Cause {
            reason: "ResourceVersionTooLarge",
            message: "Too large resource version".to_owned(),
            field: String::new(),
        };
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = Details {
            causes: vec![cause],
            retry_after_seconds: 1,
            ..Details::default()
        };
        Self::about(504, "Timeout", message, details)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        let message = format!("Request entity is too large: {}", message.into());
        Self::bare(413, "RequestEntityTooLarge", message)
    }

    /// 429.
    pub fn too_many_requests(message: impl Into<String>, retry_after_seconds: u32) -> Self {
        let details = Details {
            retry_after_seconds,
            ..Details::default()
        };
        Self::about(429, "TooManyRequests", message.into(), details)
    }

    /// 503.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::bare(503, "ServiceUnavailable", message)
    }

    /// 500 as an error that is no API status on the real server: no reason, no details.
    pub fn plain_internal(message: impl Into<String>) -> Self {
        Self::bare(500, "", message)
    }

    /// 500: our fault.
    pub fn internal(message: impl Into<String>) -> Self {
        let message = message.into();
        let cause = Cause {
            reason: "",
            message: message.clone(),
            field: String::new(),
        };
        let details = Details {
            causes: vec![cause],
            ..Details::default()
        };
        Self::about(
            500,
            "InternalError",
            format!("Internal error occurred: {message}"),
            details,
        )
    }

    /// The `Status` object that goes to the client.
    pub fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message,
        });
        if let Value::Object(fields) = &mut status {
            if !self.reason.is_empty() {
                fields.insert("reason".to_owned(), json!(self.reason));
            }
            if let Some(details) = &self.details {
                fields.insert("details".to_owned(), details.to_value());
            }
            fields.insert("code".to_owned(), json!(self.code));
        }
        status
    }
}

impl Details {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("name", &self.name),
            ("group", &self.group),
            ("kind", &self.kind),
            ("uid", &self.uid),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                out.insert(key.to_owned(), json!(text));
            }
        }
        if !self.causes.is_empty() {
            let causes = self.causes.iter().map(Cause::to_value).collect();
            out.insert("causes".to_owned(), Value::Array(causes));
        }
        if self.retry_after_seconds > 0 {
            out.insert(
                "retryAfterSeconds".to_owned(),
                json!(self.retry_after_seconds),
            );
        }
        Value::Object(out)
    }
}

impl Cause {
    fn to_value(&self) -> Value {
        let mut out = Map::new();
        let texts = [
            ("reason", self.reason),
            ("message", &self.message),
            ("field", &self.field),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                out.insert(key.to_owned(), json!(text));
            }
        }
        Value::Object(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sentences_are_said_once_but_counted_twice() {
        let cause = Cause::forbidden("metadata.finalizers", "no");
        let error = ApiError::invalid("g", "K", "a", vec![cause.clone(), cause]);
        assert_eq!(
            error.message,
            "K.g \"a\" is invalid: metadata.finalizers: Forbidden: no"
        );
        assert_eq!(error.details.map(|details| details.causes.len()), Some(2));
    }

    #[test]
    fn status_leaves_out_what_is_empty() {
        let status = ApiError::not_found("", "pods", "x").to_status();
        assert_eq!(
            status,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "pods \"x\" not found", "reason": "NotFound",
                "details": {"name": "x", "kind": "pods"}, "code": 404})
        );
    }
}
