//! Streamed answers in the completions API's shape.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use engine_core::{PromptLogprob, Sampled, TokenId};
use engine_models::Tokenizer;
use futures::{Stream, StreamExt, stream};
use protocol::openai::{CompletionChoice, CompletionLogprobs, CompletionResponse, Usage};

use crate::parse::Delta;

use super::super::choice::{Choice, Piece, of_one_prompt, of_prompts};
use super::super::fault::Fault;
use super::super::logprobs::CompletionList;
use super::super::sampling::StreamUsage;
use super::Head;
use super::start::{Completion, Echo, decode};

/// What the chunks are made with.
struct Chunks {
    head: Head,
    tokenizer: Arc<Tokenizer>,
    prompts: Vec<Arc<[TokenId]>>,
    made: usize,
    has_logprobs: bool,
    echo: Echo,
    wanted: StreamUsage,
    usages: BTreeMap<u32, Usage>,
    lists: HashMap<u32, CompletionList>,
}

/// A piece, and what the model thought of the prompt with the first piece of an answer.
type First = (Piece, Option<Vec<PromptLogprob>>);

/// The chunks of all answers.
pub(super) fn chunks(
    head: Head,
    completion: Completion,
    wanted: StreamUsage,
) -> impl Stream<Item = Result<CompletionResponse, Fault>> + Send {
    let prompts = completion.choices.iter().zip(0..);
    let usages =
        prompts.map(|(choice, index)| (index, Usage::new(choice.prompt_length() as u64, 0)));
    let mut chunks = Chunks {
        head,
        tokenizer: completion.tokenizer,
        prompts: completion.prompts,
        made: completion.made,
        has_logprobs: completion.has_logprobs,
        echo: completion.echo,
        wanted,
        usages: usages.collect(),
        lists: HashMap::new(),
    };
    let pieces = pieces(completion.choices)
        .map(Some)
        .chain(stream::once(async { None }));
    pieces.filter_map(move |piece| {
        let chunk = match piece {
            Some(Ok((piece, prompt))) => chunks.of_piece(piece, prompt).map(Ok),
            Some(Err(fault)) => Some(Err(fault)),
            None if chunks.wanted.at_end => {
                Some(Ok(chunks.head.response(Vec::new(), Some(chunks.usage()))))
            }
            None => None,
        };
        async { chunk }
    })
}

fn pieces(choices: Vec<Choice>) -> impl Stream<Item = Result<First, Fault>> + Send + Unpin {
    let streams = choices.into_iter().map(|choice| {
        let steps = stream::unfold((Some(choice), true), |(choice, is_first)| async move {
            let mut choice = choice?;
            let piece = choice.next().await.map(|piece| {
                let prompt = is_first.then(|| choice.prompt_logprobs().to_vec());
                (piece, prompt)
            });
            let goes_on = piece.as_ref().is_ok_and(|(piece, _)| piece.end.is_none());
            Some((piece, (goes_on.then_some(choice), false)))
        });
        steps.boxed()
    });
    stream::select_all(streams)
}

impl Chunks {
    fn of_piece(
        &mut self,
        piece: Piece,
        prompt: Option<Vec<PromptLogprob>>,
    ) -> Option<CompletionResponse> {
        let index = piece.index;
        self.usages.insert(index, piece.usage);
        let mut text = String::new();
        let echoed = prompt.filter(|_| self.echo != Echo::None);
        if echoed.is_some() {
            text = decode(&self.tokenizer, self.prompt_of(index));
        }
        if self.echo != Echo::PromptOnly {
            for delta in piece.deltas {
                if let Delta::Content(more) = delta {
                    text.push_str(&more);
                }
            }
        }
        let logprobs = self
            .has_logprobs
            .then(|| self.logprobs(index, echoed, &piece.sampled));
        let finish_reason = piece.end.map(|end| end.reason.as_str().to_owned());
        if text.is_empty() && logprobs.is_none() && finish_reason.is_none() {
            return None;
        }
        let choice = CompletionChoice {
            index,
            text,
            logprobs,
            finish_reason,
        };
        let usage = self.wanted.in_each.then(|| self.usage());
        Some(self.head.response(vec![choice], usage))
    }

    fn logprobs(
        &mut self,
        index: u32,
        echoed: Option<Vec<PromptLogprob>>,
        sampled: &Sampled,
    ) -> CompletionLogprobs {
        let prompt = Arc::clone(&self.prompts[self.place(index)]);
        let list = self.lists.entry(index).or_default();
        if let Some(logprobs) = echoed {
            list.push_prompt(&self.tokenizer, &prompt, &logprobs);
        }
        if self.echo != Echo::PromptOnly {
            list.push_sampled(&self.tokenizer, sampled);
        }
        list.take()
    }

    fn prompt_of(&self, index: u32) -> &[TokenId] {
        &self.prompts[self.place(index)]
    }

    /// Which prompt an answer belongs to.
    fn place(&self, index: u32) -> usize {
        let last = self.prompts.len().saturating_sub(1);
        (index as usize / self.made.max(1)).min(last)
    }

    fn usage(&self) -> Usage {
        let usages: Vec<_> = self.usages.values().copied().collect();
        let of_each = usages.chunks(self.made.max(1));
        of_prompts(of_each.map(|usages| of_one_prompt(usages.iter().copied())))
    }
}
