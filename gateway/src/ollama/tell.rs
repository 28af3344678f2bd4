//! Answers of OpenAI's API, told to a client of Ollama's: whole, or line by line.

use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use protocol::{openai::ErrorKind, sse};

use crate::{
    encode::{Body, Cut, JSON},
    fault::Fault,
    wire::{self, ClientApi, EmbedForm, Exchange, InvalidReply, Translation},
};

/// The content type of lines of JSON.
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// Tells what a chat gave.
///
/// # Errors
/// It is no answer of a chat.
pub(super) async fn conversation(
    answer: Response<Body>,
    exchange: Exchange,
) -> Result<Response<Body>, Fault> {
    if is_stream(&answer) {
        let lines = lines(&exchange);
        return Ok(answered(answer, LINES, lines));
    }
    let content_type = match exchange.stream {
        true => LINES,
        false => JSON,
    };
    whole(answer, content_type, |body| {
        let reply = wire::translate_reply(&exchange, body)?;
        Ok(reply.body)
    })
    .await
}

/// Tells what a request for embeddings gave.
///
/// # Errors
/// They are none.
pub(super) async fn embeddings(
    answer: Response<Body>,
    form: EmbedForm,
    model: &str,
) -> Result<Response<Body>, Fault> {
    whole(answer, JSON, |body| {
        wire::answer_embeddings(form, model, body)
    })
    .await
}

fn is_stream(answer: &Response<Body>) -> bool {
    let content_type = answer.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(sse::CONTENT_TYPE.as_bytes()))
}

/// A complete answer, or an error, in the words of this API.
async fn whole(
    answer: Response<Body>,
    content_type: HeaderValue,
    translate: impl FnOnce(&[u8]) -> Result<Bytes, InvalidReply>,
) -> Result<Response<Body>, Fault> {
    let (head, body) = answer.into_parts();
    let body = body.collect().await.map_err(|Cut| {
        let message = "The model's server ended the answer before it was complete.";
        Fault::new(ErrorKind::UpstreamFailed, message)
    })?;
    let body = body.to_bytes();
    let status = head.status;
    let answer = Response::from_parts(head, ());
    let (content_type, body) = match status.is_success() {
        true => {
            let told = translate(&body).map_err(|invalid| {
                let message = format!("The model's answer cannot be told in this API: {invalid}.");
                Fault::new(ErrorKind::UpstreamFailed, message)
            })?;
            (content_type, told)
        }
        false => {
            let error = wire::translate_error(ClientApi::Ollama, status.as_u16(), &body);
            (JSON, error)
        }
    };
    let body = Full::new(body).map_err(|never| match never {});
    Ok(answered(answer, content_type, |_| body.boxed_unsync()))
}

/// The answer with another body.
fn answered<T>(
    answer: Response<T>,
    content_type: HeaderValue,
    body: impl FnOnce(T) -> Body,
) -> Response<Body> {
    let mut answer = answer.map(body);
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, content_type);
    answer
}

/// A stream that is being told.
struct Telling {
    events: Body,
    translation: Translation,
    is_over: bool,
}

/// What makes the lines of a stream of events.
fn lines(exchange: &Exchange) -> impl FnOnce(Body) -> Body + use<> {
    let translation = Translation::new(exchange);
    move |events| {
        let telling = Telling {
            events,
            translation,
            is_over: false,
        };
        let frames = stream::unfold(telling, step);
        StreamBody::new(frames).boxed_unsync()
    }
}

/// The next lines; `None` after the last ones.
async fn step(mut telling: Telling) -> Option<(Result<Frame<Bytes>, Cut>, Telling)> {
    while !telling.is_over {
        let told = match telling.events.frame().await {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap_or_default();
                telling.translation.push(&data)
            }
            Some(Err(cut)) => {
                telling.is_over = true;
                return Some((Err(cut), telling));
            }
            None => {
                telling.is_over = true;
                let last = telling.translation.finish();
                let tally = telling.translation.tally();
                match tally.is_done || tally.is_error {
                    true => last,
                    false => last.and(Err(InvalidReply::Incomplete("end"))),
                }
            }
        };
        let lines = told.unwrap_or_else(|invalid| {
            telling.is_over = true;
            let message = format!("The model's answer cannot be told in this API: {invalid}.");
            let fault = Fault::new(ErrorKind::UpstreamFailed, message);
            Bytes::from(format!("{}\n", fault.ollama_body()))
        });
        if !lines.is_empty() {
            return Some((Ok(Frame::data(lines)), telling));
        }
    }
    None
}
