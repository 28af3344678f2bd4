//! Decode: reads a request's body up to the limit and finds the few fields that the gateway acts on.

#[cfg(any(test, fuzzing))]
pub(crate) mod claims;
mod fallbacks;
mod fields;
mod members;
pub(crate) mod multipart;
mod splice;
mod upload;

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Body;
use protocol::openai::ErrorKind;

pub(crate) use self::{
    fallbacks::of_headers,
    fields::{Fields, StreamOptions},
    splice::{Edit, splice},
    upload::{Spill, Upload, UploadBody, is_form, read as read_form},
};
use crate::{call::Operation, fault::Fault, provider::Tokens};

/// Members of a JSON object: their names, and where their values lie in it.
///
/// # Errors
/// The body is not a JSON object.
pub(crate) fn members(body: &[u8]) -> Result<Vec<(String, Range<usize>)>, Fault> {
    fields::members(body)
}

/// How long a body may take to arrive: a slow client must not hold a place for ever.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A request as it came, and what was found in it.
#[derive(Debug, Clone)]
pub(crate) struct Decoded {
    /// The body, byte for byte.
    pub(crate) body: Bytes,
    /// The fields that the gateway acts on.
    pub(crate) fields: Fields,
    /// What is asked for.
    pub(crate) operation: Operation,
    /// The request in the client's own API, where the body is a translation of it.
    pub(crate) original: Option<Bytes>,
    /// Models that the body wants to be asked when the first one gives no answer.
    pub(crate) fallbacks: Vec<String>,
}

/// Bytes of a body for each token that its prompt is guessed to have.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that an answer is guessed to have at most, where the request does not say.
const OUTPUT_GUESSED: u64 = 1024;

impl Decoded {
    /// A request whose body is elsewhere, or that has none.
    pub(crate) fn without_body(operation: Operation, model: String) -> Self {
        Self {
            body: Bytes::new(),
            fields: Fields {
                model,
                model_range: 0..0,
                stream: false,
                stream_options: None,
                output_max: None,
                user: None,
                tags: Vec::new(),
                fallbacks: None,
                first_field: 0,
            },
            operation,
            original: None,
            fallbacks: Vec::new(),
        }
    }

    /// A request with this body.
    #[cfg(test)]
    pub(crate) fn of(operation: Operation, body: &'static str) -> Self {
        let body = Bytes::from_static(body.as_bytes());
        let fields = fields::find(&body).unwrap();
        Self {
            body,
            fields,
            operation,
            original: None,
            fallbacks: Vec::new(),
        }
    }

    /// The same request with another body.
    ///
    /// # Errors
    /// The body is not what the API asks for.
    pub(crate) fn with_body(&self, body: Bytes) -> Result<Self, Fault> {
        let fields = fields::find(&body)?;
        let stream = fields.stream && self.operation.can_stream();
        Ok(Self {
            body,
            fields: Fields { stream, ..fields },
            operation: self.operation,
            original: None,
            fallbacks: self.fallbacks.clone(),
        })
    }

    /// The tokens that the request may need, before anybody has counted them.
    pub(crate) fn guess(&self) -> Tokens {
        let bytes = u64::try_from(self.body.len()).unwrap_or(u64::MAX);
        Tokens {
            prompt: bytes.div_ceil(BYTES_PER_TOKEN),
            completion: match self.operation.has_output() {
                true => self.fields.output_max.unwrap_or(OUTPUT_GUESSED),
                false => 0,
            },
            cached: None,
        }
    }
}

/// What a request's path says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked<'a> {
    /// What is asked for.
    pub(crate) operation: Operation,
    /// The model, where the path names it; it goes before the body's.
    pub(crate) model: Option<&'a str>,
    /// The request in the client's own API, where the body is a translation of it.
    pub(crate) original: Option<&'a Bytes>,
}

impl From<Operation> for Asked<'_> {
    fn from(operation: Operation) -> Self {
        Self {
            operation,
            model: None,
            original: None,
        }
    }
}

/// Reads the body and finds the fields.
///
/// # Errors
/// The body is too large, is cut off, or is not what the API asks for.
pub(crate) async fn decode<'a, B>(
    asked: impl Into<Asked<'a>>,
    body: B,
    body_bytes_max: usize,
) -> Result<Decoded, Fault>
where
    B: Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let body = read_body(body, body_bytes_max).await?;
    let Asked {
        operation,
        model,
        original,
    } = asked.into();
    let body = match (model, operation.default_model()) {
        (None, None) => body,
        (model, default) => fields::name_model(&body, model, default)?,
    };
    let mut fields = fields::find(&body)?;
    let mut body = body;
    let mut models = Vec::new();
    if let Some(value) = fields.fallbacks.clone()
        && let Some((taken, rest)) = fallbacks::take(&body, value)
    {
        fields = fields::find(&rest)?;
        (models, body) = (taken, rest);
    }
    if fields.stream && !operation.can_stream() {
        fields.stream = false;
    }
    Ok(Decoded {
        body,
        fields,
        operation,
        original: original.cloned(),
        fallbacks: models,
    })
}

/// Reads a body up to the limit.
///
/// # Errors
/// The body is too large, or is cut off.
pub(crate) async fn read_body<B>(body: B, body_bytes_max: usize) -> Result<Bytes, Fault>
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
    let reading = Limited::new(body, body_bytes_max).collect();
    let collected = tokio::time::timeout(BODY_TIMEOUT, reading)
        .await
        .map_err(|_| {
            let message = format!("The request's body did not arrive within {BODY_TIMEOUT:?}.");
            Fault::new(ErrorKind::InvalidRequest, message)
        })?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large()
            } else {
                Fault::new(ErrorKind::InvalidRequest, "The request's body ended early.")
            }
        })?;
    Ok(collected.to_bytes())
}
