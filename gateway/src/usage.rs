//! `GET /v1/usage`: what the caller's own key used, by model.

use http::{Response, StatusCode};
use protocol::openai::ErrorKind;
use serde::Serialize;

use crate::{
    authorize::Caller,
    encode::{self, Body},
    fault::Fault,
    ledger::{Ledger, Total},
};

/// The totals of one key.
#[derive(Debug, Serialize)]
struct UsageList {
    object: &'static str,
    key: String,
    data: Vec<Total>,
}

/// The totals of the caller's key.
///
/// # Errors
/// The caller has no valid key, or the ledger cannot be read.
pub(crate) async fn usage(ledger: &Ledger, caller: &Caller) -> Result<Response<Body>, Fault> {
    let key = match caller {
        Caller::Key(key) => key,
        Caller::Nobody(why) => return Err(why.fault()),
    };
    let data = ledger.totals(&key.id).await.map_err(|error| {
        tracing::error!(%error, "the usage of a key cannot be read");
        Fault::new(
            ErrorKind::Unavailable,
            "The usage cannot be read now. Try again later.",
        )
    })?;
    Ok(encode::json(
        StatusCode::OK,
        &UsageList {
            object: "list",
            key: key.id.clone(),
            data,
        },
    ))
}
