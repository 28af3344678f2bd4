//! What requests carry: JSON bodies and idempotency keys, with faults in OpenAI's shape.

use axum::{
    extract::{FromRequest, Request, rejection::BytesRejection},
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
};
use bytes::Bytes;
use protocol::openai::ErrorKind;
use serde::de::DeserializeOwned;

use super::{BODY_BYTES_MAX, error::ApiError};

/// Longest idempotency key.
const KEY_BYTES_MAX: usize = 255;

/// A JSON body, whatever its content type says.
#[derive(Debug)]
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(unreadable)?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            ApiError::new(
                ErrorKind::InvalidRequest,
                format!("the body is not what this path takes: {error}"),
            )
        })
    }
}

fn unreadable(rejection: BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        let message = format!("the body is larger than {BODY_BYTES_MAX} bytes");
        return ApiError::new(ErrorKind::RequestTooLarge, message);
    }
    let status = rejection.into_response().status();
    ApiError::new(
        ErrorKind::InvalidRequest,
        format!("the body cannot be read ({status})"),
    )
}

/// The request's `Idempotency-Key`.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    let invalid = || {
        ApiError::new(
            ErrorKind::InvalidRequest,
            format!("an Idempotency-Key has 1 to {KEY_BYTES_MAX} printable ASCII characters"),
        )
    };
    let text = value.to_str().map_err(|_| invalid())?;
    if (1..=KEY_BYTES_MAX).contains(&text.len()) {
        Ok(Some(text.to_owned()))
    } else {
        Err(invalid())
    }
}
