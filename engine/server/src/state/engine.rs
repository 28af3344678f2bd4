//! A loaded generative model, ready to take requests and commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine_core::TokenId;
use engine_models::{ChatTemplate, ModelConfig, SleepLevel, Tokenizer};
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::grammar::Grammars;
use crate::parse::Formats;
use crate::runner::{Command, EventLog, Message, Request};

use super::Adapters;

/// What an engine is made of.
#[derive(Debug)]
pub(crate) struct EngineParts {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    pub(crate) template_variables: Map<String, Value>,
    pub(crate) formats: Formats,
    pub(crate) config: ModelConfig,
    pub(crate) context_length: usize,
    pub(crate) adapters: Adapters,
    pub(crate) events: Option<Arc<EventLog>>,
}

/// A loaded model.
#[derive(Debug)]
pub(crate) struct Engine {
    messages: mpsc::Sender<Message>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Tokens that answers are made of.
    pub(crate) vocabulary: usize,
    pub(crate) template: Option<ChatTemplate>,
    /// What the template gets beside the chat, unless a request says otherwise.
    pub(crate) template_variables: Map<String, Value>,
    /// Restricts answers.
    pub(crate) grammars: Arc<Grammars>,
    /// How the model writes reasoning and calls.
    pub(crate) formats: Formats,
    /// The model's shape.
    pub(crate) config: ModelConfig,
    /// Most tokens of a prompt and its answer.
    pub(crate) context_length: usize,
    /// The adapters that requests can name.
    pub(crate) adapters: Adapters,
    /// Changes of the prefix cache, if they are kept.
    pub(crate) events: Option<Arc<EventLog>>,
    is_sleeping: AtomicBool,
}

/// Why a request does not reach the step loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum SubmitError {
    /// Too many requests are on their way; later there will be room.
    #[error("too many requests wait")]
    Full,
    /// The step loop has ended.
    #[error("the engine stops")]
    Closed,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ControlError {
    /// The step loop has ended.
    #[error("the engine stops")]
    Closed,
    /// It was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

impl Engine {
    pub(crate) fn new(parts: EngineParts) -> Self {
        let EngineParts {
            messages,
            tokenizer,
            template,
            template_variables,
            formats,
            config,
            context_length,
            adapters,
            events,
        } = parts;
        Self {
            messages,
            vocabulary: vocabulary(&tokenizer),
            grammars: Arc::new(Grammars::new(Arc::clone(&tokenizer))),
            tokenizer,
            template,
            template_variables,
            formats,
            config,
            context_length,
            adapters,
            events,
            is_sleeping: AtomicBool::new(false),
        }
    }

    /// Hands a request to the step loop, which answers over the request's channel.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has happened then.
    pub(crate) fn submit(&self, request: Request) -> Result<(), SubmitError> {
        let sent = self.messages.try_send(Message::Request(Box::new(request)));
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SubmitError::Full,
            mpsc::error::TrySendError::Closed(_) => SubmitError::Closed,
        })
    }

    /// Whether the engine must be woken before it answers.
    pub(crate) fn is_sleeping(&self) -> bool {
        self.is_sleeping.load(Ordering::Relaxed)
    }

    /// Gives memory back. Running answers stop where they are and go on when the engine wakes.
    ///
    /// # Errors
    /// [`ControlError`] if the step loop is gone.
    pub(crate) async fn sleep(&self, level: SleepLevel) -> Result<(), ControlError> {
        self.command(|done| Command::Sleep { level, done }).await?;
        self.is_sleeping.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Takes the memory again.
    ///
    /// # Errors
    /// [`ControlError`] if the weights can no longer be read; the engine sleeps on then.
    pub(crate) async fn wake(&self) -> Result<(), ControlError> {
        self.command(|done| Command::Wake { done }).await?;
        self.is_sleeping.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets all content of the prefix cache.
    ///
    /// # Errors
    /// [`ControlError`] if the step loop is gone.
    pub(crate) async fn reset_prefix_cache(&self) -> Result<(), ControlError> {
        self.command(|done| Command::ResetPrefixCache { done })
            .await
    }

    /// Has the step loop carry something out.
    pub(super) async fn command(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<(), String>>) -> Command,
    ) -> Result<(), ControlError> {
        let (done, receiver) = oneshot::channel();
        let message = Message::Command(command(done));
        let sent = self.messages.send(message).await;
        sent.map_err(|_| ControlError::Closed)?;
        let carried_out = receiver.await.map_err(|_| ControlError::Closed)?;
        carried_out.map_err(ControlError::Failed)
    }
}

/// How many tokens a model has without those at its end that mean nothing: its matrix may have more rows than there
/// are tokens, or the file may have filled the list of tokens up.
fn vocabulary(tokenizer: &Tokenizer) -> usize {
    let means_something = |token: &TokenId| {
        !tokenizer.visible_bytes(*token).is_empty() || tokenizer.stop_tokens().contains(token)
    };
    let tokens = 0..tokenizer.vocabulary() as TokenId;
    let last = tokens.rev().find(means_something);
    last.map_or(tokenizer.vocabulary(), |token| token as usize + 1)
}
