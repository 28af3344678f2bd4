//! One attempt at one endpoint, up to the first bytes of a stream or the last byte of anything else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::ResponseFuture;
use jiff::Timestamp;
use protocol::snapshot::Strategy;
use tokio::time::timeout_at;

use super::{
    Answer, Begun, Failure, Forward, UpstreamError,
    opening::{Head, Opening},
    retry_after::retry_after,
    socket,
};
use crate::{
    call::Operation,
    decode::{Upload, UploadBody},
    endpoint::{Endpoint, Lease},
    provider::{NoToken, Outgoing},
    table::Target,
    upstream::{connecting_within, is_connect_timeout, with_causes},
    wire::{Back, InvalidReply, Translation},
};

/// Bytes of an error's body that are passed on.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How long the body of an error may take.
const ERROR_TIMEOUT: Duration = Duration::from_secs(5);
/// The content type of answers that name none.
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The header in which Amazon counts the tokens of a prompt.
const INPUT_TOKENS: &str = "x-amzn-bedrock-input-token-count";

/// The content types of streams that are translated only: Amazon's, and Ollama's.
const FOREIGN_STREAMS: [&str; 2] = ["application/vnd.amazon.eventstream", "application/x-ndjson"];

/// Sends the request to one endpoint.
///
/// # Errors
/// [`Failure`]; nothing has been passed on to the client then.
pub(super) async fn attempt(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Arc<Endpoint>,
    outgoing: Outgoing,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let outcome = converse(forward, target, endpoint, outgoing, deadline).await;
    outcome.map_err(|failure| {
        let is_late = matches!(failure, Failure::Timeout(..));
        let fault = forward.upload.and_then(|upload| upload.blame(is_late));
        fault.map_or(failure, Failure::Client)
    })
}

async fn converse(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Arc<Endpoint>,
    outgoing: Outgoing,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let limit = first_byte_limit(forward);
    let first_byte_by = deadline.min(Instant::now() + limit);
    let lease = endpoint.begin(Instant::now());
    if let Some(wanted) = &target.wanted {
        wanted.note_use();
    }
    let operation = outgoing.operation(forward.call);
    let Outgoing { body, back } = outgoing;
    if operation == Operation::Realtime {
        let opening = socket::open(forward, target, endpoint)?;
        return socket::agree(forward, opening, (first_byte_by, limit), lease).await;
    }
    let asking = send(forward, target, endpoint, operation, body).await?;
    let response = ask(forward, asking, (first_byte_by, limit)).await?;
    if forward.route.strategy == Strategy::Headroom {
        let now = Instant::now();
        endpoint.pace.note_headroom(response.headers(), now);
    }
    let status = response.status();
    if !status.is_success() {
        if status == StatusCode::UNAUTHORIZED {
            target.provider.note_unauthorized();
        }
        return Err(read_error(response, back.as_deref()).await);
    }
    let content_type = content_type_of(&response);
    if is_stream(&content_type, back.as_deref()) {
        let exchange = back.as_deref().and_then(Back::conversation);
        let mut translation = exchange.map(|exchange| Box::new(Translation::new(exchange)));
        let head = Head::new(forward.call.operation);
        let first_token = (first_byte_by, limit);
        let translated = translation.as_deref_mut();
        let (first, rest) = begin_stream(response, translated, head, first_token).await?;
        return Ok(Answer::Stream(Begun {
            first,
            rest,
            translation,
            lease,
        }));
    }
    if forward.call.operation == Operation::Speech && !is_json(&content_type) {
        return begin_raw(response, (first_byte_by, limit), lease).await;
    }
    let idle = Duration::from_millis(forward.route.timeouts.stream_idle_millis);
    let bytes_max = forward.answer_bytes_max;
    let counted = back.as_ref().and_then(|_| counted(response.headers()));
    let body = read_whole(response.into_body(), bytes_max, deadline, limit.max(idle)).await?;
    if is_json(&content_type) && !is_whole_json(&body) {
        let message = "the answer is not the JSON that it says it is";
        return Err(Failure::Broken(message.to_owned()));
    }
    let Some(back) = back else {
        return Ok(Answer::Whole {
            status,
            content_type,
            body,
            tokens: None,
        });
    };
    let reply = back
        .translate(counted, &body)
        .map_err(|invalid| Failure::Broken(invalid.to_string()))?;
    Ok(Answer::Whole {
        status,
        content_type: JSON,
        body: reply.body,
        tokens: Some(reply.tokens),
    })
}

/// Waits for the first bytes of sounds.
async fn begin_raw(
    response: Response<Incoming>,
    until: (Instant, Duration),
    lease: Lease,
) -> Result<Answer, Failure> {
    let content_type = content_type_of(&response);
    let mut rest = response.into_body();
    let first = next_bytes(&mut rest, until).await?;
    let first = first.ok_or_else(ended_early)?;
    Ok(Answer::Raw {
        content_type,
        first,
        rest,
        lease,
    })
}

/// How long the first byte of an answer may take; a form may come as slowly as the request's time allows.
fn first_byte_limit(forward: &Forward<'_>) -> Duration {
    let timeouts = &forward.route.timeouts;
    Duration::from_millis(match forward.upload {
        None => timeouts.first_byte_millis,
        Some(_) => timeouts.request_millis,
    })
}

/// Signs a request and hands it to the client that is for its kind of body.
async fn send(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
    operation: Operation,
    body: Bytes,
) -> Result<ResponseFuture, Failure> {
    let provider = &target.provider;
    let Some(upload) = forward.upload else {
        let whole = Full::new(body.clone());
        let mut request = request(forward, target, endpoint, operation, whole)?;
        let sealed = provider.seal(&mut request, &body, forward.upstream).await;
        sealed.map_err(no_token)?;
        return Ok(forward.upstream.request(request));
    };
    let mut request = form(forward, target, endpoint, upload)?;
    // Who signs bodies takes no uploads.
    let nothing = Bytes::new();
    let sealed = provider
        .seal(&mut request, &nothing, forward.upstream)
        .await;
    sealed.map_err(no_token)?;
    Ok(forward.uploads.request(request))
}

/// A request with a form.
fn form(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
    upload: &Upload,
) -> Result<Request<UploadBody>, Failure> {
    let outgoing = upload.outgoing(&forward.model_at(target)?);
    let operation = forward.call.operation;
    let mut request = request(forward, target, endpoint, operation, outgoing.body)?;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, outgoing.content_type);
    if let Some(length) = outgoing.length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(request)
}

/// Sends a request, and waits until a time for the head of the answer.
pub(super) async fn ask(
    forward: &Forward<'_>,
    asking: ResponseFuture,
    (first_byte_by, limit): (Instant, Duration),
) -> Result<Response<Incoming>, Failure> {
    let connect = Duration::from_millis(forward.route.timeouts.connect_millis);
    let asking = connecting_within(connect, asking);
    timeout_at(first_byte_by.into(), asking)
        .await
        .map_err(|_| Failure::Timeout("answer", limit))?
        .map_err(|error| {
            if error.is_connect() && is_connect_timeout(&error) {
                return Failure::Timeout("connection", connect);
            }
            Failure::Broken(with_causes(&error))
        })
}

pub(super) fn request<B>(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
    operation: Operation,
    body: B,
) -> Result<Request<B>, Failure> {
    let uri = target
        .provider
        .uri(
            endpoint,
            operation,
            &forward.model_at(target)?,
            forward.decoded.fields.stream,
        )
        .ok_or_else(|| Failure::Broken("the model's name makes no URL".to_owned()))?;
    let mut request = Request::builder()
        .method(Method::POST)
        .uri(uri)
        .header(header::CONTENT_TYPE, JSON)
        // A compressed answer could not be read for its usage, nor passed on event by event.
        .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"))
        .header(header::USER_AGENT, HeaderValue::from_static(concat!("quarterdeck-gateway/", env!("CARGO_PKG_VERSION"))))
        .header("x-request-id", &forward.call.id)
        .body(body)
        .map_err(|error| Failure::Broken(error.to_string()))?;
    if let Some(trace) = &forward.call.trace {
        trace.write(request.headers_mut());
    }
    target
        .provider
        .authorize(operation, forward.headers, request.headers_mut());
    Ok(request)
}

fn no_token(why: NoToken) -> Failure {
    match why {
        NoToken::Unreachable(reason) => Failure::Broken(reason),
        NoToken::Refused => Failure::Status(Box::new(UpstreamError {
            status: StatusCode::UNAUTHORIZED,
            content_type: JSON,
            retry_after: None,
            retry_in: None,
            body: Bytes::new(),
        })),
    }
}

/// Tokens of the prompt, where an upstream counts them in the head of its answer.
fn counted(headers: &HeaderMap) -> Option<u64> {
    let count = headers.get(INPUT_TOKENS)?.to_str().ok()?;
    count.parse().ok()
}

fn content_type_of(response: &Response<Incoming>) -> HeaderValue {
    response
        .headers()
        .get(header::CONTENT_TYPE)
        .cloned()
        .unwrap_or(JSON)
}

/// Whether an answer comes in events that can be passed on: the client's API's own, or what is translated to them.
fn is_stream(content_type: &HeaderValue, back: Option<&Back>) -> bool {
    let is = |kind: &str| content_type.as_bytes().starts_with(kind.as_bytes());
    is(protocol::sse::CONTENT_TYPE) || (back.is_some() && FOREIGN_STREAMS.into_iter().any(is))
}

fn is_json(content_type: &HeaderValue) -> bool {
    content_type.as_bytes().starts_with(JSON.as_bytes())
}

/// Waits for the first token: a stream that breaks before it can still be tried elsewhere.
async fn begin_stream(
    response: Response<Incoming>,
    mut translation: Option<&mut Translation>,
    mut head: Head,
    first_token: (Instant, Duration),
) -> Result<(Bytes, Incoming), Failure> {
    let mut rest = response.into_body();
    let invalid = |invalid: InvalidReply| Failure::Broken(invalid.to_string());
    loop {
        let next = next_bytes(&mut rest, first_token).await?;
        let is_end = next.is_none();
        let data = match (next, &mut translation) {
            (Some(data), None) => data,
            (Some(data), Some(translation)) => translation.push(&data).map_err(invalid)?,
            // Some APIs have no event for the end, so that an empty answer is known only now.
            (None, Some(translation)) => translation.finish().map_err(invalid)?,
            (None, None) => return Err(ended_early()),
        };
        match head.push(&data) {
            Opening::Failed(error) => return Err(Failure::Status(Box::new(error))),
            Opening::Begun => return Ok((head.with(data), rest)),
            Opening::Silent if is_end && data.is_empty() => return Err(ended_early()),
            Opening::Silent if is_end => return Ok((head.with(Bytes::new()), rest)),
            Opening::Silent => {}
        }
    }
}

fn ended_early() -> Failure {
    Failure::Broken("the stream ended before its first token".to_owned())
}

/// The next bytes of an answer that has said nothing of use yet; `None` at its end.
async fn next_bytes(
    rest: &mut Incoming,
    (by, limit): (Instant, Duration),
) -> Result<Option<Bytes>, Failure> {
    loop {
        let next = timeout_at(by.into(), rest.frame())
            .await
            .map_err(|_| Failure::Timeout("first token", limit))?;
        let Some(frame) = next else {
            return Ok(None);
        };
        let frame = frame.map_err(|error| Failure::Broken(with_causes(&error)))?;
        if let Ok(data) = frame.into_data()
            && !data.is_empty()
        {
            return Ok(Some(data));
        }
    }
}

/// Whether a body begins and ends as JSON objects, lists and texts do; pages, and bodies that were cut, do not.
fn is_whole_json(body: &[u8]) -> bool {
    let body = body.trim_ascii();
    let (Some(first), Some(last)) = (body.first(), body.last()) else {
        return false;
    };
    let ends = (*first, *last);
    let [object, list, text] = [(b'{', b'}'), (b'[', b']'), (b'"', b'"')];
    [object, list, text].contains(&ends)
}

async fn read_whole(
    mut body: Incoming,
    bytes_max: usize,
    deadline: Instant,
    idle: Duration,
) -> Result<Bytes, Failure> {
    let mut collected = BytesMut::new();
    loop {
        let next_by = deadline.min(Instant::now() + idle);
        let frame = timeout_at(next_by.into(), body.frame())
            .await
            .map_err(|_| Failure::Timeout("more", idle))?;
        let Some(frame) = frame else {
            return Ok(collected.freeze());
        };
        let frame = frame.map_err(|error| Failure::Broken(with_causes(&error)))?;
        if let Ok(data) = frame.into_data() {
            if bytes_max < collected.len() + data.len() {
                return Err(Failure::TooLong);
            }
            collected.extend_from_slice(&data);
        }
    }
}

pub(super) async fn read_error(response: Response<Incoming>, back: Option<&Back>) -> Failure {
    let status = response.status();
    let content_type = content_type_of(&response);
    let retry_in = retry_after(response.headers(), Timestamp::now());
    let retry_after = response.headers().get(header::RETRY_AFTER).cloned();
    let body = http_body_util::Limited::new(response.into_body(), ERROR_BYTES_MAX);
    let body = match tokio::time::timeout(ERROR_TIMEOUT, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        _ => Bytes::new(),
    };
    // Anything but an error or a success, as a redirect, is nothing that a client of this API can use.
    let status = if status.as_u16() < 400 {
        StatusCode::BAD_GATEWAY
    } else {
        status
    };
    let (content_type, body) = match back {
        None => (content_type, body),
        Some(back) => (JSON, back.translate_error(status.as_u16(), &body)),
    };
    Failure::Status(Box::new(UpstreamError {
        status,
        content_type,
        retry_after,
        retry_in,
        body,
    }))
}
