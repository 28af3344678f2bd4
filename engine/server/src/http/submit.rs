//! Hands prompts to the step loop and waits until they are taken on.

use std::sync::Arc;

use engine_core::{AdapterId, Constraint, Generation, GenerationOptions, PromptLogprob, TokenId};
use tokio::sync::mpsc;

use crate::runner::{Event, Request, TokenEvent};
use crate::state::{Engine, State, SubmitError};

use super::fault::Fault;
use super::sampling::Making;

/// The tokens of one answer as they come. Dropping it ends the sequence.
#[derive(Debug)]
pub(super) struct Tokens {
    events: mpsc::UnboundedReceiver<Event>,
    pub(super) prompt_length: usize,
    /// What the model thought of the prompt, if asked for; complete before the first token.
    pub(super) prompt_logprobs: Vec<PromptLogprob>,
}

impl Tokens {
    /// The next token. A fault ends the answer.
    pub(super) async fn next(&mut self) -> Result<TokenEvent, Fault> {
        loop {
            match self.events.recv().await {
                Some(Event::Token(token)) => return Ok(token),
                Some(Event::Prompt(logprobs)) => self.prompt_logprobs = logprobs,
                Some(Event::Failed(reason)) => {
                    return Err(Fault::internal(format!(
                        "The answer cannot go on: {reason}."
                    )));
                }
                Some(Event::Refused(refused)) => return Err(refused.into()),
                Some(Event::Queued) | None => return Err(Fault::stopped()),
            }
        }
    }
}

/// A prompt and one answer to it.
#[derive(Debug)]
pub(super) struct Submission {
    pub(super) prompt: Arc<[TokenId]>,
    pub(super) adapter: Option<AdapterId>,
    pub(super) constraint: Option<Box<dyn Constraint>>,
    /// Which answer to the prompt this is: each is made with a seed of its own.
    pub(super) index: u32,
    /// What holds the prompt in the request.
    pub(super) parameter: &'static str,
}

/// Where a request's model is served.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub(super) engine: Arc<Engine>,
    pub(super) adapter: Option<AdapterId>,
}

/// Finds the engine, and the adapter, for a request's model: the model itself, an adapter, or `model:adapter`.
pub(super) fn served(state: &State, model: &str) -> Result<Served, Fault> {
    let engine = state.engine();
    if state.names.iter().any(|name| name == model) {
        return match engine {
            Some(engine) => Ok(Served {
                engine,
                adapter: None,
            }),
            None if state.encoder().is_some() => Err(makes_embeddings(model)),
            None => Err(not_served(state)),
        };
    }
    let adapter = engine.and_then(|engine| Some((engine.adapters.find(model)?, engine)));
    let (adapter, engine) = adapter.ok_or_else(|| Fault::unknown_model(model))?;
    Ok(Served {
        engine,
        adapter: Some(adapter),
    })
}

fn makes_embeddings(model: &str) -> Fault {
    let message = format!("The model `{model}` makes embeddings and no text. Use /v1/embeddings.");
    Fault::parameter("model", message)
}

/// Why there is no model: it is on its way, or the process ends.
pub(super) fn not_served(state: &State) -> Fault {
    if state.draining.is_cancelled() {
        return Fault::stopped();
    }
    let report = state.report();
    let message = format!(
        "The model is not loaded yet ({:?}). {}",
        report.phase, report.message
    );
    Fault::unavailable(message.trim_end())
}

/// Counts a request's parameters. One that sets no limit asks for all the room behind its prompt.
pub(super) fn observe(state: &State, engine: &Engine, making: &Making, prompt_length: usize) {
    let room = engine.context_length.saturating_sub(prompt_length);
    let tokens = making.tokens_max.unwrap_or(room);
    state.metrics.params_n.observe(f64::from(making.answers));
    state.metrics.params_max_tokens.observe(tokens as f64);
}

/// Submits a prompt.
pub(super) async fn submit(
    engine: &Engine,
    making: &Making,
    submission: Submission,
) -> Result<Tokens, Fault> {
    let (limit, prompt_length) = (engine.context_length, submission.prompt.len());
    let room = limit.saturating_sub(prompt_length);
    let answer = making.tokens_max.unwrap_or(room);
    if room == 0 || room < answer.max(making.tokens_min) {
        return Err(Fault::context_length(
            limit,
            prompt_length,
            answer.max(making.tokens_min).max(1),
            submission.parameter,
        ));
    }
    let (events, mut receiver) = mpsc::unbounded_channel();
    let request = Request {
        prompt: submission.prompt.to_vec(),
        generation: generation(
            engine,
            making,
            answer,
            submission.index,
            submission.constraint,
        ),
        length_max: prompt_length + answer,
        priority: making.priority,
        salt: making.salt.clone(),
        adapter: submission.adapter,
        prompt_logprobs: making.prompt_logprobs,
        visible: making.visible.clone(),
        events,
    };
    engine.submit(request).map_err(|error| match error {
        SubmitError::Full => Fault::busy("The engine is busy. Try again later."),
        SubmitError::Closed => Fault::stopped(),
    })?;
    match receiver.recv().await {
        Some(Event::Queued) => Ok(Tokens {
            events: receiver,
            prompt_length,
            prompt_logprobs: Vec::new(),
        }),
        Some(Event::Refused(refused)) => Err(refused.into()),
        Some(Event::Failed(reason)) => Err(Fault::internal(reason)),
        Some(Event::Token(_) | Event::Prompt(_)) | None => Err(Fault::stopped()),
    }
}

fn generation(
    engine: &Engine,
    making: &Making,
    tokens_max: usize,
    index: u32,
    constraint: Option<Box<dyn Constraint>>,
) -> Generation {
    let mut stop_tokens = making.stop_tokens.clone();
    if !making.ignores_end {
        stop_tokens.extend_from_slice(engine.tokenizer.stop_tokens());
    }
    let mut sampling = making.sampling.clone();
    sampling.seed = sampling.seed.wrapping_add(u64::from(index));
    Generation::new(GenerationOptions {
        sampling,
        vocabulary: Some(engine.vocabulary),
        stops: making.stops.clone(),
        includes_stop: making.includes_stop,
        stop_tokens,
        tokens_min: making.tokens_min,
        tokens_max,
        constraint,
    })
}
