//! A request for a completion: its parameters, and its prompts as tokens.

use engine_core::TokenId;
use engine_models::Tokenizer;
use protocol::openai::Prompt;
use serde::Deserialize;

use crate::state::Engine;

use super::super::check_length;
use super::super::fault::Fault;
use super::super::sampling::{
    ANSWERS_MAX, LOGPROBS_MAX, Making, SamplingBody, answer_max, check_range,
};
use super::super::tokens::encode_plain;

/// The API's default.
const ANSWER_DEFAULT: usize = 16;
/// Prompts in one request.
const PROMPTS_MAX: usize = 64;
/// Answers in one request.
const CHOICES_MAX: usize = 128;

/// The body: OpenAI's parameters and vLLM's extensions.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct CompletionBody {
    pub(super) model: String,
    pub(super) prompt: Prompt,
    pub(super) max_tokens: Option<u32>,
    pub(super) logprobs: Option<u32>,
    pub(super) echo: Option<bool>,
    pub(super) best_of: Option<u32>,
    pub(super) add_special_tokens: Option<bool>,
    #[serde(flatten)]
    pub(super) sampling: SamplingBody,
}

impl CompletionBody {
    /// How the answers are made, and how many of them are returned for each prompt.
    pub(super) fn making(&self) -> Result<(Making, u32), Fault> {
        check_range("logprobs", self.logprobs.unwrap_or(0), 0, LOGPROBS_MAX)?;
        let tokens_max = if self.has_prompt_only() {
            1
        } else {
            answer_max("max_tokens", self.max_tokens)?.unwrap_or(ANSWER_DEFAULT)
        };
        let mut making = self.sampling.read(Some(tokens_max), self.logprobs)?;
        let returned = making.answers;
        if let Some(best_of) = self.best_of {
            check_range("best_of", best_of, 1, ANSWERS_MAX)?;
            if best_of < returned {
                let message = "`best_of` must be at least `n`.";
                return Err(Fault::parameter("best_of", message));
            }
            if returned < best_of && self.sampling.is_streamed() {
                let message = "`best_of` above `n` cannot be streamed.";
                return Err(Fault::parameter("best_of", message));
            }
            making.answers = best_of;
            if returned < best_of {
                // The best ones are those with the best mean log probability.
                making.sampling.logprobs = Some(making.sampling.logprobs.unwrap_or(0));
            }
        }
        if self.echoes() && self.logprobs.is_some() {
            let count = making.sampling.logprobs.max(making.prompt_logprobs);
            making.prompt_logprobs = count;
        }
        Ok((making, returned))
    }

    pub(super) fn echoes(&self) -> bool {
        self.echo.unwrap_or(false)
    }

    /// Whether only the prompt is wanted back, with its log probabilities.
    pub(super) fn has_prompt_only(&self) -> bool {
        self.echoes() && self.max_tokens == Some(0)
    }
}

/// The tokens of each prompt. Takes its time.
pub(super) fn encode(
    engine: &Engine,
    body: &CompletionBody,
    answers: u32,
) -> Result<Vec<Vec<TokenId>>, Fault> {
    let adds_special = body.add_special_tokens.unwrap_or(true);
    let prompts = texts_or_tokens(&body.prompt, PROMPTS_MAX, "prompt", |text| {
        check_length(engine, text, "prompt")?;
        Ok(if adds_special {
            engine.tokenizer.encode(text)
        } else {
            encode_plain(&engine.tokenizer, text)
        })
    })?;
    check_tokens(&engine.tokenizer, &prompts, "prompt")?;
    if CHOICES_MAX < prompts.len() * answers as usize {
        return Err(Fault::parameter(
            "n",
            format!("A request makes at most {CHOICES_MAX} answers to all its prompts."),
        ));
    }
    Ok(prompts)
}

/// One list of tokens for each text or list of tokens; `parameter` names them.
pub(in crate::http) fn texts_or_tokens(
    input: &Prompt,
    count_max: usize,
    parameter: &str,
    encode: impl Fn(&str) -> Result<Vec<TokenId>, Fault>,
) -> Result<Vec<Vec<TokenId>>, Fault> {
    let count = match input {
        Prompt::Text(_) | Prompt::Tokens(_) => 1,
        Prompt::Texts(texts) => texts.len(),
        Prompt::TokenLists(lists) => lists.len(),
    };
    if count == 0 || count_max < count {
        return Err(Fault::parameter(
            parameter,
            format!("`{parameter}` must hold 1 to {count_max} texts."),
        ));
    }
    match input {
        Prompt::Text(text) => Ok(vec![encode(text)?]),
        Prompt::Texts(texts) => texts.iter().map(|text| encode(text)).collect(),
        Prompt::Tokens(tokens) => Ok(vec![tokens.clone()]),
        Prompt::TokenLists(lists) => Ok(lists.clone()),
    }
}

/// Refuses prompts without tokens, and tokens that there are not.
pub(in crate::http) fn check_tokens(
    tokenizer: &Tokenizer,
    prompts: &[Vec<TokenId>],
    parameter: &str,
) -> Result<(), Fault> {
    let vocabulary = tokenizer.vocabulary();
    for prompt in prompts {
        if prompt.is_empty() {
            let message = format!("`{parameter}` has no tokens.");
            return Err(Fault::parameter(parameter, message));
        }
        if let Some(token) = prompt.iter().find(|token| vocabulary <= **token as usize) {
            return Err(Fault::parameter(
                parameter,
                format!("Token {token} is not in the vocabulary."),
            ));
        }
    }
    Ok(())
}
