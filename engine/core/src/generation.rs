//! One answer in the making: takes sampled tokens and says what text they add and when it is enough.

use crate::TokenId;
use crate::chooser::Chooser;
use crate::constraint::Constraint;
use crate::sampling::{Sampler, SamplingParameters};
use crate::text::{Piece, TextStream};

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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// New text; may be empty.
    pub text: String,
    /// Set with the last token.
    pub finish: Option<FinishReason>,
    /// The stop string that was met, if that is why the answer ended.
    pub stop: Option<String>,
}

/// How an answer is made and where it ends.
#[derive(Debug, Default)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampling: SamplingParameters,
    /// How many tokens there are, if the model computes more numbers than that.
    pub vocabulary: Option<usize>,
    /// Texts that end the answer before them.
    pub stops: Vec<String>,
    /// Whether the stop text that is met stays in the answer.
    pub includes_stop: bool,
    /// Tokens that end the answer and add no text.
    pub stop_tokens: Vec<TokenId>,
    /// Least tokens of the answer: before, no stop token is chosen and no stop string counts.
    pub tokens_min: usize,
    /// Most tokens of the answer.
    pub tokens_max: usize,
    /// What restricts the answer's tokens.
    pub constraint: Option<Box<dyn Constraint>>,
}

/// An answer that has not begun, in the parts that different threads hold.
#[derive(Debug)]
pub struct Generation {
    /// Chooses tokens.
    pub chooser: Chooser,
    /// Restricts them.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Makes text of them.
    pub answer: Answer,
}

impl Generation {
    /// An answer that has not begun.
    pub fn new(options: GenerationOptions) -> Self {
        let GenerationOptions {
            sampling,
            vocabulary,
            stops,
            includes_stop,
            stop_tokens,
            tokens_min,
            tokens_max,
            constraint,
        } = options;
        let answer = Answer {
            text: TextStream::new(stops, includes_stop),
            tokens_min,
            tokens_max,
            tokens: 0,
        };
        Self {
            chooser: Chooser::new(Sampler::new(sampling), vocabulary, stop_tokens, tokens_min),
            constraint,
            answer,
        }
    }
}

/// The half of an answer that sees text: takes chosen tokens and says what they add and when it is enough.
#[derive(Debug)]
pub struct Answer {
    text: TextStream,
    tokens_min: usize,
    tokens_max: usize,
    tokens: usize,
}

impl Answer {
    /// Tokens so far.
    pub const fn tokens(&self) -> usize {
        self.tokens
    }

    /// Most tokens that it may have.
    pub const fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    /// Takes the bytes of a chosen token's text.
    pub fn accept(&mut self, bytes: &[u8]) -> Progress {
        self.tokens += 1;
        let piece = if self.tokens <= self.tokens_min {
            Piece {
                text: self.text.push_unwatched(bytes),
                stop: None,
            }
        } else {
            self.text.push(bytes)
        };
        if let Some(stop) = piece.stop {
            return Progress {
                text: piece.text,
                finish: Some(FinishReason::Stop),
                stop: self.text.stops().get(stop).cloned(),
            };
        }
        let mut progress = Progress {
            text: piece.text,
            ..Progress::default()
        };
        if self.tokens_max <= self.tokens {
            progress.text += &self.text.finish();
            progress.finish = Some(FinishReason::Length);
        }
        progress
    }

    /// Takes a token that ends the answer and adds no text.
    pub fn end(&mut self) -> Progress {
        self.tokens += 1;
        Progress {
            text: self.text.finish(),
            finish: Some(FinishReason::Stop),
            stop: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FinishReason, Generation, GenerationOptions};

    /// Tokens are texts; `None` is the end.
    #[track_caller]
    fn check(
        (tokens_min, tokens_max): (usize, usize),
        tokens: &[Option<&str>],
        text: &str,
        finish: Option<FinishReason>,
        stop: Option<&str>,
    ) {
        let generation = Generation::new(GenerationOptions {
            stops: vec!["stop".to_owned()],
            tokens_min,
            tokens_max,
            ..GenerationOptions::default()
        });
        let mut answer = generation.answer;
        let (mut got, mut last) = (String::new(), None);
        for token in tokens {
            assert_eq!(last, None, "more tokens after the end");
            let progress = match token {
                Some(token) => answer.accept(token.as_bytes()),
                None => answer.end(),
            };
            got.push_str(&progress.text);
            last = progress.finish;
            assert_eq!(progress.stop.as_deref(), stop.filter(|_| last.is_some()));
        }
        assert_eq!((got.as_str(), last), (text, finish));
        assert_eq!(answer.tokens(), tokens.len());
    }

    #[test]
    fn an_answer_ends_for_the_first_reason_met() {
        let (stop, length) = (Some(FinishReason::Stop), Some(FinishReason::Length));
        check((0, 4), &[Some("a"), Some("b")], "ab", None, None);
        check((0, 4), &[Some("a"), None], "a", stop, None);
        check(
            (0, 4),
            &[Some("a st"), Some("op")],
            "a ",
            stop,
            Some("stop"),
        );
        check((0, 2), &[Some("a"), Some("b st")], "ab st", length, None);
        check((0, 1), &[None], "", stop, None);
    }

    #[test]
    fn stop_strings_count_behind_the_least_tokens() {
        let stop = Some(FinishReason::Stop);
        check(
            (2, 9),
            &[Some("stop"), Some("st"), Some("op")],
            "stopstop",
            None,
            None,
        );
        check(
            (1, 9),
            &[Some("stop"), Some(" stop")],
            "stop ",
            stop,
            Some("stop"),
        );
    }
}
