//! A loaded model for embeddings: a small loop that computes texts of several requests at once.

use std::sync::Arc;

use engine_core::TokenId;
use engine_models::{Encoder, InvalidInput, Tokenizer};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Tokens that are computed together, so that no request waits long for others.
const BATCH_TOKENS_MAX: usize = 4096;

/// Texts to embed, as tokens, and whom to tell.
#[derive(Debug)]
pub(crate) struct EmbedRequest {
    texts: Vec<Vec<TokenId>>,
    done: oneshot::Sender<Result<Vec<Vec<f32>>, InvalidInput>>,
}

/// Why texts are not embedded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum EmbedError {
    /// A text does not fit the model.
    #[error(transparent)]
    Invalid(#[from] InvalidInput),
    /// Too many requests wait; later there will be room.
    #[error("too many requests wait")]
    Full,
    /// The loop has ended.
    #[error("the engine stops")]
    Closed,
}

/// Where texts go.
#[derive(Debug)]
pub(crate) struct EncoderHandle {
    requests: mpsc::Sender<EmbedRequest>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    /// Tokens that a text may have.
    pub(crate) length_max: usize,
    /// Numbers of a vector.
    pub(crate) width: usize,
}

/// What computes them.
#[derive(Debug)]
pub(crate) struct EncoderLoop {
    encoder: Encoder,
    requests: mpsc::Receiver<EmbedRequest>,
}

impl EncoderHandle {
    /// A handle and the loop behind it, which at most `waiting_max` requests wait for.
    pub(crate) fn new(
        encoder: Encoder,
        tokenizer: Arc<Tokenizer>,
        waiting_max: usize,
    ) -> (Self, EncoderLoop) {
        let (sender, requests) = mpsc::channel(waiting_max.max(1));
        let config = encoder.config();
        let handle = Self {
            requests: sender,
            tokenizer,
            length_max: config.length_max,
            width: config.width,
        };
        (handle, EncoderLoop { encoder, requests })
    }

    /// The vectors of some texts.
    ///
    /// # Errors
    /// [`EmbedError`] says whether the texts are wrong or the engine is busy.
    pub(crate) async fn embed(
        &self,
        texts: Vec<Vec<TokenId>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let (done, receiver) = oneshot::channel();
        let sent = self.requests.try_send(EmbedRequest { texts, done });
        sent.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EmbedError::Full,
            mpsc::error::TrySendError::Closed(_) => EmbedError::Closed,
        })?;
        let embedded = receiver.await.map_err(|_| EmbedError::Closed)?;
        embedded.map_err(EmbedError::Invalid)
    }
}

impl EncoderLoop {
    /// Computes until nobody can send texts any more, or until `abort`.
    pub(crate) fn run(mut self, abort: &CancellationToken) {
        while let Some(first) = self.requests.blocking_recv() {
            if abort.is_cancelled() {
                return;
            }
            let count = |request: &EmbedRequest| request.texts.iter().map(Vec::len).sum::<usize>();
            let mut tokens = count(&first);
            let mut batch = vec![first];
            while tokens < BATCH_TOKENS_MAX
                && let Ok(request) = self.requests.try_recv()
            {
                tokens += count(&request);
                batch.push(request);
            }
            self.answer(batch);
        }
    }

    /// Computes the texts of several requests together; one that is wrong spoils only its own request.
    fn answer(&self, batch: Vec<EmbedRequest>) {
        let wanted: Vec<_> = batch
            .into_iter()
            .filter(|request| !request.done.is_closed())
            .collect();
        let texts: Vec<_> = wanted
            .iter()
            .flat_map(|request| request.texts.iter().cloned())
            .collect();
        let Ok(vectors) = self.encoder.embed(&texts) else {
            for request in wanted {
                let _ = request.done.send(self.encoder.embed(&request.texts));
            }
            return;
        };
        let mut vectors = vectors.into_iter();
        for request in wanted {
            let own = vectors.by_ref().take(request.texts.len()).collect();
            let _ = request.done.send(Ok(own));
        }
    }
}
