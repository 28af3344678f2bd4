//! From a body to a request: JSON that names the parameter at fault when it does not fit.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use protocol::openai::ErrorKind;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::fault::Fault;

/// Reads a body as a JSON object.
pub(super) fn object(body: Result<Bytes, BytesRejection>) -> Result<Map<String, Value>, Fault> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Fault::new(ErrorKind::RequestTooLarge, "The request body is too large.")
        }
        _ => Fault::new(
            ErrorKind::InvalidRequest,
            "The request body could not be read.",
        ),
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Fault::new(
            ErrorKind::InvalidRequest,
            format!("The request body is not a JSON object: {error}."),
        )
    })
}

/// Reads an object as a request. `required` has the parameters that must be there, each with a value that is valid.
pub(super) fn request<T: DeserializeOwned>(
    object: Map<String, Value>,
    required: &[(&str, Value)],
) -> Result<T, Fault> {
    for (name, _) in required {
        if object.get(*name).is_none_or(Value::is_null) {
            return Err(Fault::parameter(
                name,
                format!("Missing required parameter: `{name}`."),
            ));
        }
    }
    let read = serde_json::from_value(Value::Object(object.clone()));
    read.map_err(|error| blame::<T>(object, required, &error))
}

/// Finds the parameter that makes a request invalid by trying each beside valid ones.
fn blame<T: DeserializeOwned>(
    object: Map<String, Value>,
    required: &[(&str, Value)],
    error: &serde_json::Error,
) -> Fault {
    let valid: Map<String, Value> = required
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    for (name, value) in object {
        let mut candidate = valid.clone();
        candidate.insert(name.clone(), value);
        if let Err(error) = serde_json::from_value::<T>(Value::Object(candidate)) {
            return Fault::parameter(&name, format!("Invalid value for `{name}`: {error}."));
        }
    }
    Fault::new(
        ErrorKind::InvalidRequest,
        format!("The request is invalid: {error}."),
    )
}
