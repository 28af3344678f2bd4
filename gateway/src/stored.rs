//! `/v1/files` and `/v1/batches`: what the holders of keys do with the files and batches that the gateway keeps.

mod batches;
mod files;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as HttpBody;
use protocol::openai::ErrorKind;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    objects::{Objects, PAGE_MAX, Page},
    paths::Stored,
};

/// Bytes of a body of JSON.
const JSON_BYTES_MAX: usize = 1 << 20;
/// How long it may take to arrive.
const JSON_TIMEOUT: Duration = Duration::from_secs(30);

/// The method, the URL and the headers of a request.
type Head<'a> = (&'a Method, &'a Uri, &'a HeaderMap);

/// Whose objects a request is about.
struct Desk<'a> {
    objects: &'a Arc<Objects>,
    key: String,
    query: Vec<(String, String)>,
}

/// A list, as OpenAI's clients read it.
#[derive(Debug, Serialize)]
struct List<T> {
    object: &'static str,
    data: Vec<T>,
    first_id: String,
    last_id: String,
    has_more: bool,
}

/// Answers one request.
///
/// # Errors
/// What the caller is told in place of an answer.
pub(crate) async fn handle<B>(
    gateway: &Arc<Gateway>,
    (method, uri, headers): Head<'_>,
    stored: Stored<'_>,
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let query = uri.query().unwrap_or_default().as_bytes();
    let desk = Desk {
        objects: &gateway.objects,
        key: gateway.account(headers)?,
        query: url::form_urlencoded::parse(query).into_owned().collect(),
    };
    match (stored, method.as_str()) {
        (Stored::Files, "POST") => {
            files::upload(&desk, gateway.form_bytes_max(), headers, body).await
        }
        (Stored::Files, _) => files::list(&desk).await,
        (Stored::File(id), "DELETE") => files::delete(&desk, id).await,
        (Stored::File(id), _) => files::get(&desk, id).await,
        (Stored::Content(id), _) => files::content(&desk, id).await,
        (Stored::Batches, "POST") => batches::create(&desk, read_json(body).await?).await,
        (Stored::Batches, _) => batches::list(&desk).await,
        (Stored::Batch(id), _) => batches::get(&desk, id).await,
        (Stored::Cancel(id), _) => batches::cancel(&desk, id).await,
    }
}

impl Desk<'_> {
    /// A parameter of the query, if it is given and not empty.
    fn parameter(&self, name: &str) -> Option<&str> {
        let mut query = self.query.iter();
        let found = query.find(|(known, _)| known == name);
        found
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    /// The part of a list that is asked for.
    fn page(&self, default: usize) -> Result<Page, Fault> {
        let limit = match self.parameter("limit") {
            None => default,
            Some(text) => {
                let limit = text.parse().ok().filter(|limit| 0 < *limit);
                let limit: usize = limit.ok_or_else(|| {
                    let message = "The parameter `limit` must be a number over 0.";
                    Fault::of(ErrorKind::InvalidRequest, "limit", message)
                })?;
                limit.min(PAGE_MAX)
            }
        };
        Ok(Page {
            after: self.parameter("after").map(str::to_owned),
            limit,
            is_ascending: self.parameter("order") == Some("asc"),
        })
    }
}

/// A part of a list, with the ids at its ends.
fn page<T: Serialize>(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Response<Body> {
    let end = |entry: Option<&T>| entry.map_or(String::new(), |entry| id(entry).to_owned());
    let list = List {
        object: "list",
        first_id: end(data.first()),
        last_id: end(data.last()),
        data,
        has_more,
    };
    encode::json(StatusCode::OK, &list)
}

async fn read_json<B, T>(body: B) -> Result<T, Fault>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    T: DeserializeOwned,
{
    let invalid = |message: String| Fault::new(ErrorKind::InvalidRequest, message);
    let reading = Limited::new(body, JSON_BYTES_MAX).collect();
    let read = tokio::time::timeout(JSON_TIMEOUT, reading).await;
    let body = read.ok().and_then(Result::ok).ok_or_else(|| {
        invalid(format!(
            "The request's body is larger than {JSON_BYTES_MAX} bytes, too slow or cut off."
        ))
    })?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|error| invalid(format!("The request's body is not valid: {error}.")))
}
