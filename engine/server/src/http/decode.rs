//! From a body to a request: JSON that names the parameter at fault when it does not fit.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::{StatusCode, header};
use protocol::openai::ErrorKind;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::fault::Fault;
use super::surface::{PERMIT_BYTES, Surface};
use super::{BODY_BYTES_MAX, offload};

/// The longest that a client may take to send its body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// Bodies over this are decoded off the threads that serve all requests.
const SMALL_BODY_BYTES: usize = 32 << 10;

/// A body that is a JSON object, and the memory that it may take until its request is answered or streams.
#[derive(Debug)]
pub(super) struct Object(
    pub(super) Map<String, Value>,
    pub(super) OwnedSemaphorePermit,
);

impl FromRequest<Surface> for Object {
    type Rejection = Fault;

    async fn from_request(request: Request, surface: &Surface) -> Result<Self, Fault> {
        let permit = reserve(&request, surface)?;
        let read = timeout(BODY_TIMEOUT, Bytes::from_request(request, surface)).await;
        let body = read.map_err(|_| {
            Fault::new(
                ErrorKind::InvalidRequest,
                "The request body did not arrive in time.",
            )
        })?;
        let body = body.map_err(|rejection| unreadable(&rejection))?;
        let object = if body.len() <= SMALL_BODY_BYTES {
            object(&body)
        } else {
            offload(&surface.state, move || object(&body)).await?
        };
        Ok(Self(object?, permit))
    }
}

/// Takes memory for a body before it is read, so that many large ones at once are refused instead of held.
fn reserve(request: &Request, surface: &Surface) -> Result<OwnedSemaphorePermit, Fault> {
    let length = request.headers().get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let bytes = length.unwrap_or(BODY_BYTES_MAX);
    if BODY_BYTES_MAX < bytes {
        return Err(too_large());
    }
    // The bytes, and the values that they are decoded to.
    let permits = u32::try_from((2 * bytes).div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
    let bodies = std::sync::Arc::clone(&surface.bodies);
    bodies.try_acquire_many_owned(permits).map_err(|_| {
        Fault::busy("The engine reads too many large requests already. Try again later.")
    })
}

fn too_large() -> Fault {
    Fault::new(
        ErrorKind::RequestTooLarge,
        format!("The request body is over {BODY_BYTES_MAX} bytes."),
    )
}

fn unreadable(rejection: &BytesRejection) -> Fault {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(),
        _ => Fault::new(
            ErrorKind::InvalidRequest,
            "The request body could not be read.",
        ),
    }
}

/// Reads a body as a JSON object. How deep it may be is limited by the JSON reader.
fn object(body: &[u8]) -> Result<Map<String, Value>, Fault> {
    serde_json::from_slice(body).map_err(|error| {
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
