//! Patience: a stream whose answer is long in coming begins with comments, so that nobody on the way gives up.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::{Response, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use protocol::sse::{self, Event};

use super::{Body, fault, stream::head};
use crate::{call::Surface, fault::Fault};

/// What tells a client that it is not forgotten.
const COMMENT: &[u8] = b": waiting\n\n";

/// An answer that is still to come.
pub(crate) type Coming = Pin<Box<dyn Future<Output = Result<Response<Body>, Fault>> + Send>>;

enum State {
    Waiting(Coming),
    Passing(Body),
    Over,
}

/// The answer itself if it comes in time; otherwise a stream of comments that turns into it.
///
/// # Errors
/// The answer's own fault, if it comes in time; a later one becomes an event.
pub(crate) async fn patiently(
    mut coming: Coming,
    pause: Duration,
    surface: Surface,
) -> Result<Response<Body>, Fault> {
    if let Ok(answer) = tokio::time::timeout(pause, coming.as_mut()).await {
        return answer;
    }
    let frames = stream::unfold(
        (State::Waiting(coming), true),
        move |(mut state, mut is_first)| async move {
            loop {
                match state {
                    State::Over => return None,
                    State::Passing(mut body) => {
                        let frame = body.frame().await?;
                        return Some((frame, (State::Passing(body), false)));
                    }
                    State::Waiting(mut coming) => {
                        let wait = if is_first { Duration::ZERO } else { pause };
                        is_first = false;
                        state = match tokio::time::timeout(wait, coming.as_mut()).await {
                            Err(_) => {
                                let comment = Frame::data(Bytes::from_static(COMMENT));
                                return Some((Ok(comment), (State::Waiting(coming), false)));
                            }
                            Ok(answer) => match begin(answer, surface).await {
                                Ok(body) => State::Passing(body),
                                Err(event) => {
                                    let event = Frame::data(event);
                                    return Some((Ok(event), (State::Over, false)));
                                }
                            },
                        };
                    }
                }
            }
        },
    );
    Ok(head(StreamBody::new(frames).boxed_unsync()))
}

/// The body of a stream; the event that tells the client of anything else.
async fn begin(answer: Result<Response<Body>, Fault>, surface: Surface) -> Result<Body, Bytes> {
    let response = answer.unwrap_or_else(|ours| fault(&ours, surface));
    let is_stream = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(sse::CONTENT_TYPE.as_bytes()));
    if is_stream {
        return Ok(response.into_body());
    }
    // Bodies of ours never fail, and errors are short.
    let body = response.into_body().collect().await;
    let body = body
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    let event = Event::data(String::from_utf8_lossy(&body));
    let event = match surface {
        // Who asks in Ollama's API is answered by translating a stream of OpenAI's.
        Surface::OpenAi | Surface::Ollama => event,
        Surface::Anthropic => Event {
            event: "error".to_owned(),
            ..event
        },
    };
    Err(event.encode())
}
