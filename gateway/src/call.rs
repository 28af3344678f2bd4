//! One call of the API: what is asked for, by whom, since when.

use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::{Builder, fmt::Simple};

use crate::observe::Trace;

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
    /// `POST /v1/responses/input_tokens`.
    #[serde(rename = "responses_input_tokens")]
    ResponseTokenCount,
    /// `POST /v1/responses/compact`.
    #[serde(rename = "responses_compact")]
    ResponseCompaction,
    /// `POST /v1/rerank`, of Cohere's and Jina's APIs.
    #[serde(rename = "rerank")]
    Rerank,
    /// `POST /v1/moderations`.
    #[serde(rename = "moderations")]
    Moderation,
    /// `POST /tokenize`, of vLLM's API.
    #[serde(rename = "tokenize")]
    Tokenization,
    /// `POST /detokenize`, of vLLM's API.
    #[serde(rename = "detokenize")]
    Detokenization,
    /// `POST /v1/images/generations`.
    #[serde(rename = "image_generation")]
    ImageGeneration,
    /// `POST /v1/images/edits`.
    #[serde(rename = "image_edit")]
    ImageEdit,
    /// `POST /v1/images/variations`.
    #[serde(rename = "image_variation")]
    ImageVariation,
    /// `POST /v1/audio/speech`.
    #[serde(rename = "speech")]
    Speech,
    /// `POST /v1/audio/transcriptions`.
    #[serde(rename = "transcription")]
    Transcription,
    /// `POST /v1/audio/translations`.
    #[serde(rename = "translation")]
    Translation,
    /// `GET /v1/realtime`, a WebSocket.
    #[serde(rename = "realtime")]
    Realtime,
    /// `tools/call` of the Model Context Protocol, which has paths of its own.
    #[serde(rename = "execute_tool")]
    ToolCall,
    /// A message of the Agent2Agent protocol, which has paths of its own.
    #[serde(rename = "invoke_agent")]
    AgentCall,
}

/// Whose API an operation belongs to, which decides the shape of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Surface {
    /// OpenAI's, which knows errors by `error.code`.
    OpenAi,
    /// Anthropic's.
    Anthropic,
    /// Ollama's, whose errors are a text.
    Ollama,
}

impl Operation {
    /// All operations of models, in the order of their declaration.
    pub(crate) const ALL: [Self; 19] = [
        Self::Chat,
        Self::Completion,
        Self::Embedding,
        Self::Response,
        Self::Message,
        Self::TokenCount,
        Self::ResponseTokenCount,
        Self::ResponseCompaction,
        Self::Rerank,
        Self::Moderation,
        Self::Tokenization,
        Self::Detokenization,
        Self::ImageGeneration,
        Self::ImageEdit,
        Self::ImageVariation,
        Self::Speech,
        Self::Transcription,
        Self::Translation,
        Self::Realtime,
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
            Self::ResponseTokenCount => "/responses/input_tokens",
            Self::ResponseCompaction => "/responses/compact",
            Self::Rerank => "/rerank",
            Self::Moderation => "/moderations",
            Self::Tokenization => "/tokenize",
            Self::Detokenization => "/detokenize",
            Self::ImageGeneration => "/images/generations",
            Self::ImageEdit => "/images/edits",
            Self::ImageVariation => "/images/variations",
            Self::Speech => "/audio/speech",
            Self::Transcription => "/audio/transcriptions",
            Self::Translation => "/audio/translations",
            Self::Realtime => "/realtime",
            Self::ToolCall => "/mcp",
            Self::AgentCall => "/a2a",
        }
    }

    /// Whether servers have it beside `/v1`, not below.
    pub(crate) const fn is_beside_v1(self) -> bool {
        matches!(self, Self::Tokenization | Self::Detokenization)
    }

    /// The name in metrics and the ledger, as OpenTelemetry has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Chat | Self::Response | Self::Message => "chat",
            Self::Completion => "text_completion",
            Self::Embedding => "embeddings",
            Self::TokenCount | Self::ResponseTokenCount => "count_tokens",
            Self::ResponseCompaction => "compact",
            Self::Rerank => "rerank",
            Self::Moderation => "moderation",
            Self::Tokenization => "tokenize",
            Self::Detokenization => "detokenize",
            Self::ImageGeneration => "image_generation",
            Self::ImageEdit => "image_edit",
            Self::ImageVariation => "image_variation",
            Self::Speech => "speech",
            Self::Transcription => "transcription",
            Self::Translation => "translation",
            Self::Realtime => "realtime",
            Self::ToolCall => "execute_tool",
            Self::AgentCall => "invoke_agent",
        }
    }

    /// Whether the field `stream` asks for a stream.
    pub(crate) const fn can_stream(self) -> bool {
        match self {
            Self::Chat
            | Self::Completion
            | Self::Response
            | Self::Message
            | Self::ImageGeneration
            | Self::ImageEdit
            | Self::Transcription => true,
            Self::Embedding
            | Self::TokenCount
            | Self::ResponseTokenCount
            | Self::ResponseCompaction
            | Self::Rerank
            | Self::Moderation
            | Self::Tokenization
            | Self::Detokenization
            | Self::ImageVariation
            | Self::Speech
            | Self::Realtime
            | Self::Translation
            | Self::ToolCall
            | Self::AgentCall => false,
        }
    }

    /// Whether a request may be a form, with a file in it.
    pub(crate) const fn takes_form(self) -> bool {
        matches!(
            self,
            Self::ImageEdit | Self::ImageVariation | Self::Transcription | Self::Translation
        )
    }

    /// Whether a model writes an answer of its own, whose length is guessed before it is known.
    pub(crate) const fn has_output(self) -> bool {
        match self {
            Self::Chat
            | Self::Completion
            | Self::Response
            | Self::Message
            | Self::ResponseCompaction
            | Self::ImageGeneration
            | Self::ImageEdit
            | Self::ImageVariation
            | Self::Speech
            | Self::Transcription
            | Self::Realtime
            | Self::Translation => true,
            Self::Embedding
            | Self::TokenCount
            | Self::ResponseTokenCount
            | Self::Rerank
            | Self::Moderation
            | Self::Tokenization
            | Self::Detokenization
            | Self::ToolCall
            | Self::AgentCall => false,
        }
    }

    /// The model that is meant where a request names none, as OpenAI's API has it.
    pub(crate) const fn default_model(self) -> Option<&'static str> {
        match self {
            Self::Moderation => Some("omni-moderation-latest"),
            Self::ImageGeneration | Self::ImageVariation => Some("dall-e-2"),
            Self::ImageEdit => Some("gpt-image-1.5"),
            _ => None,
        }
    }

    /// Whose API it belongs to.
    pub(crate) const fn surface(self) -> Surface {
        match self {
            Self::Message | Self::TokenCount => Surface::Anthropic,
            _ => Surface::OpenAi,
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
    /// The trace that it belongs to.
    pub(crate) trace: Option<Box<Trace>>,
}

impl Call {
    /// A call that came just now.
    pub(crate) fn new(id: String, operation: Operation) -> Self {
        Self {
            id,
            operation,
            started: Instant::now(),
            started_at: Timestamp::now(),
            trace: None,
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
