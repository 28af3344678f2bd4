//! The OpenAI API: what clients send, what engines, agents and the gateway answer.
//!
//! Source: the OpenAI API reference (chat completions, completions, embeddings, responses, models, errors). Fields that
//! we do not read stay in `rest`, so that a request can be passed on as it came.

mod chat;
mod completion;
mod embedding;
mod error;
mod model;
mod responses;

pub use chat::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatDelta, ChatMessage, ChatRequest, ChatResponse,
    Content, ContentPart, FunctionCall, FunctionCallDelta, Logprobs, StreamOptions, TokenLogprob,
    ToolCall, ToolCallDelta, TopLogprob,
};
pub use completion::{
    CompletionChoice, CompletionLogprobs, CompletionRequest, CompletionResponse, Prompt,
};
pub use embedding::{
    Embedding, EmbeddingFormat, EmbeddingList, EmbeddingRequest, EmbeddingUsage, EmbeddingVector,
};
pub use error::{ErrorBody, ErrorDetail, ErrorKind};
pub use model::{Model, ModelList};
pub use responses::{
    ContentPartKind, IncompleteDetails, InputItem, InputItemKind, OutputContent, OutputItem,
    OutputLogprob, OutputText, Reasoning, ReasoningPart, ResponseContent, ResponseError,
    ResponseEvent, ResponseFormat, ResponseFunctionTool, ResponseInput, ResponseObject,
    ResponseStatus, ResponseText, ResponseToolChoice, ResponseUsage, ResponsesRequest,
    SequencedEvent,
};

use serde::{Deserialize, Serialize};

/// Tokens that a request used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens of the answer.
    pub completion_tokens: u64,
    /// Both together.
    pub total_tokens: u64,
    /// What part of the prompt came from the prefix cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_tokens_details: Option<PromptTokensDetails>,
    /// What part of the answer was reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_tokens_details: Option<CompletionTokensDetails>,
}

/// What the answer's tokens were for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletionTokensDetails {
    /// Tokens of reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
}

/// Where the prompt's tokens came from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptTokensDetails {
    /// Tokens whose keys and values were cached.
    pub cached_tokens: u64,
}

impl Usage {
    /// Adds up a prompt and an answer.
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens + completion_tokens,
            prompt_tokens_details: None,
            completion_tokens_details: None,
        }
    }
}

/// `stop`: one string or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Stop {
    /// One stop string.
    One(String),
    /// Up to four stop strings.
    Many(Vec<String>),
}

impl Stop {
    /// All stop strings.
    pub fn strings(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}
