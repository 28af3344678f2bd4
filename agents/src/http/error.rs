//! Errors: the one place where they become HTTP, in OpenAI's shape.

use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use protocol::openai::ErrorKind;

use crate::{failure::chain, store::StoreError};

/// An answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    kind: ErrorKind,
    message: String,
    param: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            param: None,
        }
    }

    pub(super) fn invalid(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(ErrorKind::InvalidRequest, message)
        }
    }

    pub(super) fn no_run() -> Self {
        Self::new(
            ErrorKind::NotFound,
            "there is no such run, or this key did not start it",
        )
    }

    /// The error object, as a stream carries it.
    pub(super) fn to_json(&self) -> String {
        let body = match self.param {
            Some(param) => self.kind.body_for(&self.message, param),
            None => self.kind.body(&self.message),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound | StoreError::NotOwner => Self::no_run(),
            StoreError::Full => Self::new(
                ErrorKind::Unavailable,
                "the run log cannot be written, since the disk is full; nothing was done; retry later",
            ),
            StoreError::Database(_) | StoreError::Closed => {
                tracing::error!(error = %chain(&error), "the run log cannot be used");
                Self::new(
                    ErrorKind::Unavailable,
                    "the run log cannot be used now; retry later",
                )
            }
            StoreError::Corrupt { .. } => {
                tracing::error!(error = %chain(&error), "the run log has a row that cannot be read");
                Self::new(ErrorKind::Internal, "the run cannot be read")
            }
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status =
            StatusCode::from_u16(self.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = match self.param {
            Some(param) => self.kind.body_for(&self.message, param),
            None => self.kind.body(&self.message),
        };
        let mut response = (status, Json(body)).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                header::HeaderValue::from_static("Bearer"),
            );
        }
        if matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        }
        response
    }
}

pub(super) async fn not_found() -> ApiError {
    ApiError::new(ErrorKind::NotFound, "there is nothing at this path")
}

pub(super) async fn method_not_allowed() -> ApiError {
    ApiError::new(
        ErrorKind::MethodNotAllowed,
        "this path does not know this method",
    )
}
