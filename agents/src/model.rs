//! Asking a model through the gateway: one streamed chat completion.

mod answer;

use std::time::Duration;

use futures::StreamExt;
use protocol::{
    openai::{ChatChunk, ChatMessage, ChatRequest, ChatResponse, ErrorBody, Usage},
    snapshot::GatewayAccess,
    sse::{self, Parser},
};
use reqwest::{Response, StatusCode};

use crate::{
    failure::Failure,
    outbound::{Outbound, broken, retry_after},
};
use answer::Gathering;

/// Longest event of a stream, in bytes.
const EVENT_BYTES_MAX: usize = 1 << 20;
/// Longest answer, in bytes on the wire.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Most of an error's body that is read.
const ERROR_BYTES_MAX: usize = 16 * 1024;
/// Longest call, unless the step says otherwise.
pub(crate) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(600);

/// What a model answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) message: ChatMessage,
    pub(crate) usage: Option<Usage>,
}

/// Asks a model. `key` makes repeats recognisable; `on_delta` hears new text as it comes.
///
/// # Errors
/// Asking has no effects, so what an answer breaks off with is [`Failure::Unavailable`]: it is simply asked again.
pub(crate) async fn ask(
    outbound: &Outbound,
    gateway: &GatewayAccess,
    request: &ChatRequest,
    key: &str,
    mut on_delta: impl FnMut(&str) + Send,
) -> Result<Answer, Failure> {
    let url = format!("{}/chat/completions", gateway.url.trim_end_matches('/'));
    let what = format!("asking model `{}`", request.model);
    let response = outbound
        .client(&url)
        .post(&url)
        .bearer_auth(gateway.key.expose())
        .header("idempotency-key", key)
        .json(request)
        .send()
        .await
        .map_err(|error| again(broken(&what, &error)))?;
    if !response.status().is_success() {
        return Err(refused(&what, response).await);
    }
    let is_stream = response
        .headers()
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with(sse::CONTENT_TYPE));
    if is_stream {
        read_stream(&what, response, &mut on_delta).await
    } else {
        read_whole(&what, response).await
    }
}

/// What broke off may be asked again at once.
fn again(failure: Failure) -> Failure {
    match failure {
        Failure::Transient { message } => Failure::Unavailable {
            message,
            retry_after: None,
        },
        other => other,
    }
}

async fn refused(what: &str, response: Response) -> Failure {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let body = bounded(response, ERROR_BYTES_MAX).await.unwrap_or_default();
    let detail = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => body.error.message,
        Err(_) => String::from_utf8_lossy(&body).chars().take(500).collect(),
    };
    let message = format!("{what}: {status}: {detail}");
    match status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::Unavailable {
            message,
            retry_after,
        },
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
            Failure::Unsettled { message }
        }
        _ if status.is_server_error() => Failure::Transient { message },
        _ => Failure::Permanent { message },
    }
}

async fn bounded(response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| again(broken("reading the answer", &error)))?;
        if limit < body.len() + chunk.len() {
            return Err(Failure::permanent(format!(
                "the answer is longer than {limit} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

async fn read_whole(what: &str, response: Response) -> Result<Answer, Failure> {
    let body = bounded(response, ANSWER_BYTES_MAX).await?;
    let response: ChatResponse = serde_json::from_slice(&body).map_err(|error| {
        Failure::transient(format!("{what}: the answer is no chat completion: {error}"))
    })?;
    let usage = response.usage;
    let choice = response.choices.into_iter().next();
    let choice =
        choice.ok_or_else(|| Failure::transient(format!("{what}: the answer has no choices")))?;
    Ok(Answer {
        message: choice.message,
        usage,
    })
}

async fn read_stream(
    what: &str,
    response: Response,
    on_delta: &mut (impl FnMut(&str) + Send),
) -> Result<Answer, Failure> {
    let mut parser = Parser::new(EVENT_BYTES_MAX);
    let mut gathering = Gathering::default();
    let mut bytes = 0;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| again(broken(what, &error)))?;
        bytes += chunk.len();
        if ANSWER_BYTES_MAX < bytes {
            return Err(Failure::permanent(format!(
                "{what}: the answer is longer than {ANSWER_BYTES_MAX} bytes"
            )));
        }
        let events = parser
            .push(&chunk)
            .map_err(|error| Failure::transient(format!("{what}: {error}")))?;
        for event in events {
            if event.data == sse::DONE {
                return gathering
                    .finish()
                    .map_err(|reason| Failure::transient(format!("{what}: {reason}")));
            }
            take_event(what, &event.data, &mut gathering, on_delta)?;
        }
    }
    // Some servers end without `[DONE]`; the finish reason says as well that the answer is whole.
    if gathering.is_finished() {
        return gathering
            .finish()
            .map_err(|reason| Failure::transient(format!("{what}: {reason}")));
    }
    Err(Failure::unavailable(format!(
        "{what}: the stream broke off"
    )))
}

fn take_event(
    what: &str,
    data: &str,
    gathering: &mut Gathering,
    on_delta: &mut (impl FnMut(&str) + Send),
) -> Result<(), Failure> {
    match serde_json::from_str::<ChatChunk>(data) {
        Ok(chunk) => {
            if let Some(text) = gathering.push(chunk) {
                on_delta(&text);
            }
            Ok(())
        }
        Err(error) => match serde_json::from_str::<ErrorBody>(data) {
            // The gateway tells in the stream that an engine died under it.
            Ok(body) => Err(Failure::unavailable(format!(
                "{what}: {}",
                body.error.message
            ))),
            Err(_) => Err(Failure::transient(format!(
                "{what}: an event cannot be read: {error}"
            ))),
        },
    }
}
