//! The part of a form that has not come yet: it passes through once, and is read while it passes.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};
use hyper::body::Body;
use parking_lot::Mutex;
use protocol::openai::ErrorKind;

use super::form::Form;
use crate::{decode::BODY_TIMEOUT, fault::Fault};

/// A client's form, chunk by chunk.
pub(super) struct Source {
    body: UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>,
    /// What was read of it.
    pub(super) form: Form,
    received: u64,
    bytes_max: u64,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Source").finish_non_exhaustive()
    }
}

impl Source {
    /// A form of at most so many bytes.
    pub(super) const fn new(
        body: UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>,
        form: Form,
        bytes_max: u64,
    ) -> Self {
        Self {
            body,
            form,
            received: 0,
            bytes_max,
        }
    }

    /// The next bytes; `None` after the last ones.
    ///
    /// # Errors
    /// The form is too large, is cut off, comes too slowly, or is malformed.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        let invalid = |message: String| Fault::new(ErrorKind::InvalidRequest, message);
        loop {
            let frame = tokio::time::timeout(BODY_TIMEOUT, self.body.frame());
            let frame = frame.await.map_err(|_| {
                invalid(format!(
                    "Nothing of the request's body came for {BODY_TIMEOUT:?}."
                ))
            })?;
            let Some(frame) = frame else {
                self.form.finish()?;
                return Ok(None);
            };
            let ended = |_| invalid("The request's body ended early.".to_owned());
            let Ok(data) = frame.map_err(ended)?.into_data() else {
                continue;
            };
            self.received = self.received.saturating_add(data.len() as u64);
            if self.bytes_max < self.received {
                return Err(self.too_large());
            }
            self.form.push(&data)?;
            if self.body.is_end_stream() {
                // Where the length was declared, an upstream that has it all asks for nothing more.
                self.form.finish()?;
            }
            return Ok(Some(data));
        }
    }

    /// What the client is told of a form over the limit.
    pub(super) fn too_large(&self) -> Fault {
        let message = format!(
            "The request's body is larger than {} bytes.",
            self.bytes_max
        );
        Fault::new(ErrorKind::RequestTooLarge, message)
    }
}

/// What is to come of a form, until somebody takes it.
#[derive(Debug)]
pub(super) struct Rest {
    state: Mutex<State>,
    fault: Mutex<Option<Fault>>,
    /// Whether the client is what is waited for.
    is_waiting: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// All of the form came.
    Complete,
    /// Nobody has begun to pass it on.
    Waiting(Box<Source>),
    /// It is passed on, or was.
    Taken,
}

impl Rest {
    /// What is to come; `None` after the end.
    pub(super) fn new(source: Option<Source>) -> Self {
        let state = source.map_or(State::Complete, |source| State::Waiting(Box::new(source)));
        Self {
            state: Mutex::new(state),
            fault: Mutex::default(),
            is_waiting: AtomicBool::new(false),
        }
    }

    /// Whether somebody has taken it.
    pub(super) fn is_taken(&self) -> bool {
        matches!(*self.state.lock(), State::Taken)
    }

    /// What the client did wrong.
    pub(super) fn blame(&self, is_late: bool) -> Option<Fault> {
        let late = || {
            let message = "The request's body did not arrive within the route's time.";
            Fault::new(ErrorKind::InvalidRequest, message)
        };
        let is_late = is_late && self.is_waiting.load(Ordering::Relaxed);
        self.fault.lock().clone().or_else(|| is_late.then(late))
    }

    /// Its bytes. It is taken when they are asked for, not before: an upstream that refuses the beginning leaves it.
    pub(super) fn stream(rest: Arc<Self>) -> BoxStream<'static, io::Result<Bytes>> {
        let chunks = stream::try_unfold(None, move |source: Option<Box<Source>>| {
            let rest = Arc::clone(&rest);
            async move {
                let Some(mut source) = source.or_else(|| rest.take()) else {
                    return Ok(None);
                };
                rest.is_waiting.store(true, Ordering::Relaxed);
                let next = source.next().await;
                rest.is_waiting.store(false, Ordering::Relaxed);
                match next {
                    Ok(next) => Ok(next.map(|bytes| (bytes, Some(source)))),
                    Err(fault) => {
                        let broken = io::Error::other(fault.message.clone());
                        *rest.fault.lock() = Some(fault);
                        Err(broken)
                    }
                }
            }
        });
        chunks.boxed()
    }

    fn take(&self) -> Option<Box<Source>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting(source) => Some(source),
            before @ (State::Complete | State::Taken) => {
                *state = before;
                None
            }
        }
    }
}
