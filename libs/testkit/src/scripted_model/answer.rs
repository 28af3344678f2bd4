//! What a script can say, and how it becomes an HTTP answer.

use std::io;

use axum::{
    Json,
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::wire;

/// One answer of a script.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A text, streamed word by word if the client asks for a stream.
    Text(String),
    /// Calls of tools.
    Calls(Vec<Call>),
    /// An error of this status.
    Status(u16),
    /// A status with this body.
    Body(u16, Value),
    /// Nothing, for ever.
    Hang,
    /// The first events of a text, then the connection breaks.
    Cut {
        /// The text.
        text: String,
        /// How many events come before the break.
        events: usize,
    },
    /// The first events of a text, then nothing, for ever.
    Stall {
        /// The text.
        text: String,
        /// How many events come before the silence.
        events: usize,
    },
}

/// A call of a tool.
#[derive(Debug, Clone)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// Its arguments.
    pub arguments: Value,
}

impl From<&str> for Answer {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

/// The text of the last message or the prompt.
pub(super) fn last_message(request: &Value) -> String {
    let last = request["messages"]
        .as_array()
        .and_then(|messages| messages.last());
    let text = last.map_or(&request["prompt"], |message| &message["content"]);
    text.as_str().unwrap_or_default().to_owned()
}

/// Answers a request; `abandoned` counts the clients that went away from a hanging answer.
pub(super) async fn respond(
    answer: Answer,
    request: &Value,
    abandoned: &watch::Sender<usize>,
) -> Response {
    let guard = || Abandonment(abandoned.clone());
    let is_stream = request["stream"] == true;
    match answer {
        Answer::Status(status) => {
            let body = json!({"error": {"message": "scripted", "type": "server_error", "param": null, "code": null}});
            with_status(status, body)
        }
        Answer::Body(status, body) => with_status(status, body),
        Answer::Hang => {
            let _guard = guard();
            std::future::pending::<()>().await;
            StatusCode::OK.into_response()
        }
        Answer::Text(text) if is_stream => events(wire::text_events(request, &text), Ending::Clean),
        Answer::Calls(calls) if is_stream => {
            events(wire::call_events(request, &calls), Ending::Clean)
        }
        Answer::Text(text) => Json(wire::text(request, &text)).into_response(),
        Answer::Calls(calls) => Json(wire::calls(request, &calls)).into_response(),
        Answer::Cut {
            text,
            events: count,
        } => {
            let shown = wire::text_events(request, &text)
                .into_iter()
                .take(count)
                .collect();
            events(shown, Ending::Broken)
        }
        Answer::Stall {
            text,
            events: count,
        } => {
            let shown = wire::text_events(request, &text)
                .into_iter()
                .take(count)
                .collect();
            events(shown, Ending::Silent(guard()))
        }
    }
}

/// Counts a client that went away.
struct Abandonment(watch::Sender<usize>);

impl Drop for Abandonment {
    fn drop(&mut self) {
        self.0.send_modify(|abandoned| *abandoned += 1);
    }
}

enum Ending {
    Clean,
    Broken,
    Silent(Abandonment),
}

fn with_status(status: u16, body: Value) -> Response {
    (
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        Json(body),
    )
        .into_response()
}

fn events(events: Vec<String>, ending: Ending) -> Response {
    let events = stream::iter(events.into_iter().map(|event| Ok(Bytes::from(event))));
    let body = match ending {
        Ending::Clean => Body::from_stream(events.chain(stream::once(async {
            Ok::<Bytes, io::Error>(Bytes::from("data: [DONE]\n\n"))
        }))),
        Ending::Broken => {
            let broken = stream::once(async {
                // What was sent has to leave before the connection is torn down.
                tokio::task::yield_now().await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            });
            Body::from_stream(
                events
                    .map(|event: Result<Bytes, io::Error>| event)
                    .chain(broken),
            )
        }
        Ending::Silent(guard) => {
            let silent = stream::once(async move {
                std::future::pending::<()>().await;
                drop(guard);
                Ok::<Bytes, io::Error>(Bytes::new())
            });
            Body::from_stream(events.chain(silent))
        }
    };
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
