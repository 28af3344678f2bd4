//! `POST /v1/messages` and `/v1/messages/count_tokens`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Block, BlockContent};

/// A request for a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessagesRequest {
    /// The model's name.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<InputMessage>,
    /// Most tokens to generate.
    pub max_tokens: u32,
    /// What the model is told before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<BlockContent>,
    /// Sampling temperature, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Nucleus mass, above 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Candidates kept before sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_k: Option<i64>,
    /// Texts that end the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_sequences: Option<Vec<String>>,
    /// Whether to stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Which of them it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether it thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// A request to count the tokens of a prompt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CountRequest {
    /// The model's name.
    pub model: String,
    /// The conversation so far.
    pub messages: Vec<InputMessage>,
    /// What the model is told before the conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<BlockContent>,
    /// Tools that the model may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<Tool>>,
    /// Which of them it calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether it thinks first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// The tokens of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountResponse {
    /// How many they are.
    pub input_tokens: u64,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputMessage {
    /// `user` or `assistant`.
    pub role: String,
    /// What is said.
    pub content: BlockContent,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// `custom`, or nothing; tools that the API's maker runs are not served.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// The schema of its arguments.
    #[serde(default)]
    pub input_schema: Option<Value>,
    /// Everything else.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// `tool_choice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToolChoice {
    /// The model decides.
    Auto {
        /// Whether it calls one tool at most.
        #[serde(default)]
        disable_parallel_tool_use: bool,
    },
    /// It calls a tool.
    Any {
        /// Whether it calls one tool at most.
        #[serde(default)]
        disable_parallel_tool_use: bool,
    },
    /// It calls this tool.
    Tool {
        /// The tool's name.
        name: String,
        /// Whether it calls one tool at most.
        #[serde(default)]
        disable_parallel_tool_use: bool,
    },
    /// It calls no tool.
    None,
}

/// `thinking`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Thinking {
    /// The model thinks first.
    Enabled {
        /// Most tokens of thoughts.
        #[serde(default)]
        budget_tokens: Option<u32>,
    },
    /// The model decides.
    Adaptive,
    /// The model does not think first.
    Disabled,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// `msg_…`.
    pub id: String,
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Always `assistant`.
    pub role: String,
    /// The model that answered.
    pub model: String,
    /// What it made.
    pub content: Vec<Block>,
    /// Why it ended, once it has.
    pub stop_reason: Option<StopReason>,
    /// Which stop sequence was met, if one was.
    pub stop_sequence: Option<String>,
    /// Tokens used.
    pub usage: MessageUsage,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The model said so.
    EndTurn,
    /// It has as many tokens as it may have.
    MaxTokens,
    /// A stop sequence was met.
    StopSequence,
    /// The model waits for what its calls give.
    ToolUse,
    /// A long answer was paused, to be sent again as it is.
    PauseTurn,
    /// The model may not answer this.
    Refusal,
    /// Prompt and answer fill the context.
    ModelContextWindowExceeded,
}

/// Tokens that a message used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageUsage {
    /// Tokens of the prompt that were not cached.
    pub input_tokens: u64,
    /// Tokens of the prompt that are cached now; our engine always says 0, since that costs nothing.
    pub cache_creation_input_tokens: u64,
    /// Tokens of the prompt that were cached.
    pub cache_read_input_tokens: u64,
    /// Tokens of the answer.
    pub output_tokens: u64,
}

impl From<crate::openai::Usage> for MessageUsage {
    fn from(usage: crate::openai::Usage) -> Self {
        let cached = usage
            .prompt_tokens_details
            .map_or(0, |details| details.cached_tokens);
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(cached),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: cached,
            output_tokens: usage.completion_tokens,
        }
    }
}
