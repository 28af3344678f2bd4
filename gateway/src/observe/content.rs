//! What was said in a request and its answer, for spans that tell it: by OpenTelemetry's conventions, bounded, and masked
//! where guards mask.
//!
//! Of a request it is what guards have left of it; of an answer what the client got, with the masks put back that were
//! undone for the client. Bytes of images, sounds and files are left out, and all of URLs that may be secret.

mod answer;
mod bound;
mod gather;
mod masks;
mod parts;
mod request;

use bytes::Bytes;
use serde_json::{Value, json};

pub(crate) use self::masks::Masks;
use self::{
    bound::{Budget, End, Kept},
    gather::Gathered,
};
use crate::{call::Operation, decode::Decoded};

/// Bytes of a body that is looked into.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Bytes that a span tells of the messages of a request, the newest first.
const INPUT_BYTES_MAX: usize = 32 << 10;
/// Bytes that it tells of an answer.
const OUTPUT_BYTES_MAX: usize = 16 << 10;
/// Bytes that it tells of instructions.
const SYSTEM_BYTES_MAX: usize = 8 << 10;
/// Bytes that it tells of tools.
const TOOLS_BYTES_MAX: usize = 16 << 10;

/// What was said so far.
#[derive(Debug, Default)]
pub(crate) struct Content {
    operation: Operation,
    request: Bytes,
    masks: Masks,
    answer: Gathered,
}

/// What a request says, in the words of the conventions.
#[derive(Debug, Default, PartialEq)]
struct Said {
    system: Vec<Value>,
    messages: Vec<Value>,
    tools: Vec<Value>,
}

impl Content {
    /// Whether anything is told of such requests.
    fn is_told(operation: Operation) -> bool {
        matches!(
            operation,
            Operation::Chat | Operation::Completion | Operation::Response | Operation::Message
        )
    }

    /// Notes a request that guards have let through, and what they have masked in it.
    pub(super) fn note_request(&mut self, decoded: &Decoded, masks: Masks) {
        self.operation = decoded.operation;
        self.masks = masks;
        if Self::is_told(decoded.operation) && decoded.body.len() <= BODY_BYTES_MAX {
            self.request = decoded.body.clone();
        }
    }

    /// Notes a whole answer that the client gets.
    pub(super) fn note_answer(&mut self, body: &Bytes) {
        if Self::is_told(self.operation) {
            self.answer.whole(body, BODY_BYTES_MAX);
        }
    }

    /// Notes events of a stream that the client gets.
    pub(super) fn note_events(&mut self, events: &[u8]) {
        if Self::is_told(self.operation) {
            self.answer.push(self.operation, events);
        }
    }

    /// The attributes of the request's span.
    pub(super) fn attributes(&self) -> Vec<Value> {
        let said = serde_json::from_slice(&self.request);
        let Said {
            system,
            messages,
            tools,
        } = said.map_or_else(
            |_| Said::default(),
            |body: Value| request::said(self.operation, &body),
        );
        let mut output = self.answer.messages(self.operation);
        for message in &mut output {
            self.masks.put_back(message);
        }
        let lists = [
            (
                "gen_ai.system_instructions",
                system,
                SYSTEM_BYTES_MAX,
                End::First,
            ),
            (
                "gen_ai.input.messages",
                messages,
                INPUT_BYTES_MAX,
                End::Last,
            ),
            (
                "gen_ai.output.messages",
                output,
                OUTPUT_BYTES_MAX,
                End::First,
            ),
            (
                "gen_ai.tool.definitions",
                tools,
                TOOLS_BYTES_MAX,
                End::First,
            ),
        ];
        let mut left_out = 0;
        let mut attributes = Vec::new();
        for (name, list, bytes_max, end) in lists {
            if list.is_empty() {
                continue;
            }
            let Kept { text, without } = Budget { bytes_max, end }.keep(list);
            left_out += without;
            attributes.push(json!({"key": name, "value": {"stringValue": text}}));
        }
        if 0 < left_out {
            let count = left_out.to_string();
            attributes
                .push(json!({"key": "quarterdeck.content.left_out", "value": {"intValue": count}}));
        }
        attributes
    }
}

#[cfg(test)]
mod tests;
