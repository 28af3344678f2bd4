//! From the body of a completion to answers in the making.

use std::sync::Arc;

use engine_core::{Constraint, TokenId};
use engine_models::Tokenizer;
use futures::future::try_join_all;

use crate::state::{Engine, State};

use super::super::choice::Choice;
use super::super::fault::Fault;
use super::super::submit::{Served, Submission, observe, served, submit};
use super::super::{format, offload};
use super::CompletionBody;
use super::body::encode;

/// A completion whose answers are being made.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) prompts: Vec<Arc<[TokenId]>>,
    /// The answers to the first prompt, then those to the second, …
    pub(super) choices: Vec<Choice>,
    /// How many answers are made to each prompt, and how many of them are returned.
    pub(super) made: usize,
    pub(super) returned: usize,
    pub(super) has_logprobs: bool,
    pub(super) has_prompt_logprobs: bool,
    pub(super) echo: Echo,
}

/// What comes back of the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// Nothing.
    None,
    /// The prompt in front of the answer.
    Prompt,
    /// The prompt instead of an answer.
    PromptOnly,
}

/// Starts the answers to all prompts.
pub(super) async fn start(state: &State, body: CompletionBody) -> Result<Completion, Fault> {
    let Served { engine, adapter } = served(state, &body.model)?;
    let (making, returned) = body.making()?;
    let echo = match (body.echoes(), body.has_prompt_only()) {
        (_, true) => Echo::PromptOnly,
        (true, false) => Echo::Prompt,
        (false, false) => Echo::None,
    };
    let has_logprobs = body.logprobs.is_some();
    let has_prompt_logprobs = body.sampling.prompt_logprobs.is_some();
    let (preparing, answers) = (Arc::clone(&engine), making.answers);
    let prepared = offload(state, move || prepare(&preparing, &body, answers)).await??;
    let (prompts, constraints) = prepared;
    let (engine, making) = (&engine, &making);
    let longest = prompts.iter().map(Vec::len).max();
    observe(state, engine, making, longest.unwrap_or(0));
    let prompts: Vec<Arc<[TokenId]>> = prompts.into_iter().map(Arc::from).collect();
    let answers = prompts
        .iter()
        .flat_map(|prompt| (0..making.answers).map(move |answer| (prompt, answer)));
    let numbered = (0..).zip(answers).zip(constraints);
    let submitted = numbered.map(|((index, (prompt, answer)), constraint)| async move {
        let submission = Submission {
            prompt: Arc::clone(prompt),
            adapter,
            constraint,
            index: answer,
            parameter: "prompt",
        };
        let tokens = submit(engine, making, submission).await?;
        Ok::<_, Fault>(Choice::plain(index, tokens))
    });
    let choices = try_join_all(submitted).await?;
    Ok(Completion {
        tokenizer: Arc::clone(&engine.tokenizer),
        prompts,
        choices,
        made: making.answers as usize,
        returned: returned as usize,
        has_logprobs,
        has_prompt_logprobs,
        echo,
    })
}

type Prepared = (Vec<Vec<TokenId>>, Vec<Option<Box<dyn Constraint>>>);

/// What takes its time: the prompts' tokens, and a grammar for each answer.
fn prepare(engine: &Engine, body: &CompletionBody, answers: u32) -> Result<Prepared, Fault> {
    let prompts = encode(engine, body, answers)?;
    let spec = body.sampling.format.read()?;
    let constraint = || match &spec {
        None => Ok(None),
        Some((name, spec)) => {
            let compiled = engine.grammars.compile(spec, None);
            compiled
                .map(Some)
                .map_err(|error| format::fault(name, &error))
        }
    };
    let count = prompts.len() * answers as usize;
    let constraints = (0..count).map(|_| constraint());
    Ok((prompts, constraints.collect::<Result<_, _>>()?))
}

impl Completion {
    /// The prompt that an answer belongs to.
    pub(super) fn prompt_of(&self, index: usize) -> &[TokenId] {
        self.prompts
            .get(index / self.made.max(1))
            .map_or(&[], AsRef::as_ref)
    }
}

/// The text of tokens.
pub(in crate::http) fn decode(tokenizer: &Tokenizer, tokens: &[TokenId]) -> String {
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| tokenizer.bytes(*token))
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
