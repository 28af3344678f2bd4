//! Create, update, patch and delete: decode, complete, admit, check, then one compare-and-swap.

mod admission;
mod complete;
mod create;
mod decode;
mod delete;
mod metadata;
mod options;
mod patching;
mod update;

use std::sync::Arc;

use http::{Response, StatusCode};
use serde_json::Value;

pub(crate) use create::{create, refuse_create_by_name};
pub(crate) use decode::{body_value, decode};
pub(crate) use delete::{DeleteOptions, delete, delete_collection, delete_object};
pub(crate) use options::{FieldValidation, WriteOptions};
pub(crate) use update::{Change, patch, update, update_object};

use crate::api::call::Call;
use crate::negotiate::{Format, Shape, negotiate};
use crate::present;
use crate::response::{Body, json_bytes, object};
use crate::status::ApiError;
use crate::store::{Entry, StoreError};

/// What a write leaves, as the client gets it.
pub(crate) enum Written {
    /// It is stored.
    Stored(Arc<Entry>),
    /// It would have been stored; the object as it would be.
    DryRun(Value),
}

impl Written {
    pub(crate) fn value(&self, call: &Call) -> Value {
        match self {
            Self::Stored(entry) => present::value(&call.resource, entry),
            Self::DryRun(object) => object.clone(),
        }
    }
}

/// Answers with what was written.
pub(crate) fn respond(
    call: &Call,
    status: StatusCode,
    written: &Written,
) -> Result<Response<Body>, ApiError> {
    let (shape, format) = negotiate(call.headers())?;
    if let (Written::Stored(entry), Shape::Whole, Format::Json) = (written, shape, format) {
        return Ok(json_bytes(status, present::bytes(&call.resource, entry)));
    }
    let value = written.value(call);
    Ok(object(status, &present::shaped(call, value, shape), format))
}

/// A failure of the store in the API's words.
pub(crate) fn refused(call: &Call, name: &str, error: &StoreError) -> ApiError {
    let (group, plural) = (&call.resource.group, &call.resource.plural);
    match error {
        StoreError::Exists => ApiError::already_exists(group, plural, name),
        StoreError::Missing => ApiError::not_found(group, plural, name),
        StoreError::Stale => ApiError::modified(group, plural, name),
        StoreError::DiskFull => {
            let mut error = ApiError::internal("the disk is full: nothing was changed");
            error.code = 507;
            error.reason = "InsufficientStorage";
            error
        }
        StoreError::Disk(_) => ApiError::internal(error.to_string()),
        StoreError::Closed => ApiError::unavailable("the server is shutting down"),
    }
}
