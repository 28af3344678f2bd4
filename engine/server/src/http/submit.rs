//! Hands prompts to the step loop and waits until they are taken on.

use std::sync::Arc;

use engine_core::{Generation, GenerationOptions, TokenId};
use tokio::sync::mpsc;

use crate::runner::{Event, Request, TokenEvent};
use crate::state::{Engine, State, SubmitError};

use super::fault::Fault;
use super::parameters::Parameters;

/// The tokens of one answer as they come. Dropping it ends the sequence.
#[derive(Debug)]
pub(super) struct Tokens {
    events: mpsc::UnboundedReceiver<Event>,
    pub(super) prompt_length: usize,
}

impl Tokens {
    /// The next token; `None` if the step loop ended before the answer did.
    pub(super) async fn next(&mut self) -> Option<TokenEvent> {
        match self.events.recv().await {
            Some(Event::Token(token)) => Some(token),
            Some(Event::Queued | Event::Refused(_) | Event::Prompt(_) | Event::Failed(_))
            | None => None,
        }
    }
}

/// Finds the engine for a request's model.
pub(super) fn engine(state: &State, model: &str) -> Result<Arc<Engine>, Fault> {
    if !state.names.iter().any(|name| name == model) {
        return Err(Fault::unknown_model(model));
    }
    state.engine().ok_or_else(|| {
        if state.draining.is_cancelled() {
            return Fault::stopped();
        }
        let report = state.report();
        Fault::unavailable(
            format!(
                "The model is not loaded yet ({:?}). {}",
                report.phase, report.message
            )
            .trim_end(),
        )
    })
}

/// Submits a prompt. `answer_max` is what the request asks for, or `None` for all that fits; `parameter` names what
/// holds the prompt.
pub(super) async fn submit(
    engine: &Engine,
    prompt: Vec<TokenId>,
    parameters: &Parameters,
    answer_max: Option<usize>,
    parameter: &str,
) -> Result<Tokens, Fault> {
    let (limit, prompt_length) = (engine.context_length, prompt.len());
    let room = limit.saturating_sub(prompt_length);
    let answer = answer_max.unwrap_or(room);
    if room == 0 || room < answer {
        return Err(Fault::context_length(
            limit,
            prompt_length,
            answer.max(1),
            parameter,
        ));
    }
    let mut stop_tokens = parameters.stop_tokens.clone();
    if !parameters.ignores_end {
        stop_tokens.extend_from_slice(engine.tokenizer.stop_tokens());
    }
    let generation = Generation::new(GenerationOptions {
        sampling: parameters.sampling.clone(),
        stops: parameters.stops.clone(),
        stop_tokens,
        tokens_max: answer,
        ..GenerationOptions::default()
    });
    let (events, mut receiver) = mpsc::unbounded_channel();
    let request = Request {
        prompt,
        generation,
        length_max: prompt_length + answer,
        priority: 0,
        salt: None,
        adapter: None,
        prompt_logprobs: None,
        shows_special: false,
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
        }),
        Some(Event::Refused(refused)) => Err(refused.into()),
        Some(Event::Prompt(_) | Event::Token(_) | Event::Failed(_)) | None => Err(Fault::stopped()),
    }
}

/// The most tokens of an answer, out of a request's parameter.
pub(super) fn answer_max(name: &str, wanted: Option<u32>) -> Result<Option<usize>, Fault> {
    match wanted {
        Some(0) => Err(Fault::parameter(
            name,
            format!("`{name}` must be at least 1."),
        )),
        wanted => Ok(wanted.map(|count| count as usize)),
    }
}
