//! One call of the API: what is asked for, by whom, since when.

use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::{Builder, fmt::Simple};

/// What can be asked of a model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Operation {
    /// `POST /v1/chat/completions`.
    #[default]
    #[serde(rename = "chat")]
    Chat,
    /// `POST /v1/completions`.
    #[serde(rename = "text_completion")]
    Completion,
    /// `POST /v1/embeddings`.
    #[serde(rename = "embeddings")]
    Embedding,
    /// `POST /v1/responses`.
    #[serde(rename = "responses")]
    Response,
    /// `POST /v1/messages`, of Anthropic's API.
    #[serde(rename = "messages")]
    Message,
    /// `POST /v1/messages/count_tokens`, of Anthropic's API.
    #[serde(rename = "count_tokens")]
    TokenCount,
    /// `tools/call` of the Model Context Protocol, which has paths of its own.
    #[serde(rename = "execute_tool")]
    ToolCall,
}

/// Whose API an operation belongs to, which decides the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// OpenAI's, which knows errors by `error.code`.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Surface {
    /// The surface of a path.
    pub(crate) fn of(path: &str) -> Self {
        if path.starts_with("/v1/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }
}

impl Operation {
    /// All operations of models.
    pub(crate) const ALL: [Self; 6] = [
        Self::Chat,
        Self::Completion,
        Self::Embedding,
        Self::Response,
        Self::Message,
        Self::TokenCount,
    ];

    /// The path below `/v1`.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completion => "/completions",
            Self::Embedding => "/embeddings",
            Self::Response => "/responses",
            Self::Message => "/messages",
            Self::TokenCount => "/messages/count_tokens",
            Self::ToolCall => "/mcp",
        }
    }

    /// The name in metrics and the ledger, as OpenTelemetry has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat | Self::Response | Self::Message => "chat",
            Self::Completion => "text_completion",
            Self::Embedding => "embeddings",
            Self::TokenCount => "count_tokens",
            Self::ToolCall => "execute_tool",
        }
    }

    /// Whether the answer can be streamed.
    pub(crate) const fn can_stream(self) -> bool {
        !matches!(self, Self::Embedding | Self::TokenCount | Self::ToolCall)
    }

    /// Whose API it belongs to.
    pub(crate) const fn surface(self) -> Surface {
        match self {
            Self::Chat | Self::Completion | Self::Embedding | Self::Response | Self::ToolCall => {
                Surface::OpenAi
            }
            Self::Message | Self::TokenCount => Surface::Anthropic,
        }
    }
}

/// One call of the API.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// The request's id, also in the `x-request-id` header of the answer.
    pub(crate) id: String,
    /// What is asked for.
    pub(crate) operation: Operation,
    /// When it came, for durations.
    pub(crate) started: Instant,
    /// When it came, for the ledger.
    pub(crate) started_at: Timestamp,
}

impl Call {
    /// A call that came just now.
    pub(crate) fn new(id: String, operation: Operation) -> Self {
        Self {
            id,
            operation,
            started: Instant::now(),
            started_at: Timestamp::now(),
        }
    }
}

/// A fresh request id; ids sort by time, to the millisecond.
pub(crate) fn request_id() -> String {
    const PREFIX: &str = "req_";
    let millis = Timestamp::now().as_millisecond();
    // The generator of this thread, not the system's: that would be a system call a request.
    let id = Builder::from_unix_timestamp_millis(
        u64::try_from(millis).unwrap_or(0),
        &rand::random::<[u8; 10]>(),
    );
    let mut text = [0; Simple::LENGTH];
    let digits = id.into_uuid().as_simple().encode_lower(&mut text);
    [PREFIX, digits].concat()
}
