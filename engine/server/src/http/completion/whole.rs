//! Whole answers in the completions API's shape.

use futures::future::try_join_all;
use protocol::openai::{CompletionChoice, CompletionLogprobs, CompletionResponse};
use serde::Serialize;
use serde_json::Value;

use super::super::choice::{Choice, Whole, of_one_prompt, of_prompts};
use super::super::fault::Fault;
use super::super::logprobs::{CompletionList, of_prompt};
use super::Head;
use super::start::{Completion, Echo, decode};

/// The response with vLLM's extension in its choices.
#[derive(Debug, Serialize)]
pub(super) struct CompletionAnswer {
    #[serde(flatten)]
    response: CompletionResponse,
    choices: Vec<ExtendedChoice>,
}

#[derive(Debug, Serialize)]
struct ExtendedChoice {
    #[serde(flatten)]
    choice: CompletionChoice,
    #[serde(skip_serializing_if = "Option::is_none")]
    prompt_logprobs: Option<Value>,
}

/// Waits for all answers and returns the best to each prompt.
pub(super) async fn whole(
    head: Head,
    mut completion: Completion,
) -> Result<CompletionAnswer, Fault> {
    let choices = std::mem::take(&mut completion.choices);
    let mut answers = try_join_all(choices.into_iter().map(Choice::collect)).await?;
    let usage = of_prompts(
        answers
            .chunks(completion.made.max(1))
            .map(|answers| of_one_prompt(answers.iter().map(|answer| answer.usage))),
    );
    let mut choices = Vec::new();
    while !answers.is_empty() {
        let rest = answers.split_off(completion.made.min(answers.len()));
        let mut answered = std::mem::replace(&mut answers, rest);
        if completion.returned < completion.made {
            answered.sort_by(|one, other| mean(other).total_cmp(&mean(one)));
        }
        for answer in answered.into_iter().take(completion.returned) {
            let index = u32::try_from(choices.len()).unwrap_or(u32::MAX);
            choices.push(completion.choice(index, answer));
        }
    }
    let response = head.response(Vec::new(), Some(usage));
    Ok(CompletionAnswer { response, choices })
}

/// The mean log probability of an answer's tokens.
fn mean(answer: &Whole) -> f32 {
    let sum: f32 = answer
        .sampled
        .iter()
        .map(|sampled| sampled.logprob.unwrap_or_default())
        .sum();
    sum / answer.sampled.len().max(1) as f32
}

impl Completion {
    fn choice(&self, index: u32, answer: Whole) -> ExtendedChoice {
        let prompt = self.prompt_of(answer.index as usize);
        let logprobs = self.has_logprobs.then(|| self.logprobs(prompt, &answer));
        let prompt_logprobs = self
            .has_prompt_logprobs
            .then(|| of_prompt(&self.tokenizer, &answer.prompt_logprobs));
        let text = match self.echo {
            Echo::None => answer.message.content,
            Echo::Prompt => decode(&self.tokenizer, prompt) + &answer.message.content,
            Echo::PromptOnly => decode(&self.tokenizer, prompt),
        };
        let choice = CompletionChoice {
            index,
            text,
            logprobs,
            finish_reason: Some(answer.end.reason.as_str().to_owned()),
        };
        ExtendedChoice {
            choice,
            prompt_logprobs,
        }
    }

    fn logprobs(&self, prompt: &[u32], answer: &Whole) -> CompletionLogprobs {
        let mut list = CompletionList::default();
        if self.echo != Echo::None {
            list.push_prompt(&self.tokenizer, prompt, &answer.prompt_logprobs);
        }
        if self.echo != Echo::PromptOnly {
            for sampled in &answer.sampled {
                list.push_sampled(&self.tokenizer, sampled);
            }
        }
        list.take()
    }
}
