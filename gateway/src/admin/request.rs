//! One request of the admin API, read to its end.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as HttpBody;
use protocol::openai::ErrorKind;
use serde_json::{Map, Value};

use crate::{fault::Fault, paths::decode_percent};

/// Bytes of a body.
const BODY_BYTES_MAX: usize = 1 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Characters of whom a change is noted for.
const ACTOR_CHARACTERS_MAX: usize = 128;
/// Entries of a page, if nobody says how many.
const PAGE: usize = 100;
/// Entries of a page at most.
const PAGE_MAX: usize = 1000;
/// Who changes something, where several people share the admin key.
const ACTOR: HeaderName = HeaderName::from_static("x-quarterdeck-actor");
/// The header of LiteLLM's for the same.
const CHANGED_BY: HeaderName = HeaderName::from_static("litellm-changed-by");

/// The method, the URL and the headers of a request.
pub(crate) type Head<'a> = (&'a Method, &'a Uri, &'a HeaderMap);

/// One request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    query: Vec<(String, String)>,
    body: Bytes,
    /// Whom changes are noted for.
    pub(super) actor: String,
}

impl Request {
    /// Reads a request to its end.
    ///
    /// # Errors
    /// The body is too large, too slow or cut off.
    pub(super) async fn read<B>((method, uri, headers): Head<'_>, body: B) -> Result<Self, Fault>
    where
        B: HttpBody<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let reading = Limited::new(body, BODY_BYTES_MAX).collect();
        let read = tokio::time::timeout(BODY_TIMEOUT, reading).await;
        let body = read.ok().and_then(Result::ok).ok_or_else(|| {
            invalid(format!(
                "The request's body is larger than {BODY_BYTES_MAX} bytes, too slow or cut off."
            ))
        })?;
        let query = uri.query().unwrap_or_default().as_bytes();
        let actor = [ACTOR, CHANGED_BY]
            .into_iter()
            .find_map(|name| headers.get(name)?.to_str().ok());
        let actor = actor.unwrap_or("admin").chars();
        Ok(Self {
            query: url::form_urlencoded::parse(query).into_owned().collect(),
            body: body.to_bytes(),
            actor: actor.take(ACTOR_CHARACTERS_MAX).collect(),
            path: uri.path().to_owned(),
            method: method.clone(),
        })
    }

    /// A parameter of the query, if it is given and not empty.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        let mut query = self.query.iter();
        let found = query.find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The body, as a JSON object; an empty one if there is none.
    ///
    /// # Errors
    /// It is something else.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Fault> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| invalid(format!("The request's body is no JSON object: {error}.")))
    }

    /// How many entries a page may have.
    ///
    /// # Errors
    /// The parameter is no number within bounds.
    pub(super) fn page(&self, parameter: &str) -> Result<usize, Fault> {
        let Some(text) = self.parameter(parameter) else {
            return Ok(PAGE);
        };
        let count = text
            .parse()
            .ok()
            .filter(|count| (1..=PAGE_MAX).contains(count));
        count.ok_or_else(|| invalid(format!("`{parameter}` is a number from 1 to {PAGE_MAX}.")))
    }
}

/// A fault of the caller's.
pub(super) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(ErrorKind::InvalidRequest, message)
}

/// A path's segments, without their percent signs.
///
/// # Errors
/// An escape is broken, or the bytes are no text.
pub(super) fn segments(path: &str) -> Result<Vec<String>, Fault> {
    let segments = path.trim_end_matches('/').split('/');
    segments
        .map(|segment| {
            let decoded = decode_percent(segment).map(Cow::into_owned);
            decoded.ok_or_else(|| invalid("The path is not valid: an escape is broken."))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::segments;

    #[track_caller]
    fn check(path: &str, expected: Option<&[&str]>) {
        let found = segments(path).ok();
        let found: Option<Vec<&str>> = found
            .as_ref()
            .map(|found| found.iter().map(String::as_str).collect());
        assert_eq!(found.as_deref(), expected, "{path}");
    }

    #[test]
    fn a_path_is_cut_at_slashes_and_decoded_after_that() {
        check("keys/a%2Fb", Some(&["keys", "a/b"]));
        check("users/a+b%40c.d/", Some(&["users", "a+b@c.d"]));
        check("users/%C3%A4", Some(&["users", "ä"]));
        check("users/%FF", None);
        check("users/%zz", None);
        check("users/5%", None);
    }
}
