//! `POST /v1/completions`.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::response::{IntoResponse, Response};
use engine_models::Tokenizer;
use futures::future::try_join_all;
use futures::{Stream, StreamExt, stream};
use protocol::openai::{
    CompletionChoice, CompletionLogprobs, CompletionRequest, CompletionResponse, Usage,
};
use serde_json::{Map, Value, json};

use crate::runner::TokenEvent;

use super::answer::{ChunkOrError, collect, event_stream, stopped, total, usage};
use super::decode;
use super::fault::Fault;
use super::submit::{Tokens, answer_max, engine, submit};
use super::{Shared, parameters, prompt};

/// The API's default.
const ANSWER_DEFAULT: usize = 16;

/// Completes each prompt, at once or as it comes.
pub(super) async fn create(
    axum::extract::State(state): Shared,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Fault> {
    let object = decode::object(body)?;
    let request: CompletionRequest =
        decode::request(object, &[("model", json!("")), ("prompt", json!(""))])?;
    let engine = engine(&state, &request.model)?;
    let parameters = parameters::of_completion(&request)?;
    let answer_max = answer_max("max_tokens", request.max_tokens)?.unwrap_or(ANSWER_DEFAULT);
    let CompletionRequest {
        model,
        prompt,
        stream,
        stream_options,
        ..
    } = request;
    let prompts = prompt::encode(&engine, move |engine| {
        prompt::of_completion(engine, &prompt)
    })
    .await?;
    let submitted = prompts
        .into_iter()
        .map(|prompt| submit(&engine, prompt, &parameters, Some(answer_max), "prompt"));
    let answers = try_join_all(submitted).await?;
    let head = Head {
        id: format!("cmpl-{}", uuid::Uuid::now_v7().simple()),
        created: jiff::Timestamp::now().as_second(),
        model,
        tokenizer: Arc::clone(&engine.tokenizer),
        has_logprobs: parameters.sampling.logprobs.is_some(),
    };
    if stream.unwrap_or(false) {
        let has_usage = stream_options.unwrap_or_default().include_usage;
        return Ok(event_stream(chunks(head, answers, has_usage)));
    }
    Ok(Json(whole(head, answers).await?).into_response())
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

impl Head {
    fn response(&self, choices: Vec<CompletionChoice>, usage: Option<Usage>) -> CompletionResponse {
        let (id, model, created) = (self.id.clone(), self.model.clone(), self.created);
        CompletionResponse {
            id,
            object: "text_completion".to_owned(),
            created,
            model,
            choices,
            usage,
        }
    }
}

async fn whole(head: Head, answers: Vec<Tokens>) -> Result<CompletionResponse, Fault> {
    let answers = try_join_all(answers.into_iter().map(collect)).await?;
    let usage = total(answers.iter().map(|answer| answer.usage));
    let choices = (0..).zip(answers).map(|(index, answer)| CompletionChoice {
        index,
        logprobs: head
            .has_logprobs
            .then(|| logprobs(&head.tokenizer, &answer.tokens, &mut 0)),
        text: answer.text,
        finish_reason: Some(answer.finish.as_str().to_owned()),
    });
    Ok(head.response(choices.collect(), Some(usage)))
}

/// One prompt's answer while it streams.
struct Streaming {
    head: Arc<Head>,
    index: u32,
    tokens: Tokens,
    count: usize,
    offset: u32,
}

/// The chunk of a token, and the usage once the answer is complete.
type Part = (ChunkOrError<CompletionResponse>, Option<Usage>);

fn chunks(
    head: Head,
    answers: Vec<Tokens>,
    has_usage: bool,
) -> impl Stream<Item = ChunkOrError<CompletionResponse>> + Send {
    let head = Arc::new(head);
    let streams = (0..).zip(answers).map(|(index, tokens)| {
        let state = Streaming {
            head: Arc::clone(&head),
            index,
            tokens,
            count: 0,
            offset: 0,
        };
        stream::unfold(Some(state), |state| async { state?.next().await }).boxed()
    });
    let merged = stream::select_all(streams)
        .map(Some)
        .chain(stream::once(async { None }));
    let sum = Usage::default();
    merged
        .scan(sum, move |sum, part| {
            let chunk = match part {
                Some((chunk, usage)) => {
                    *sum = total([*sum].into_iter().chain(usage));
                    Some(chunk)
                }
                None if has_usage => {
                    Some(ChunkOrError::Chunk(head.response(Vec::new(), Some(*sum))))
                }
                None => None,
            };
            async { Some(chunk) }
        })
        .filter_map(|chunk| async { chunk })
}

impl Streaming {
    async fn next(mut self) -> Option<(Part, Option<Self>)> {
        let Some(event) = self.tokens.next().await else {
            return Some(((stopped(), None), None));
        };
        self.count += 1;
        let events = std::slice::from_ref(&event);
        let logprobs = self
            .head
            .has_logprobs
            .then(|| logprobs(&self.head.tokenizer, events, &mut self.offset));
        let finish_reason = event.finish.map(|finish| finish.as_str().to_owned());
        let choice = CompletionChoice {
            index: self.index,
            text: event.text,
            logprobs,
            finish_reason,
        };
        let chunk = ChunkOrError::Chunk(self.head.response(vec![choice], None));
        if event.finish.is_none() {
            return Some(((chunk, None), Some(self)));
        }
        let usage = usage(self.tokens.prompt_length, event.cached_tokens, self.count);
        Some(((chunk, Some(usage)), None))
    }
}

/// Log probabilities in the completions API's shape. `offset` is where the first token starts, in characters, and is
/// moved on.
fn logprobs(tokenizer: &Tokenizer, events: &[TokenEvent], offset: &mut u32) -> CompletionLogprobs {
    let text = |token: u32| String::from_utf8_lossy(&tokenizer.visible_bytes(token)).into_owned();
    let mut out = CompletionLogprobs::default();
    for event in events {
        let own = text(event.sampled.token);
        let top: Map<String, Value> = event
            .sampled
            .top
            .iter()
            .map(|(token, logprob)| (text(*token), Value::from(*logprob)))
            .collect();
        out.text_offset.push(*offset);
        *offset += u32::try_from(own.chars().count()).unwrap_or(0);
        out.tokens.push(own);
        out.token_logprobs.push(event.sampled.logprob);
        out.top_logprobs.push(Some(top));
    }
    out
}
