//! What `/v1/responses` answers with.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Reasoning, ResponseFunctionTool, ResponseText, ResponseToolChoice};

/// A response, complete or in the making.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResponseObject {
    /// `resp_…`.
    pub id: String,
    /// Always `response`.
    pub object: String,
    /// Unix seconds.
    pub created_at: i64,
    /// Unix seconds, once complete.
    pub completed_at: Option<i64>,
    /// How far it is.
    pub status: ResponseStatus,
    /// What went wrong, if it failed.
    pub error: Option<ResponseError>,
    /// Why it is not complete, if it ended early.
    pub incomplete_details: Option<IncompleteDetails>,
    /// As in the request.
    pub instructions: Option<String>,
    /// As in the request.
    pub max_output_tokens: Option<u32>,
    /// The model that answers.
    pub model: String,
    /// What it made.
    pub output: Vec<OutputItem>,
    /// As in the request.
    pub parallel_tool_calls: bool,
    /// Always `None`: nothing is stored.
    pub previous_response_id: Option<String>,
    /// As in the request.
    pub reasoning: Option<Reasoning>,
    /// Always false.
    pub store: bool,
    /// As in the request, or the default.
    pub temperature: f32,
    /// As in the request.
    pub text: ResponseText,
    /// As in the request.
    pub tool_choice: ResponseToolChoice,
    /// As in the request.
    pub tools: Vec<ResponseFunctionTool>,
    /// As in the request.
    pub top_logprobs: u32,
    /// As in the request, or the default.
    pub top_p: f32,
    /// Always `disabled`: a prompt that does not fit is refused.
    pub truncation: String,
    /// Tokens used, once complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ResponseUsage>,
    /// As in the request.
    pub metadata: Map<String, Value>,
}

/// How far a response or an item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// In the making.
    InProgress,
    /// Complete.
    Completed,
    /// Ended before it was complete.
    Incomplete,
    /// Failed.
    Failed,
}

/// What went wrong with a response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseError {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

/// Why a response is not complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncompleteDetails {
    /// `max_output_tokens`.
    pub reason: String,
}

/// Something that the model made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputItem {
    /// Something said.
    Message {
        /// `msg_…`.
        id: String,
        /// How far it is.
        status: ResponseStatus,
        /// Always `assistant`.
        role: String,
        /// The text.
        content: Vec<OutputContent>,
    },
    /// A call of a function.
    FunctionCall {
        /// `fc_…`.
        id: String,
        /// What the output of the call refers to.
        call_id: String,
        /// The function's name.
        name: String,
        /// The arguments as JSON text.
        arguments: String,
        /// How far it is.
        status: ResponseStatus,
    },
    /// Thoughts.
    Reasoning {
        /// `rs_…`.
        id: String,
        /// How far it is.
        status: ResponseStatus,
        /// Always empty: thoughts are not summarised.
        summary: Vec<Value>,
        /// The thoughts.
        content: Vec<ReasoningPart>,
        /// What the client sends back so that the model's maker knows its thoughts; our engine needs none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        encrypted_content: Option<String>,
    },
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OutputContent {
    /// Text.
    OutputText(OutputText),
    /// Why the model did not do what it was asked.
    Refusal {
        /// The text.
        refusal: String,
    },
}

/// The text of a message.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct OutputText {
    /// The text.
    pub text: String,
    /// Always empty.
    pub annotations: Vec<Value>,
    /// One entry a token, if asked for.
    pub logprobs: Vec<OutputLogprob>,
}

/// A part of thoughts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReasoningPart {
    /// Text.
    ReasoningText {
        /// The text.
        text: String,
    },
}

/// A part as events show it: of a message or of thoughts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ContentPartKind {
    /// Of a message.
    Output(OutputContent),
    /// Of thoughts.
    Reasoning(ReasoningPart),
}

/// A token and the likeliest alternatives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputLogprob {
    /// The token's text.
    pub token: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Its log probability, natural logarithm.
    pub logprob: f32,
    /// The likeliest tokens here, best first.
    pub top_logprobs: Vec<super::super::TopLogprob>,
}

/// Tokens that a response used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseUsage {
    /// Tokens of the prompt.
    pub input_tokens: u64,
    /// Where they came from.
    pub input_tokens_details: InputTokensDetails,
    /// Tokens of the answer.
    pub output_tokens: u64,
    /// What they were for.
    pub output_tokens_details: OutputTokensDetails,
    /// Both together.
    pub total_tokens: u64,
}

/// Where the prompt's tokens came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputTokensDetails {
    /// Tokens whose keys and values were cached.
    pub cached_tokens: u64,
    /// Always 0: writing to the cache costs nothing.
    #[serde(default)]
    pub cache_write_tokens: u64,
}

/// What the answer's tokens were for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputTokensDetails {
    /// Tokens of reasoning.
    pub reasoning_tokens: u64,
}

impl From<super::super::Usage> for ResponseUsage {
    fn from(usage: super::super::Usage) -> Self {
        let cached_tokens = usage
            .prompt_tokens_details
            .map_or(0, |details| details.cached_tokens);
        let reasoning_tokens = usage
            .completion_tokens_details
            .map_or(0, |details| details.reasoning_tokens);
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails { reasoning_tokens },
            total_tokens: usage.total_tokens,
        }
    }
}
