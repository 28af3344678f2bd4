//! Completing and checking an object: unknown fields, defaults, schema, and what its kind demands.

use std::sync::Arc;

use serde_json::Value;

use super::{FieldValidation, WriteOptions, metadata};
use crate::api::call::Call;
use crate::machinery::builtin::decode_fault;
use crate::machinery::schema::Context;
use crate::registry::Resource;
use crate::status::{ApiError, Cause};
use crate::{events, strategy};

/// Drops what the schema does not know, reports it as asked, and fills defaults.
pub(super) fn complete(
    call: &mut Call,
    object: &mut Value,
    faults: Vec<String>,
    options: &WriteOptions,
) -> Result<(), ApiError> {
    let resource = Arc::clone(&call.resource);
    let faults = prune(&resource, object, faults);
    match options.field_validation {
        FieldValidation::Strict if !faults.is_empty() => {
            return Err(ApiError::bad_request(format!(
                "{kind} in version \"{}\" cannot be handled as a {kind}: strict decoding error: {}",
                resource.version,
                faults.join(", "),
                kind = resource.kind,
            )));
        }
        FieldValidation::Warn => call.warnings.extend(faults),
        FieldValidation::Ignore | FieldValidation::Strict => {}
    }
    check_types(&resource, object)?;
    default(&resource, object);
    Ok(())
}

/// Drops what the schema does not know, and says what that was.
pub(super) fn prune(
    resource: &Resource,
    object: &mut Value,
    mut faults: Vec<String>,
) -> Vec<String> {
    if let Some(schema) = resource.schema() {
        let mut unknown = schema.prune(object);
        unknown.append(&mut faults);
        return unknown;
    }
    faults
}

/// Fills defaults.
pub(crate) fn default(resource: &Resource, object: &mut Value) {
    if events::is_event(resource) {
        events::to_stored(resource, object);
    }
    if let Some(schema) = resource.schema() {
        if resource.custom().is_some() {
            schema.apply_defaults(object);
        } else {
            schema.drop_nulls(object);
        }
    }
    strategy::default(resource, object);
    object["apiVersion"] = Value::String(if events::is_event(resource) {
        "v1".to_owned()
    } else {
        resource.api_version()
    });
}

/// A built-in object of the wrong shape cannot even be decoded.
pub(super) fn check_types(resource: &Resource, object: &Value) -> Result<(), ApiError> {
    if resource.custom().is_some() {
        return Ok(());
    }
    let Some(schema) = resource.schema() else {
        return Ok(());
    };
    let Some(fault) = decode_fault(&resource.kind, schema, object) else {
        return Ok(());
    };
    Err(ApiError::bad_request(format!(
        "{kind} in version \"{}\" cannot be handled as a {kind}: {fault}",
        resource.version,
        kind = resource.kind,
    )))
}

/// All faults of a complete object as one error.
pub(super) fn check(
    call: &Call,
    object: &Value,
    old: Option<&Value>,
    before: Vec<Cause>,
) -> Result<(), ApiError> {
    let resource = &call.resource;
    let mut causes = before;
    match old {
        None => causes.extend(metadata::check(object)),
        Some(old) => causes.extend(metadata::check_update(old, object)),
    }
    // What a subresource writes has rules of its own.
    let is_main = matches!(call.target.subresource.as_deref(), None | Some("scale"));
    if let Some(schema) = resource.schema() {
        if resource.custom().is_some() {
            let context = Context {
                before: causes,
                scale: resource.scale.as_ref(),
            };
            causes = schema.validate(object, old, context);
        } else if !events::is_event(resource) {
            let faults = schema.validate(object, old, Context::default());
            let kept = ["FieldValueNotSupported"];
            causes.extend(
                faults
                    .into_iter()
                    .filter(|fault| kept.contains(&fault.reason)),
            );
        }
    }
    if is_main {
        let mut found = strategy::check_new(resource, object);
        if let Some(old) = old {
            // What was accepted once is not complained about again.
            let known = strategy::check_new(resource, old);
            found.retain(|cause| !known.contains(cause));
            found.extend(strategy::check_immutable(resource, old, object));
        }
        causes.extend(found);
    }
    if causes.is_empty() {
        return Ok(());
    }
    let kind = object["kind"].as_str().unwrap_or(&resource.kind);
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(ApiError::invalid(&resource.group, kind, name, causes))
}
