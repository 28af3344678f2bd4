//! The stream of an upstream that speaks messages.

use protocol::sse;
use serde::Deserialize;

use super::{AnyUsage, decode_reply::AnyBlock, finish_of, usage_of};
use crate::wire::{InvalidReply, delta::Delta, error};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnyEvent {
    MessageStart {
        message: Start,
    },
    ContentBlockStart {
        content_block: AnyBlock,
    },
    ContentBlockDelta {
        delta: AnyDelta,
    },
    ContentBlockStop,
    MessageDelta {
        delta: End,
        #[serde(default)]
        usage: AnyUsage,
    },
    MessageStop,
    Error,
    /// Signs of life, and events from the future.
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Start {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    usage: AnyUsage,
}

#[derive(Deserialize)]
struct End {
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    stop_sequence: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnyDelta {
    TextDelta {
        text: String,
    },
    InputJsonDelta {
        partial_json: String,
    },
    ThinkingDelta {
        thinking: String,
    },
    SignatureDelta {
        signature: String,
    },
    /// Citations, and deltas from the future.
    #[serde(other)]
    Other,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(in crate::wire) struct Decoder {
    /// Calls that began.
    calls: u32,
    /// The open block is a call.
    is_in_call: bool,
    /// The open call has arguments.
    has_arguments: bool,
    /// Usage of the start; the last event gives only what changed.
    usage: AnyUsage,
}

impl Decoder {
    /// Reads one event.
    ///
    /// # Errors
    /// [`InvalidReply`] if it is none of this API.
    pub(in crate::wire) fn decode_event(
        &mut self,
        event: &sse::Event,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), InvalidReply> {
        match serde_json::from_str(&event.data)? {
            AnyEvent::MessageStart { message } => {
                self.usage = message.usage;
                deltas.push(Delta::Start { id: message.id });
                deltas.push(Delta::Usage(usage_of(self.usage)));
            }
            AnyEvent::ContentBlockStart { content_block } => self.begin(content_block, deltas),
            AnyEvent::ContentBlockDelta { delta } => self.go_on(delta, deltas),
            AnyEvent::ContentBlockStop => {
                self.stop(deltas);
            }
            AnyEvent::MessageDelta { delta, usage } => {
                self.note(usage);
                deltas.push(Delta::Usage(usage_of(self.usage)));
                if let Some(reason) = delta.stop_reason {
                    deltas.push(Delta::Finish(finish_of(&reason, delta.stop_sequence)));
                }
            }
            AnyEvent::MessageStop => deltas.push(Delta::End),
            AnyEvent::Error => deltas.push(Delta::Failed(error::in_stream(event.data.as_bytes()))),
            AnyEvent::Other => {}
        }
        Ok(())
    }

    fn begin(&mut self, block: AnyBlock, deltas: &mut Vec<Delta>) {
        match block {
            AnyBlock::Text { text } => push(deltas, text, Delta::Text),
            AnyBlock::Thinking {
                thinking,
                signature,
            } => {
                push(deltas, thinking, Delta::Thinking);
                push(deltas, signature.unwrap_or_default(), Delta::Signature);
            }
            AnyBlock::RedactedThinking { data } => deltas.push(Delta::Redacted(data)),
            AnyBlock::ToolUse { id, name, input } => {
                let index = self.calls;
                self.calls = index.saturating_add(1);
                self.is_in_call = true;
                self.has_arguments = false;
                deltas.push(Delta::Call { index, id, name });
                // The arguments follow in pieces, but for servers that send them whole.
                let input =
                    input.filter(|input| input.as_object().is_some_and(|map| !map.is_empty()));
                if let Some(input) = input {
                    self.has_arguments = true;
                    let json = input.to_string();
                    deltas.push(Delta::Arguments { index, json });
                }
            }
            AnyBlock::Other => {}
        }
    }

    /// Ends a block. Calls without arguments get an empty object: clients read the arguments as JSON.
    fn stop(&mut self, deltas: &mut Vec<Delta>) {
        if std::mem::take(&mut self.is_in_call) && !self.has_arguments {
            let index = self.calls.saturating_sub(1);
            let json = "{}".to_owned();
            deltas.push(Delta::Arguments { index, json });
        }
        deltas.push(Delta::Break);
    }

    fn go_on(&mut self, delta: AnyDelta, deltas: &mut Vec<Delta>) {
        match delta {
            AnyDelta::TextDelta { text } => push(deltas, text, Delta::Text),
            AnyDelta::ThinkingDelta { thinking } => push(deltas, thinking, Delta::Thinking),
            AnyDelta::SignatureDelta { signature } => push(deltas, signature, Delta::Signature),
            AnyDelta::InputJsonDelta { partial_json } if self.is_in_call => {
                let index = self.calls.saturating_sub(1);
                self.has_arguments |= !partial_json.is_empty();
                push(deltas, partial_json, |json| Delta::Arguments {
                    index,
                    json,
                });
            }
            AnyDelta::InputJsonDelta { .. } | AnyDelta::Other => {}
        }
    }

    fn note(&mut self, usage: AnyUsage) {
        let before = self.usage;
        self.usage = AnyUsage {
            input_tokens: usage.input_tokens.or(before.input_tokens),
            cache_creation_input_tokens: usage
                .cache_creation_input_tokens
                .or(before.cache_creation_input_tokens),
            cache_read_input_tokens: usage
                .cache_read_input_tokens
                .or(before.cache_read_input_tokens),
            output_tokens: usage.output_tokens.or(before.output_tokens),
            output_tokens_details: usage.output_tokens_details.or(before.output_tokens_details),
        };
    }
}

/// Adds a piece that is not empty.
fn push(deltas: &mut Vec<Delta>, text: String, delta: impl FnOnce(String) -> Delta) {
    if !text.is_empty() {
        deltas.push(delta(text));
    }
}
