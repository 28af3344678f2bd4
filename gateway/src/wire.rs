//! Translation between the APIs of models: a request, its answer, its stream and its errors.
//!
//! Each API is a folder of steps to and from one neutral form (`conversation`, `reply`, `delta`), so that a new API
//! costs one folder and not one for each pair. Nothing here does I/O or knows the time. What the upstream's API cannot
//! say is refused where leaving it out would change the answer; `docs/concepts/gateway-translation.md` lists the rest.

mod base64;
mod bedrock;
mod calls;
mod chat;
mod completions;
mod conversation;
mod delta;
mod embeddings;
mod error;
mod fields;
mod gemini;
mod json;
mod media;
mod messages;
mod ollama;
mod refusal;
mod reply;
mod responses;
mod stream;
mod turns;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;

pub(crate) use self::{
    embeddings::{EmbeddingsApi, EmbeddingsExchange, translate_embeddings_request},
    error::translate_error,
    ollama::{EmbedForm, answer_embeddings, ask_embeddings, generation_as_chat, with_model},
    stream::Translation,
};
use crate::provider::Tokens;

/// An API that requests come in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ClientApi {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's messages.
    Messages,
    /// OpenAI's responses.
    Responses,
    /// OpenAI's completions, from before there were chats.
    Completions,
    /// Ollama's chats.
    Ollama,
    /// Ollama's answers to one prompt.
    Generate,
}

/// An API that upstreams answer by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum UpstreamApi {
    /// OpenAI's chat completions.
    Chat,
    /// Anthropic's messages.
    Messages,
    /// Google's `generateContent`, at Gemini's API and at Vertex.
    Gemini,
    /// Amazon Bedrock's `Converse`.
    Bedrock,
    /// Ollama's chats.
    Ollama,
}

/// One request on its way from a client's API to an upstream's, and its answer on the way back.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// The API that the request came by.
    pub(crate) client: ClientApi,
    /// The API that it goes out by.
    pub(crate) upstream: UpstreamApi,
    /// The model as the client named it; answers show this name.
    pub(crate) model: String,
    /// The model as the upstream names it.
    pub(crate) upstream_model: String,
    /// Whether the answer is streamed.
    pub(crate) stream: bool,
    /// The request's id: answers carry it where the upstream gives them none.
    pub(crate) request_id: String,
    /// When the request came, Unix seconds.
    pub(crate) created: i64,
    /// The client's body: answers in OpenAI's responses repeat parts of it.
    pub(crate) request: Bytes,
}

impl Exchange {
    /// The id of an answer, with the prefix that the client's API has.
    fn answer_id(&self, prefix: &str, upstream_id: Option<&str>) -> String {
        let id = upstream_id.unwrap_or(&self.request_id);
        let known = ["chatcmpl-", "cmpl-", "msg_", "resp_", "req_"];
        let bare = known.iter().find_map(|prefix| id.strip_prefix(prefix));
        format!("{prefix}{}", bare.unwrap_or(id))
    }
}

/// What an upstream's answer is translated back by.
#[derive(Debug)]
pub(crate) enum Back {
    /// A conversation.
    Conversation(Exchange),
    /// Embeddings.
    Embeddings(EmbeddingsExchange),
}

impl Back {
    /// The conversation, if it is one.
    pub(crate) const fn conversation(&self) -> Option<&Exchange> {
        match self {
            Self::Conversation(exchange) => Some(exchange),
            Self::Embeddings(_) => None,
        }
    }

    /// The client's answer, from the upstream's, whose head counts so many tokens of the prompt.
    ///
    /// # Errors
    /// [`InvalidReply`] if it is not an answer of the upstream's API.
    pub(crate) fn translate(
        &self,
        counted: Option<u64>,
        body: &[u8],
    ) -> Result<TranslatedReply, InvalidReply> {
        match self {
            Self::Conversation(exchange) => translate_reply(exchange, body),
            Self::Embeddings(exchange) => {
                embeddings::translate_embeddings_reply(exchange, counted, body)
            }
        }
    }

    /// The body of an error in the client's shape.
    pub(crate) fn translate_error(&self, status: u16, body: &[u8]) -> Bytes {
        let client = match self {
            Self::Conversation(exchange) => exchange.client,
            // OpenAI's errors look alike everywhere.
            Self::Embeddings(_) => ClientApi::Chat,
        };
        translate_error(client, status, body)
    }
}

/// Why a request cannot be translated: the client's fault, a 400.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}{message}", place(param))]
pub(crate) struct InvalidRequest {
    /// Where the fault is, as `messages[2].content[0]`; empty for the whole body.
    pub(crate) param: String,
    /// What is wrong there and what to do.
    pub(crate) message: String,
}

impl InvalidRequest {
    fn new(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            param: param.into(),
            message: message.into(),
        }
    }
}

fn place(param: &str) -> String {
    match param {
        "" => String::new(),
        param => format!("`{param}` "),
    }
}

/// Why an answer cannot be translated: the upstream's fault.
#[derive(Debug, Error)]
pub(crate) enum InvalidReply {
    /// It is not what the upstream's API answers with.
    #[error("the answer is not one of the upstream's API: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Something that has to be there is not.
    #[error("the answer has no {0}")]
    Incomplete(&'static str),
    /// The stream is not cut into events.
    #[error("the stream is broken: {0}")]
    Stream(#[from] protocol::sse::InvalidStream),
    /// A part of it is longer than an answer can be.
    #[error("the answer is too long")]
    TooLong,
    /// The model called a tool with arguments that are not a JSON object.
    #[error("the model called a tool with arguments that are not a JSON object")]
    Arguments,
    /// A frame of a binary stream is broken.
    #[error("a frame of the stream is broken: {0}")]
    Frame(&'static str),
    /// It says something that the client's API has no words for.
    #[error("the answer holds {0}, which the client's API cannot tell")]
    Untold(&'static str),
    /// The model went wrong and made no answer.
    #[error("the model made no answer that can be used: {0}")]
    Unfinished(String),
    /// Calls of tools come in pieces that cannot be put in order.
    #[error("the stream goes back to a call of a tool that was complete")]
    Interleaved,
}

/// A complete answer in the client's API.
#[derive(Debug)]
pub(crate) struct TranslatedReply {
    /// The body.
    pub(crate) body: Bytes,
    /// Tokens used.
    pub(crate) tokens: Tokens,
}

/// The body for the upstream.
///
/// # Errors
/// [`InvalidRequest`] if the body is malformed or asks for something that the upstream's API has no words for.
pub(crate) fn translate_request(exchange: &Exchange, body: &[u8]) -> Result<Bytes, InvalidRequest> {
    let conversation = match exchange.client {
        ClientApi::Chat => chat::decode_request(body),
        ClientApi::Messages => messages::decode_request(body),
        ClientApi::Responses => responses::decode_request(body),
        ClientApi::Completions => completions::decode_request(body),
        ClientApi::Ollama => ollama::decode_request(body),
        ClientApi::Generate => ollama::decode_generation(body),
    }?;
    let encoded = match exchange.upstream {
        UpstreamApi::Chat => chat::encode_request(exchange, conversation),
        UpstreamApi::Messages => messages::encode_request(exchange, conversation),
        UpstreamApi::Gemini => gemini::encode_request(exchange, conversation),
        UpstreamApi::Bedrock => bedrock::encode_request(exchange, conversation),
        UpstreamApi::Ollama => ollama::encode_request(exchange, conversation),
    };
    encoded.map_err(|invalid| refusal::in_words_of(exchange.client, invalid))
}

/// The client's answer, from the upstream's.
///
/// # Errors
/// [`InvalidReply`] if it is not an answer of the upstream's API.
pub(crate) fn translate_reply(
    exchange: &Exchange,
    body: &[u8],
) -> Result<TranslatedReply, InvalidReply> {
    let reply = match exchange.upstream {
        UpstreamApi::Chat => chat::decode_reply(body),
        UpstreamApi::Messages => messages::decode_reply(body),
        UpstreamApi::Gemini => gemini::decode_reply(&exchange.request_id, body),
        UpstreamApi::Bedrock => bedrock::decode_reply(body),
        UpstreamApi::Ollama => ollama::decode_reply(&exchange.request_id, body),
    }?;
    let tokens = reply.usage.into();
    let body = match exchange.client {
        ClientApi::Chat => chat::encode_reply(exchange, reply),
        ClientApi::Messages => messages::encode_reply(exchange, reply)?,
        ClientApi::Responses => responses::encode_reply(exchange, reply),
        ClientApi::Completions => completions::encode_reply(exchange, reply)?,
        ClientApi::Ollama | ClientApi::Generate => ollama::encode_reply(exchange, reply)?,
    };
    Ok(TranslatedReply { body, tokens })
}

/// The bytes of a body that we made ourselves.
fn to_body(body: &impl Serialize) -> Bytes {
    // Maps with keys of text and numbers from JSON serialise without fail.
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
mod tests;
