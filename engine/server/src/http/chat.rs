//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use engine_models::Tokenizer;
use futures::{Stream, StreamExt, stream};
use protocol::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatDelta, ChatMessage, ChatRequest, ChatResponse,
    Logprobs, TokenLogprob, TopLogprob,
};
use serde_json::json;

use crate::runner::TokenEvent;

use super::answer::{ChunkOrError, collect, event_stream, stopped, usage};
use super::decode;
use super::fault::Fault;
use super::submit::{Tokens, answer_max, engine, submit};
use super::{Shared, parameters, prompt};

/// Answers a chat, at once or as it comes.
pub(super) async fn create(
    axum::extract::State(state): Shared,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let mut object = decode::object(body)?;
    // Both names mean the same; who sends both means the newer one.
    let length_name = if object.contains_key("max_completion_tokens") {
        object.remove("max_tokens");
        "max_completion_tokens"
    } else {
        "max_tokens"
    };
    let request: ChatRequest =
        decode::request(object, &[("model", json!("")), ("messages", json!([]))])?;
    let engine = engine(&state, &request.model)?;
    let parameters = parameters::of_chat(&request)?;
    let answer_max = answer_max(length_name, request.max_completion_tokens)?;
    let (model, options) = (
        request.model.clone(),
        request.stream_options.unwrap_or_default(),
    );
    let is_streamed = request.stream.unwrap_or(false);
    let prompt = prompt::encode(&engine, move |engine| prompt::of_chat(engine, &request)).await?;
    let tokens = submit(&engine, prompt, &parameters, answer_max, "messages").await?;
    let head = Head {
        id: format!("chatcmpl-{}", uuid::Uuid::now_v7().simple()),
        created: jiff::Timestamp::now().as_second(),
        model,
        tokenizer: Arc::clone(&engine.tokenizer),
        has_logprobs: parameters.sampling.logprobs.is_some(),
    };
    if is_streamed {
        return Ok(event_stream(chunks(head, tokens, options.include_usage)));
    }
    Ok(Json(whole(head, tokens).await?).into_response())
}

/// What all parts of an answer share.
#[derive(Debug)]
struct Head {
    id: String,
    created: i64,
    model: String,
    tokenizer: Arc<Tokenizer>,
    has_logprobs: bool,
}

async fn whole(head: Head, tokens: Tokens) -> Result<ChatResponse, Fault> {
    let answer = collect(tokens).await?;
    let choice = ChatChoice {
        index: 0,
        message: ChatMessage::text("assistant", answer.text),
        logprobs: head
            .has_logprobs
            .then(|| logprobs(&head.tokenizer, &answer.tokens)),
        finish_reason: Some(answer.finish.as_str().to_owned()),
    };
    Ok(ChatResponse {
        id: head.id,
        object: "chat.completion".to_owned(),
        created: head.created,
        model: head.model,
        choices: vec![choice],
        usage: Some(answer.usage),
    })
}

/// The stream of an answer: the role, the text, the reason of the end, the usage if wanted.
fn chunks(
    head: Head,
    tokens: Tokens,
    has_usage: bool,
) -> impl Stream<Item = ChunkOrError<ChatChunk>> + Send {
    let role = ChatDelta {
        role: Some("assistant".to_owned()),
        content: Some(String::new()),
        ..ChatDelta::default()
    };
    let first = ChunkOrError::Chunk(head.chunk(role, None, None));
    let state = Some(Streaming {
        head,
        tokens,
        has_usage,
        count: 0,
    });
    let rest = stream::unfold(state, |state| async { state?.next().await });
    stream::once(async { first }).chain(rest.flat_map(stream::iter))
}

struct Streaming {
    head: Head,
    tokens: Tokens,
    has_usage: bool,
    count: usize,
}

impl Streaming {
    /// The chunks of the next token, and what remains.
    async fn next(mut self) -> Option<(Vec<ChunkOrError<ChatChunk>>, Option<Self>)> {
        let Some(event) = self.tokens.next().await else {
            return Some((vec![stopped()], None));
        };
        self.count += 1;
        let mut chunks = Vec::new();
        let logprobs = self
            .head
            .has_logprobs
            .then(|| logprobs(&self.head.tokenizer, std::slice::from_ref(&event)));
        if !event.text.is_empty() || logprobs.is_some() {
            let delta = ChatDelta {
                content: Some(event.text),
                ..ChatDelta::default()
            };
            chunks.push(self.head.chunk(delta, logprobs, None));
        }
        let Some(finish) = event.finish else {
            return Some((
                chunks.into_iter().map(ChunkOrError::Chunk).collect(),
                Some(self),
            ));
        };
        chunks.push(
            self.head
                .chunk(ChatDelta::default(), None, Some(finish.as_str())),
        );
        if self.has_usage {
            let mut last = self.head.chunk(ChatDelta::default(), None, None);
            last.choices.clear();
            last.usage = Some(usage(
                self.tokens.prompt_length,
                event.cached_tokens,
                self.count,
            ));
            chunks.push(last);
        }
        Some((chunks.into_iter().map(ChunkOrError::Chunk).collect(), None))
    }
}

impl Head {
    fn chunk(
        &self,
        delta: ChatDelta,
        logprobs: Option<Logprobs>,
        finish: Option<&str>,
    ) -> ChatChunk {
        let finish_reason = finish.map(str::to_owned);
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: vec![ChatChunkChoice {
                index: 0,
                delta,
                logprobs,
                finish_reason,
            }],
            usage: None,
        }
    }
}

/// Log probabilities in the chat API's shape.
fn logprobs(tokenizer: &Tokenizer, events: &[TokenEvent]) -> Logprobs {
    let top = |(token, logprob): &(u32, f32)| {
        let bytes = tokenizer.visible_bytes(*token);
        let token = String::from_utf8_lossy(&bytes).into_owned();
        TopLogprob {
            token,
            logprob: *logprob,
            bytes: Some(bytes),
        }
    };
    let content = events.iter().map(|event| {
        let own = (
            event.sampled.token,
            event.sampled.logprob.unwrap_or_default(),
        );
        let TopLogprob {
            token,
            logprob,
            bytes,
        } = top(&own);
        TokenLogprob {
            token,
            logprob,
            bytes,
            top_logprobs: event.sampled.top.iter().map(top).collect(),
        }
    });
    Logprobs {
        content: content.collect(),
    }
}
