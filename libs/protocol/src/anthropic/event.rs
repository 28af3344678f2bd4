//! The typed events of a streamed message.

use serde::{Deserialize, Serialize};

use super::{Block, ErrorDetail, Message, MessageUsage, StopReason};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MessageEvent {
    /// The first event.
    MessageStart {
        /// Without content.
        message: Message,
    },
    /// A block begins.
    ContentBlockStart {
        /// Its place.
        index: u32,
        /// Empty as yet.
        content_block: Block,
    },
    /// More of a block.
    ContentBlockDelta {
        /// Its place.
        index: u32,
        /// What is new.
        delta: BlockDelta,
    },
    /// A block is complete.
    ContentBlockStop {
        /// Its place.
        index: u32,
    },
    /// All blocks are complete.
    MessageDelta {
        /// Why.
        delta: MessageDelta,
        /// Tokens used in all.
        usage: MessageUsage,
    },
    /// The last event.
    MessageStop,
    /// Nothing new: the connection lives.
    Ping,
    /// The answer ends early.
    Error {
        /// Why.
        error: ErrorDetail,
    },
}

/// What is new in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub enum BlockDelta {
    /// More text.
    #[serde(rename = "text_delta")]
    Text {
        /// The text.
        text: String,
    },
    /// More of a tool's arguments.
    #[serde(rename = "input_json_delta")]
    InputJson {
        /// A piece of JSON text.
        partial_json: String,
    },
    /// More thoughts.
    #[serde(rename = "thinking_delta")]
    Thinking {
        /// The text.
        thinking: String,
    },
    /// The proof of the thoughts.
    #[serde(rename = "signature_delta")]
    Signature {
        /// Empty with models that have none.
        signature: String,
    },
}

/// Why a message ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDelta {
    /// Why it ended.
    pub stop_reason: Option<StopReason>,
    /// Which stop sequence was met, if one was.
    pub stop_sequence: Option<String>,
}

impl MessageEvent {
    /// The event's type, which is also the type of the server-sent event.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::MessageStart { .. } => "message_start",
            Self::ContentBlockStart { .. } => "content_block_start",
            Self::ContentBlockDelta { .. } => "content_block_delta",
            Self::ContentBlockStop { .. } => "content_block_stop",
            Self::MessageDelta { .. } => "message_delta",
            Self::MessageStop => "message_stop",
            Self::Ping => "ping",
            Self::Error { .. } => "error",
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{BlockDelta, MessageEvent};

    #[test]
    fn an_event_says_its_type() {
        let event = MessageEvent::ContentBlockDelta {
            index: 1,
            delta: BlockDelta::InputJson {
                partial_json: "{".to_owned(),
            },
        };
        let expected = json!({
            "type": event.name(), "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{"},
        });
        assert_eq!(serde_json::to_value(&event).unwrap(), expected);
        assert_eq!(
            serde_json::to_value(MessageEvent::Ping).unwrap(),
            json!({"type": "ping"})
        );
    }
}
