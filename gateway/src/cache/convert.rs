//! Converts a kept stream to a whole answer and back, where nothing is lost or invented by it.

mod chat;
mod message;

use bytes::{Bytes, BytesMut};
use protocol::sse::{DONE, Event, Parser};
use serde_json::Value;

use super::{Form, Kept};
use crate::call::Operation;

/// Bytes of one event.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// The body of a kept answer in the other form; `None` if that form would not be the same answer.
pub(super) fn convert(operation: Operation, kept: &Kept) -> Option<Bytes> {
    match (operation, kept.form) {
        (Operation::Chat | Operation::Completion, Form::Whole) => {
            chat::to_events(serde_json::from_slice(&kept.body).ok()?)
        }
        (Operation::Chat | Operation::Completion, Form::Stream) => {
            chat::to_whole(events(&kept.body)?)
        }
        (Operation::Message, Form::Whole) => {
            message::to_events(serde_json::from_slice(&kept.body).ok()?)
        }
        (Operation::Message, Form::Stream) => message::to_whole(events(&kept.body)?),
        (Operation::Response, Form::Stream) => response(&kept.body),
        // The events of `/v1/responses` say more than its whole answers do; the others have no streams.
        _ => None,
    }
}

/// The whole answer in the last event of a stream of `/v1/responses`, if it is complete.
pub(super) fn response(stream: &[u8]) -> Option<Bytes> {
    let mut last = events(stream)?.pop()?;
    (last["type"] == "response.completed").then(|| bytes(&last["response"].take()))
}

/// The data of all events but the mark of the end.
fn events(stream: &[u8]) -> Option<Vec<Value>> {
    let events = Parser::new(EVENT_BYTES_MAX).push(stream).ok()?;
    let data = events.iter().filter(|event| event.data != DONE);
    data.map(|event| serde_json::from_str(&event.data).ok())
        .collect()
}

fn bytes(value: &Value) -> Bytes {
    Bytes::from(value.to_string())
}

/// Events as they go over the wire.
fn wire(events: impl IntoIterator<Item = Event>) -> Bytes {
    let mut stream = BytesMut::new();
    for event in events {
        stream.extend_from_slice(&event.encode());
    }
    stream.freeze()
}

#[cfg(test)]
mod tests;
