//! A fake engine: reads prompts one after the other, skips what its block cache holds, and answers as engines do.

use std::{convert::Infallible, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde_json::{Value, json};
use testkit::{
    block_cache::{BLOCK_TOKENS, BlockCache},
    traffic::Prompt,
};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Seconds to read a token.
const SECONDS_PER_TOKEN: f64 = 80e-6;
/// Seconds that every request takes at least.
const SECONDS_PER_REQUEST: f64 = 0.01;
/// Seconds between two tokens of an answer; answers do not wait for each other.
const SECONDS_PER_ANSWERED_TOKEN: f64 = 0.015;

type Stream = StreamBody<futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;
type Answer = Response<Either<Full<Bytes>, Stream>>;

/// One replica.
#[derive(Debug)]
pub(super) struct Engine {
    speed: f64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cache: BlockCache,
    free_at: Instant,
    read: Read,
}

/// What an engine has read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Read {
    /// Tokens of all prompts that it was sent.
    pub(super) tokens: usize,
    /// Those of them that were cached.
    pub(super) cached_tokens: usize,
    /// How long it read.
    pub(super) busy: Duration,
}

/// What becomes of a prompt.
#[derive(Debug, Clone, Copy)]
struct Served {
    tokens: usize,
    cached_tokens: usize,
    first_token_at: Instant,
    ends_at: Instant,
}

impl Engine {
    /// An idle engine whose cache holds so many tokens.
    pub(super) fn new(cache_tokens: usize, speed: f64) -> Self {
        Self {
            speed,
            state: Mutex::new(State {
                cache: BlockCache::new(cache_tokens),
                free_at: Instant::now(),
                read: Read::default(),
            }),
        }
    }

    /// What it has read so far.
    pub(super) fn read(&self) -> Read {
        self.state.lock().read
    }

    /// Takes a prompt; it is read when those before it are.
    fn take(&self, prompt: &[u64], answered_tokens: u64) -> Served {
        let mut state = self.state.lock();
        let tokens = prompt.len() * BLOCK_TOKENS;
        let cached_tokens = state.cache.read(prompt) * BLOCK_TOKENS;
        let missed = (tokens - cached_tokens) as f64;
        let busy = self.lasting(SECONDS_PER_REQUEST + missed * SECONDS_PER_TOKEN);
        let first_token_at = state.free_at.max(Instant::now()) + busy;
        state.free_at = first_token_at;
        state.read.tokens += tokens;
        state.read.cached_tokens += cached_tokens;
        state.read.busy += busy;
        let answering = self.lasting(answered_tokens as f64 * SECONDS_PER_ANSWERED_TOKEN);
        Served {
            tokens,
            cached_tokens,
            first_token_at,
            ends_at: first_token_at + answering,
        }
    }

    fn lasting(&self, seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds / self.speed)
    }
}

/// Serves an engine until it is dropped.
pub(super) async fn serve(listener: TcpListener, engine: Arc<Engine>) -> Result<()> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accepting a connection")?;
                stream.set_nodelay(true).context("preparing a connection")?;
                let engine = Arc::clone(&engine);
                connections.spawn(async move {
                    let service = service_fn(|request| answer(&engine, request));
                    let mut builder = hyper::server::conn::http1::Builder::new();
                    builder.timer(TokioTimer::new());
                    // A router may close its connections when it likes.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(engine: &Engine, request: Request<Incoming>) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    Ok(match path.as_str() {
        "/v1/chat/completions" => chat(engine, &body),
        "/v1/models" => whole(&json!({"object": "list", "data": [
            {"id": "m", "object": "model", "created": 1_700_000_000, "owned_by": "vllm"},
        ]})),
        "/health" | "/health_generate" => whole(&json!({})),
        _ => whole(&json!({"model_path": "m", "served_model_name": "m", "is_generation": true})),
    })
}

fn whole(value: &Value) -> Answer {
    let mut response = Response::new(Either::Left(Full::new(Bytes::from(value.to_string()))));
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Streams the first token when the prompt is read, and the rest when the answer is complete.
fn chat(engine: &Engine, body: &[u8]) -> Answer {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut prompt = Prompt::default();
    for message in request["messages"].as_array().into_iter().flatten() {
        let text = |name: &str| message[name].as_str().unwrap_or_default();
        prompt.say(text("role"), text("content"));
    }
    let served = engine.take(&prompt.blocks, request["max_tokens"].as_u64().unwrap_or(1));
    let first = futures::stream::once(async move {
        sleep_until(served.first_token_at).await;
        event(
            &json!({"choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": null}]}),
        )
    });
    let last = futures::stream::once(async move {
        sleep_until(served.ends_at).await;
        let stop = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
        event(&stop) + &event(&usage(served)) + "data: [DONE]\n\n"
    });
    let frames = futures::StreamExt::map(futures::StreamExt::chain(first, last), |text| {
        Ok(Frame::data(Bytes::from(text)))
    });
    let mut response = Response::new(Either::Right(StreamBody::new(Box::pin(frames) as _)));
    let events = http::HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, events);
    response
}

fn usage(served: Served) -> Value {
    json!({"choices": [], "usage": {
        "prompt_tokens": served.tokens, "completion_tokens": 1, "total_tokens": served.tokens + 1,
        "prompt_tokens_details": {"cached_tokens": served.cached_tokens},
    }})
}

fn event(fields: &Value) -> String {
    let mut event = json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "model": "m"});
    if let (Some(event), Some(fields)) = (event.as_object_mut(), fields.as_object()) {
        event.extend(fields.clone());
    }
    format!("data: {event}\n\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BLOCK_TOKENS, Engine};

    #[test]
    fn a_prompt_waits_for_those_before_it_and_skips_what_is_cached() {
        let engine = Engine::new(1 << 20, 1.0);
        let prompt: Vec<u64> = (0..1000).collect();
        let first = engine.take(&prompt, 0);
        assert_eq!(first.cached_tokens, 0);
        let second = engine.take(&prompt, 0);
        assert_eq!(second.cached_tokens, 1000 * BLOCK_TOKENS);
        let waited = second.first_token_at - first.first_token_at;
        assert_eq!(waited, Duration::from_millis(10));
    }
}
