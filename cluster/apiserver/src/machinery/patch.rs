//! Patches by the client: JSON Patch, merge patch and strategic merge patch.

mod strategic;

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::status::ApiError;

pub use self::strategic::strategic_merge_patch;

/// Most operations that one JSON patch may have.
const OPERATIONS_MAX: usize = 10_000;

/// Applies a JSON patch.
///
/// # Errors
/// 400 when it is none; 413 when it is too long; 422 when a test fails or a path is missing.
pub fn json_patch(object: &Value, patch: &Value) -> Result<Value, ApiError> {
    let Patch(operations) = serde_json::from_value(patch.clone())
        .map_err(|error| ApiError::bad_request(format!("error decoding patch: {error}")))?;
    if operations.len() > OPERATIONS_MAX {
        let count = operations.len();
        let message = format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        );
        return Err(ApiError::too_large(message));
    }
    let mut out = object.clone();
    for operation in operations {
        if is_test_for_absence(&operation, &out) {
            continue;
        }
        json_patch::patch(&mut out, &[operation]).map_err(|_| ApiError::unprocessable_patch())?;
    }
    Ok(out)
}

/// A missing field passes for `null` in a test.
fn is_test_for_absence(operation: &PatchOperation, object: &Value) -> bool {
    match operation {
        PatchOperation::Test(test) => {
            test.value.is_null() && object.pointer(test.path.as_str()).is_none()
        }
        PatchOperation::Add(_)
        | PatchOperation::Remove(_)
        | PatchOperation::Replace(_)
        | PatchOperation::Move(_)
        | PatchOperation::Copy(_) => false,
    }
}

/// Applies a merge patch (RFC 7386).
pub fn merge_patch(object: &Value, patch: &Value) -> Value {
    let mut out = object.clone();
    json_patch::merge(&mut out, patch);
    out
}

#[cfg(test)]
mod tests;
