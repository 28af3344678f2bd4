//! What the step loop is asked for and what it answers.

use engine_core::{AdapterId, FinishReason, Generation, PromptLogprob, Refused, Sampled, TokenId};
use engine_models::Tokenizer;
use thiserror::Error;
use tokio::sync::mpsc;

/// A prompt, how to answer it, and whom to tell.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) prompt: Vec<TokenId>,
    pub(crate) generation: Generation,
    /// Most tokens of prompt and answer.
    pub(crate) length_max: usize,
    /// Lower ones go first, if the engine schedules by priority.
    pub(crate) priority: i32,
    /// Only requests with an equal salt share the prefix cache.
    pub(crate) salt: Option<String>,
    /// The adapter that the answer is computed with.
    pub(crate) adapter: Option<AdapterId>,
    /// How many likeliest tokens to report with each token of the prompt, if any log probabilities are wanted.
    pub(crate) prompt_logprobs: Option<usize>,
    /// Which control tokens are part of the text.
    pub(crate) visible: Visible,
    /// At most one event a token, so the length of the context bounds it. A closed channel ends the sequence.
    pub(crate) events: mpsc::UnboundedSender<Event>,
}

/// Which control tokens are part of an answer's text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Visible {
    All,
    Only(Vec<TokenId>),
}

impl Default for Visible {
    fn default() -> Self {
        Self::Only(Vec::new())
    }
}

impl Visible {
    /// The bytes that a token adds to the text.
    pub(super) fn bytes(&self, tokenizer: &Tokenizer, token: TokenId) -> Vec<u8> {
        match self {
            Self::All => tokenizer.visible_bytes(token),
            Self::Only(tokens) if tokens.contains(&token) => tokenizer.visible_bytes(token),
            Self::Only(_) => tokenizer.bytes(token),
        }
    }
}

/// What a request learns, in this order: `Queued` or `Refused`, the prompt if wanted, then tokens until one finishes
/// the answer or it fails.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The request will be computed.
    Queued,
    /// The request is not taken on.
    Refused(Refusal),
    /// What the model thought of each token of the prompt but the first.
    Prompt(Vec<PromptLogprob>),
    /// One more token.
    Token(TokenEvent),
    /// The answer cannot go on, for this reason; there are no more events.
    Failed(String),
}

/// A token of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TokenEvent {
    pub(crate) sampled: Sampled,
    /// Text that can be sent now; it may belong to earlier tokens.
    pub(crate) text: String,
    /// Tokens of the prompt that came from the prefix cache.
    pub(crate) cached_tokens: usize,
    pub(crate) finish: Option<FinishReason>,
    /// The stop string that ended the answer.
    pub(crate) stop: Option<String>,
}

/// Why a request is not taken on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// It does not fit, now or ever.
    #[error(transparent)]
    Scheduler(#[from] Refused),
    /// The engine must be woken first.
    #[error("the engine sleeps")]
    Asleep,
    /// The adapter is not loaded, or no longer.
    #[error("the adapter is not loaded")]
    UnknownAdapter,
}
