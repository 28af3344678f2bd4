//! One answer while it is made: tokens in, what they mean out. All APIs read answers here and nowhere else.

use engine_core::{FinishReason, PromptLogprob, Sampled};
use futures::{Stream, StreamExt, stream};
use protocol::openai::{CompletionTokensDetails, PromptTokensDetails, Usage};

use crate::parse::{Delta, Message, Output};

use super::fault::Fault;
use super::submit::Tokens;

/// Why an answer ended, for its reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) reason: EndReason,
    /// The stop string that was met, if one was.
    pub(super) stop: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndReason {
    /// The model said so, or a stop string or token was met.
    Stop,
    /// The answer has as many tokens as it may have.
    Length,
    /// The model waits for what its calls give.
    ToolCalls,
}

impl EndReason {
    /// The word of the OpenAI API.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What one token adds to an answer.
#[derive(Debug)]
pub(super) struct Piece {
    /// Which answer.
    pub(super) index: u32,
    pub(super) deltas: Vec<Delta>,
    pub(super) sampled: Sampled,
    /// Tokens used so far.
    pub(super) usage: Usage,
    /// Set with the last token.
    pub(super) end: Option<End>,
}

/// A whole answer.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) index: u32,
    pub(super) message: Message,
    pub(super) sampled: Vec<Sampled>,
    pub(super) prompt_logprobs: Vec<PromptLogprob>,
    pub(super) usage: Usage,
    pub(super) end: End,
}

/// One answer in the making. Dropping it ends the sequence.
#[derive(Debug)]
pub(super) struct Choice {
    index: u32,
    tokens: Tokens,
    /// Finds reasoning and calls in the text, in a chat.
    output: Option<Output>,
    hides_reasoning: bool,
    count: usize,
    reasoning_count: usize,
    is_reasoning: bool,
    has_calls: bool,
}

impl Choice {
    /// An answer that is all text.
    pub(super) const fn plain(index: u32, tokens: Tokens) -> Self {
        Self {
            index,
            tokens,
            output: None,
            hides_reasoning: false,
            count: 0,
            reasoning_count: 0,
            is_reasoning: false,
            has_calls: false,
        }
    }

    /// An answer in a chat.
    pub(super) fn of_chat(
        index: u32,
        tokens: Tokens,
        output: Output,
        hides_reasoning: bool,
    ) -> Self {
        Self {
            output: Some(output),
            hides_reasoning,
            ..Self::plain(index, tokens)
        }
    }

    pub(super) const fn prompt_length(&self) -> usize {
        self.tokens.prompt_length
    }

    /// What the model thought of the prompt; complete with the first piece.
    pub(super) fn prompt_logprobs(&self) -> &[PromptLogprob] {
        &self.tokens.prompt_logprobs
    }

    /// The next piece; there is none behind the one that has an end.
    pub(super) async fn next(&mut self) -> Result<Piece, Fault> {
        let event = self.tokens.next().await?;
        self.count += 1;
        let mut deltas = match &mut self.output {
            None if event.text.is_empty() => Vec::new(),
            None => vec![Delta::Content(event.text)],
            Some(output) => output.push(&event.text),
        };
        if event.finish.is_some()
            && let Some(output) = &mut self.output
        {
            deltas.extend(output.finish());
        }
        self.note(&deltas);
        if self.hides_reasoning {
            deltas.retain(|delta| !matches!(delta, Delta::Reasoning(_)));
        }
        let end = event.finish.map(|finish| End {
            reason: match finish {
                FinishReason::Stop if self.has_calls => EndReason::ToolCalls,
                FinishReason::Stop => EndReason::Stop,
                FinishReason::Length => EndReason::Length,
            },
            stop: event.stop,
        });
        Ok(Piece {
            index: self.index,
            deltas,
            sampled: event.sampled,
            usage: self.usage(event.cached_tokens),
            end,
        })
    }

    /// Waits for the end.
    pub(super) async fn collect(mut self) -> Result<Whole, Fault> {
        let (mut message, mut sampled) = (Message::default(), Vec::new());
        loop {
            let piece = self.next().await?;
            message.extend(piece.deltas);
            sampled.push(piece.sampled);
            if let Some(end) = piece.end {
                return Ok(Whole {
                    index: self.index,
                    message,
                    sampled,
                    prompt_logprobs: self.tokens.prompt_logprobs,
                    usage: piece.usage,
                    end,
                });
            }
        }
    }

    /// Counts the token as reasoning if its text, or the text before it, was.
    fn note(&mut self, deltas: &[Delta]) {
        let had_reasoning = deltas
            .iter()
            .any(|delta| matches!(delta, Delta::Reasoning(_)));
        match deltas.last() {
            None => {}
            Some(Delta::Reasoning(_)) => self.is_reasoning = true,
            Some(Delta::Content(_)) => self.is_reasoning = false,
            Some(Delta::ToolCall { .. } | Delta::ToolArguments { .. }) => {
                self.is_reasoning = false;
                self.has_calls = true;
            }
        }
        self.reasoning_count += usize::from(had_reasoning || self.is_reasoning);
    }

    fn usage(&self, cached_tokens: usize) -> Usage {
        let mut usage = Usage::new(self.tokens.prompt_length as u64, self.count as u64);
        usage.prompt_tokens_details = Some(PromptTokensDetails {
            cached_tokens: cached_tokens as u64,
        });
        usage.completion_tokens_details = Some(CompletionTokensDetails {
            reasoning_tokens: self.reasoning_count as u64,
        });
        usage
    }
}

/// The pieces of several answers as they come, each answer to its end or to its fault.
pub(super) fn pieces(
    choices: Vec<Choice>,
) -> impl Stream<Item = Result<Piece, Fault>> + Send + Unpin {
    let streams = choices.into_iter().map(|choice| {
        let steps = stream::unfold(Some(choice), |choice| async {
            let mut choice = choice?;
            let piece = choice.next().await;
            let goes_on = piece.as_ref().is_ok_and(|piece| piece.end.is_none());
            Some((piece, goes_on.then_some(choice)))
        });
        steps.boxed()
    });
    stream::select_all(streams)
}

/// Adds up the usage of several answers to one prompt: the prompt counts once.
pub(super) fn of_one_prompt(usages: impl IntoIterator<Item = Usage>) -> Usage {
    let mut usages = usages.into_iter();
    let Some(mut sum) = usages.next() else {
        return Usage::default();
    };
    for usage in usages {
        sum.completion_tokens += usage.completion_tokens;
        sum.total_tokens += usage.completion_tokens;
        let more = usage.completion_tokens_details.unwrap_or_default();
        let details = sum
            .completion_tokens_details
            .get_or_insert_with(Default::default);
        details.reasoning_tokens += more.reasoning_tokens;
    }
    sum
}

/// Adds up the usage of several prompts.
pub(super) fn of_prompts(usages: impl IntoIterator<Item = Usage>) -> Usage {
    let mut sum = Usage::default();
    for usage in usages {
        sum.prompt_tokens += usage.prompt_tokens;
        sum.completion_tokens += usage.completion_tokens;
        sum.total_tokens += usage.total_tokens;
        let cached = usage.prompt_tokens_details.unwrap_or_default();
        sum.prompt_tokens_details
            .get_or_insert_with(Default::default)
            .cached_tokens += cached.cached_tokens;
        let reasoning = usage.completion_tokens_details.unwrap_or_default();
        sum.completion_tokens_details
            .get_or_insert_with(Default::default)
            .reasoning_tokens += reasoning.reasoning_tokens;
    }
    sum
}
