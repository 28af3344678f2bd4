//! Who asks: a bearer key, checked by its hash.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use protocol::openai::ErrorKind;

use super::{App, error::ApiError};
use crate::store::Account;

/// The account of the request's key.
#[derive(Debug, Clone)]
pub(super) struct Caller(pub(super) Account);

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        // Without a snapshot no key is known; to say so would make clients throw good keys away.
        if !app.services.catalog.is_loaded() {
            return Err(ApiError::new(
                ErrorKind::Unavailable,
                "the runtime is starting; retry later",
            ));
        }
        let refused = |message: &str| ApiError::new(ErrorKind::InvalidApiKey, message);
        let key = parts
            .headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, key)| key.trim())
            .ok_or_else(|| refused("send a key as `Authorization: Bearer KEY`"))?;
        app.services
            .catalog
            .account(key)
            .map(Caller)
            .ok_or_else(|| refused("this key is not known, or its time is over"))
    }
}
