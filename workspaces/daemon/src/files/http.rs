//! The files of a home over HTTP.

use std::io::{Seek, SeekFrom};
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use http::header::{
    ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH,
    RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use protocol::workspace::FileList;
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio_util::io::ReaderStream;

use super::{Home, HomePath, Precondition, Upload, tag};
use crate::fault::Refusal;

#[derive(Debug, Deserialize)]
struct Place {
    path: String,
}

/// The routes below `/v1/files`.
pub(crate) fn router(home: Arc<Home>) -> Router {
    Router::new()
        .route("/v1/files", get(read).put(write).delete(delete))
        .route("/v1/files/list", get(list))
        .with_state(home)
}

async fn read(
    State(home): State<Arc<Home>>,
    Query(place): Query<Place>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let path = home.parse(&place.path)?;
    let (mut file, tag, size) = blocking(move || {
        let file = home.read(&path)?;
        let tag = tag(&file).map_err(Refusal::io(&path.shown))?;
        let size = file.metadata().map_err(Refusal::io(&path.shown))?.len();
        Ok((file, tag, size))
    })
    .await?;
    let part = range(header(&headers, &RANGE), size)?;
    let (status, first, length) = match part {
        Some((first, last)) => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        None => (StatusCode::OK, 0, size),
    };
    file.seek(SeekFrom::Start(first))
        .map_err(Refusal::io(&place.path))?;
    let stream = ReaderStream::new(tokio::fs::File::from_std(file).take(length));
    let mut response = Response::builder()
        .status(status)
        .header(ETAG, tag)
        .header(ACCEPT_RANGES, "bytes")
        .header(CONTENT_TYPE, "application/octet-stream")
        .header(CONTENT_LENGTH, length);
    if part.is_some() {
        response = response.header(
            CONTENT_RANGE,
            format!("bytes {first}-{}/{size}", first + length - 1),
        );
    }
    response
        .body(Body::from_stream(stream))
        .map_err(|error| Refusal::Internal(error.to_string()))
}

async fn write(
    State(home): State<Arc<Home>>,
    Query(place): Query<Place>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let path = home.parse(&place.path)?;
    let condition = precondition(&headers)?;
    let mut upload = blocking({
        let (home, path) = (Arc::clone(&home), path.clone());
        move || home.begin(&path)
    })
    .await?;
    let mut chunks = body.into_data_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk =
            chunk.map_err(|error| Refusal::Invalid(format!("the body ended early: {error}")))?;
        upload = append(upload, chunk, path.clone()).await?;
    }
    let tag = blocking(move || home.finish(&path, upload, &condition)).await?;
    Ok((StatusCode::NO_CONTENT, [(ETAG, header_value(&tag)?)]).into_response())
}

async fn append(
    mut upload: Upload,
    chunk: bytes::Bytes,
    path: HomePath,
) -> Result<Upload, Refusal> {
    blocking(move || {
        upload.write(&chunk, &path)?;
        Ok(upload)
    })
    .await
}

async fn delete(
    State(home): State<Arc<Home>>,
    Query(place): Query<Place>,
) -> Result<StatusCode, Refusal> {
    let path = home.parse(&place.path)?;
    blocking(move || home.delete(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn list(
    State(home): State<Arc<Home>>,
    Query(place): Query<Place>,
) -> Result<Json<FileList>, Refusal> {
    let path = home.parse(&place.path)?;
    blocking(move || home.list(&path)).await.map(Json)
}

/// Runs file operations where they may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Refusal::Internal(format!("a file operation was lost: {error}")))?
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn header_value(text: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(text).map_err(|error| Refusal::Internal(error.to_string()))
}

fn precondition(headers: &HeaderMap) -> Result<Precondition, Refusal> {
    match (header(headers, &IF_MATCH), header(headers, &IF_NONE_MATCH)) {
        (None, None) => Ok(Precondition::Always),
        (Some("*"), None) => Ok(Precondition::Exists),
        (None, Some("*")) => Ok(Precondition::Absent),
        (Some(tags), None) => Ok(Precondition::Tag(
            tags.split(',').map(|tag| tag.trim().to_owned()).collect(),
        )),
        _ => Err(Refusal::Invalid(
            "only If-Match, or If-None-Match: *, is understood".to_owned(),
        )),
    }
}

/// The first and last byte that are asked for. What is no single range is answered as a whole, as HTTP allows.
fn range(value: Option<&str>, size: u64) -> Result<Option<(u64, u64)>, Refusal> {
    let Some((first, last)) = value
        .and_then(|value| value.strip_prefix("bytes="))
        .filter(|range| !range.contains(','))
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let end = size.checked_sub(1).ok_or(Refusal::Range)?;
    let number = |text: &str| {
        text.parse::<u64>()
            .map_err(|_| Refusal::Invalid("the range is not a number".to_owned()))
    };
    let (first, last) = match (first, last) {
        ("", last) => {
            let length = number(last)?;
            if length == 0 {
                return Err(Refusal::Range);
            }
            (size.saturating_sub(length), end)
        }
        (first, "") => (number(first)?, end),
        (first, last) => (number(first)?, number(last)?.min(end)),
    };
    if first > last || first > end {
        return Err(Refusal::Range);
    }
    Ok(Some((first, last)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    #[expect(
        clippy::needless_pass_by_value,
        reason = "rows read better without a borrow"
    )]
    fn check(value: &str, size: u64, expected: Result<Option<(u64, u64)>, Refusal>) {
        assert_eq!(range(Some(value), size), expected, "{value} of {size}");
    }

    #[test]
    fn ranges_are_read_as_http_says() {
        check("bytes=0-4", 10, Ok(Some((0, 4))));
        check("bytes=5-", 10, Ok(Some((5, 9))));
        check("bytes=-3", 10, Ok(Some((7, 9))));
        check("bytes=-30", 10, Ok(Some((0, 9))));
        check("bytes=9-99", 10, Ok(Some((9, 9))));
        check("bytes=10-", 10, Err(Refusal::Range));
        check("bytes=4-2", 10, Err(Refusal::Range));
        check("bytes=-0", 10, Err(Refusal::Range));
        check("bytes=0-", 0, Err(Refusal::Range));
        check("bytes=0-1,3-4", 10, Ok(None));
        check("lines=1-2", 10, Ok(None));
    }
}
