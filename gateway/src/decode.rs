//! Decode: reads a request's body up to the limit and finds the few fields that the gateway acts on.

mod fields;
mod splice;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use protocol::openai::ErrorKind;

pub(crate) use self::{
    fields::{Fields, StreamOptions},
    splice::{Edit, splice},
};
use crate::{call::Operation, fault::Fault};

/// A request as it came, and what was found in it.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    /// The body, byte for byte.
    pub(crate) body: Bytes,
    /// The fields that the gateway acts on.
    pub(crate) fields: Fields,
}

/// Reads the body and finds the fields.
///
/// # Errors
/// The body is too large, is cut off, or is not what the API asks for.
pub(crate) async fn decode<B>(
    operation: Operation,
    body: B,
    body_bytes_max: usize,
) -> Result<Decoded, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let too_large = || {
        Fault::new(
            ErrorKind::RequestTooLarge,
            format!("The request's body is larger than {body_bytes_max} bytes."),
        )
    };
    // A length that is declared is refused before anything is read.
    if u64::try_from(body_bytes_max).unwrap_or(u64::MAX) < body.size_hint().lower() {
        return Err(too_large());
    }
    let collected = Limited::new(body, body_bytes_max)
        .collect()
        .await
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large()
            } else {
                Fault::new(ErrorKind::InvalidRequest, "The request's body ended early.")
            }
        })?;
    let body = collected.to_bytes();
    let mut fields = fields::find(&body)?;
    if fields.stream && !operation.can_stream() {
        fields.stream = false;
    }
    Ok(Decoded { body, fields })
}
