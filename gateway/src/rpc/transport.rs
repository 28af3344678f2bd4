//! One HTTP exchange with a tool server: a message out, an answer or a stream of messages back, all of it bounded.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use protocol::sse::Parser;

use super::{
    failure::Failure,
    message::{Message, Response},
};
use crate::upstream::{Upstream, with_causes};

/// Bytes of one message of a server.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Bytes of a refusal that are looked at.
const REFUSAL_BYTES_MAX: usize = 64 << 10;
/// Events that one read may bring before they are shown.
const EVENTS_MAX: usize = 65_536;

/// The header with a session's id.
pub(crate) const SESSION_ID: HeaderName = HeaderName::from_static("mcp-session-id");
/// The header with the revision of the protocol.
pub(crate) const PROTOCOL_VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The header that repeats the method.
pub(crate) const METHOD: HeaderName = HeaderName::from_static("mcp-method");
/// The header that repeats the name of a tool or a prompt, or the URI of a resource.
pub(crate) const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// What the names of headers begin with that repeat arguments of a tool.
pub(crate) const PARAM_PREFIX: &str = "mcp-param-";

const JSON: &str = "application/json";
/// What a client of the protocol accepts.
pub(crate) const ACCEPTED: HeaderValue =
    HeaderValue::from_static("application/json, text/event-stream");

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Nothing to read.
    Empty,
    /// The text of one message, or of a refusal in the protocol's form.
    Whole(String),
    /// Messages as they come.
    Events(Box<Events>),
}

/// An answer with its headers.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The answer.
    pub(crate) answer: Answer,
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
}

/// Messages of a server as they come.
#[derive(Debug)]
pub(crate) struct Events {
    body: Incoming,
    parser: Parser,
    ready: VecDeque<String>,
    silence_max: Duration,
    heard: Instant,
}

/// The head of a request to a server.
pub(crate) fn headers(version: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, ACCEPTED);
    if let Ok(version) = HeaderValue::from_str(version) {
        headers.insert(PROTOCOL_VERSION, version);
    }
    headers
}

/// Sends one request and reads the head of the answer, and all of an answer that is no stream.
///
/// # Errors
/// [`Failure`]; a status without a message in the protocol's form among them.
pub(crate) async fn exchange(
    client: &Upstream,
    uri: &Uri,
    method: Method,
    mut headers: HeaderMap,
    body: Option<String>,
    silence_max: Duration,
) -> Result<Answered, Failure> {
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    }
    let mut request = Request::new(Full::new(Bytes::from(body.unwrap_or_default())));
    *request.method_mut() = method;
    *request.uri_mut() = uri.clone();
    *request.headers_mut() = headers;
    let response = tokio::time::timeout(silence_max, client.request(request))
        .await
        .map_err(|_| Failure::Timeout(silence_max))?
        .map_err(|error| Failure::Broken(with_causes(&error)))?;
    let is_success = response.status().is_success();
    let is_json = is_of(response.headers(), JSON);
    let is_stream = is_of(response.headers(), protocol::sse::CONTENT_TYPE);
    let (head, body) = response.into_parts();
    let answer = match (is_success, head.status) {
        (true, _) if is_stream => Answer::Events(Box::new(Events {
            body,
            parser: Parser::new(MESSAGE_BYTES_MAX),
            ready: VecDeque::new(),
            silence_max,
            heard: Instant::now(),
        })),
        (true, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) => Answer::Empty,
        (true, _) if is_json => Answer::Whole(read(body, MESSAGE_BYTES_MAX, silence_max).await?),
        (true, _) => Answer::Empty,
        (false, status) => {
            let text = read(body, REFUSAL_BYTES_MAX, silence_max).await;
            let refusal = text.ok().filter(|text| {
                matches!(
                    Message::parse(text),
                    Ok(Message::Response(Response {
                        outcome: Err(_),
                        ..
                    }))
                )
            });
            let Some(text) = refusal else {
                return Err(Failure::Status(status));
            };
            Answer::Whole(text)
        }
    };
    Ok(Answered {
        answer,
        status: head.status,
        headers: head.headers,
    })
}

fn is_of(headers: &HeaderMap, kind: &str) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case(kind)
    })
}

async fn read(body: Incoming, bytes_max: usize, silence_max: Duration) -> Result<String, Failure> {
    let reading = Limited::new(body, bytes_max).collect();
    let collected = tokio::time::timeout(silence_max, reading)
        .await
        .map_err(|_| Failure::Timeout(silence_max))?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                Failure::TooLong
            } else {
                Failure::Broken("the answer ended early".to_owned())
            }
        })?;
    String::from_utf8(collected.to_bytes().into())
        .map_err(|_| Failure::Garbage("the answer is not UTF-8"))
}

impl Answer {
    /// The answer to a request, whatever else is said before it.
    ///
    /// # Errors
    /// [`Failure`]: there is none, or one to something else.
    pub(crate) async fn response(self, id: &str) -> Result<Response, Failure> {
        match self {
            Self::Empty => Err(Failure::Garbage("an empty answer")),
            Self::Whole(text) => match Message::parse(&text) {
                Ok(Message::Response(response)) if is_to(&response, id) => Ok(response),
                Ok(_) => Err(Failure::Garbage("an answer to something else")),
                Err(_) => Err(Failure::Garbage("an answer that is no message")),
            },
            Self::Events(mut events) => loop {
                let Some(text) = events.next().await? else {
                    return Err(Failure::Garbage("a stream without an answer"));
                };
                match Message::parse(&text) {
                    Ok(Message::Response(response)) if is_to(&response, id) => return Ok(response),
                    Ok(_) | Err(_) => {}
                }
            },
        }
    }
}

/// Whether a response is to the request with this id; an error may be to nothing that could be read.
pub(crate) fn is_to(response: &Response, id: &str) -> bool {
    response.id == id || (response.id == "null" && response.outcome.is_err())
}

impl Events {
    /// The next message's text; `None` at the end.
    ///
    /// # Errors
    /// [`Failure`]: the stream broke, fell silent, or has an event over the limit.
    ///
    /// # Cancel safety
    /// Nothing is lost if it is dropped before it returns.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Ok(Some(text));
            }
            let late_at = self.heard + self.silence_max;
            let frame = tokio::time::timeout_at(late_at.into(), self.body.frame())
                .await
                .map_err(|_| Failure::Timeout(self.silence_max))?;
            self.heard = Instant::now();
            let Some(frame) = frame else {
                return Ok(None);
            };
            let frame = frame.map_err(|_| Failure::Broken("the stream broke".to_owned()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let events = self.parser.push(&data).map_err(|_| Failure::TooLong)?;
            if EVENTS_MAX < events.len() {
                return Err(Failure::TooLong);
            }
            // A server may prime a stream with an event that has no data.
            let texts = events.into_iter().map(|event| event.data);
            self.ready.extend(texts.filter(|text| !text.is_empty()));
        }
    }

    /// Sets how long the server may be silent from now on.
    pub(crate) fn bear_silence(&mut self, silence_max: Duration) {
        self.silence_max = silence_max;
    }
}
