//! Blocks: what messages consist of.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A text, or blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum BlockContent {
    /// Plain text.
    Text(String),
    /// Typed blocks.
    Blocks(Vec<Block>),
}

/// One block of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Block {
    /// Text.
    Text {
        /// The text.
        text: String,
    },
    /// A call of a tool, by the model.
    ToolUse {
        /// The call's id.
        id: String,
        /// The tool's name.
        name: String,
        /// The arguments.
        input: Value,
    },
    /// What a call gave.
    ToolResult {
        /// The call's id.
        tool_use_id: String,
        /// What it gave.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<BlockContent>,
        /// Whether it failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
    /// Thoughts of the model.
    Thinking {
        /// The text.
        thinking: String,
        /// Proof of where the thoughts come from; empty with models that have none.
        #[serde(default)]
        signature: String,
    },
    /// Thoughts that cannot be read.
    RedactedThinking {
        /// Something that only the model's maker can read.
        data: String,
    },
    /// A picture.
    Image {
        /// Where it is.
        source: ImageSource,
    },
    /// A document.
    Document(Map<String, Value>),
}

/// Where a picture is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ImageSource {
    /// `base64` or `url`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl Block {
    /// The block's type.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Text { .. } => "text",
            Self::ToolUse { .. } => "tool_use",
            Self::ToolResult { .. } => "tool_result",
            Self::Thinking { .. } => "thinking",
            Self::RedactedThinking { .. } => "redacted_thinking",
            Self::Image { .. } => "image",
            Self::Document(_) => "document",
        }
    }
}
