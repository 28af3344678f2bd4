//! One answer in the making: takes sampled tokens and says what text they add and when it is enough.

use crate::TokenId;
use crate::constraint::Constraint;
use crate::sampling::{Sampled, Sampler, SamplingParameters};
use crate::text::TextStream;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FinishReason {
    /// The model said so, or a stop string or token was met.
    Stop,
    /// The answer has as many tokens as it may have.
    Length,
}

impl FinishReason {
    /// The word of the OpenAI API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// What a token adds to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// New text; may be empty.
    pub text: String,
    /// Set with the last token.
    pub finish: Option<FinishReason>,
}

/// How an answer is made and where it ends.
#[derive(Debug)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParameters,
    /// Texts that end the answer before them.
    pub stops: Vec<String>,
    /// Tokens that end the answer and add no text.
    pub stop_tokens: Vec<TokenId>,
    /// Least tokens of the answer: before, no stop token is chosen and no stop string counts.
    pub tokens_min: usize,
    /// Most tokens of the answer.
    pub tokens_max: usize,
    /// What restricts the answer's tokens.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// The state of one answer.
#[derive(Debug)]
pub struct Generation {
    sampler: Sampler,
    text: TextStream,
    stop_tokens: Vec<TokenId>,
    tokens_max: usize,
    tokens: usize,
}

impl Generation {
    /// An answer that has not begun.
    pub fn new(options: GenerationOptions) -> Self {
        Self {
            sampler: Sampler::new(options.sampling),
            text: TextStream::new(options.stops),
            stop_tokens: options.stop_tokens,
            tokens_max: options.tokens_max,
            tokens: 0,
        }
    }

    /// Tokens so far.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Samples the next token.
    pub fn sample(&mut self, logits: &[f32]) -> Sampled {
        self.sampler.sample(logits)
    }

    /// Takes a sampled token, whose text is `bytes`. A stop token adds no text.
    pub fn accept(&mut self, token: TokenId, bytes: &[u8]) -> Progress {
        self.tokens += 1;
        if self.stop_tokens.contains(&token) {
            return Progress {
                text: self.text.finish(),
                finish: Some(FinishReason::Stop),
            };
        }
        let piece = self.text.push(bytes);
        if piece.stopped {
            return Progress {
                text: piece.text,
                finish: Some(FinishReason::Stop),
            };
        }
        if self.tokens_max <= self.tokens {
            let text = piece.text + &self.text.finish();
            return Progress {
                text,
                finish: Some(FinishReason::Length),
            };
        }
        Progress {
            text: piece.text,
            finish: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FinishReason, Generation, GenerationOptions, Progress};
    use crate::sampling::SamplingParameters;

    #[track_caller]
    fn check(tokens_max: usize, tokens: &[(u32, &str)], text: &str, finish: Option<FinishReason>) {
        let mut generation = Generation::new(GenerationOptions {
            sampling: SamplingParameters::default(),
            stops: vec!["stop".to_owned()],
            stop_tokens: vec![9],
            tokens_min: 0,
            tokens_max,
            constraint: None,
        });
        let mut got = Progress {
            text: String::new(),
            finish: None,
        };
        for (token, bytes) in tokens {
            assert_eq!(got.finish, None, "more tokens after the end");
            let progress = generation.accept(*token, bytes.as_bytes());
            got.text.push_str(&progress.text);
            got.finish = progress.finish;
        }
        assert_eq!(
            got,
            Progress {
                text: text.to_owned(),
                finish
            }
        );
        assert_eq!(generation.tokens(), tokens.len());
    }

    #[test]
    fn an_answer_ends_for_the_first_reason_met() {
        check(4, &[(1, "a"), (2, "b")], "ab", None);
        check(4, &[(1, "a"), (9, "</s>")], "a", Some(FinishReason::Stop));
        check(4, &[(1, "a st"), (2, "op")], "a ", Some(FinishReason::Stop));
        check(
            2,
            &[(1, "a"), (2, "b st")],
            "ab st",
            Some(FinishReason::Length),
        );
        check(1, &[(9, "")], "", Some(FinishReason::Stop));
    }
}
