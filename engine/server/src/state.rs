//! What the HTTP handlers, the loader and the step loop share.

use std::sync::{Arc, OnceLock};

use engine_models::{ChatTemplate, Tokenizer};
use protocol::load::{LoadPhase, LoadReport};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::grammar::Grammars;
use crate::metrics::Metrics;
use crate::parse::Formats;
use crate::runner::Request;

/// A loaded model, ready to take requests.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) template: Option<ChatTemplate>,
    /// Restricts answers.
    pub(crate) grammars: Arc<Grammars>,
    /// How the model writes reasoning and calls.
    pub(crate) formats: Formats,
    /// Most tokens of a prompt and its answer.
    pub(crate) context_length: usize,
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

impl Engine {
    /// Hands a request to the step loop, which answers over the request's channel.
    ///
    /// # Errors
    /// [`SubmitError`]; nothing has happened then.
    pub(crate) fn submit(&self, request: Request) -> Result<(), SubmitError> {
        self.requests
            .try_send(request)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => SubmitError::Full,
                mpsc::error::TrySendError::Closed(_) => SubmitError::Closed,
            })
    }
}

/// The process's state.
#[derive(Debug)]
pub(crate) struct State {
    /// The model's names, the served one first.
    pub(crate) names: Vec<String>,
    /// When the process started, in Unix seconds.
    pub(crate) created: i64,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) draining: CancellationToken,
    report: watch::Sender<LoadReport>,
    engine: OnceLock<Arc<Engine>>,
}

impl State {
    pub(crate) fn new(names: Vec<String>, created: i64, draining: CancellationToken) -> Self {
        let metrics = Arc::new(Metrics::new(names.first().map_or("", String::as_str)));
        let (report, _) = watch::channel(LoadReport::starting());
        Self {
            names,
            created,
            metrics,
            draining,
            report,
            engine: OnceLock::new(),
        }
    }

    /// The engine, once it is loaded and while it takes requests.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        self.engine
            .get()
            .cloned()
            .filter(|_| !self.draining.is_cancelled())
    }

    pub(crate) fn report(&self) -> LoadReport {
        self.report.borrow().clone()
    }

    /// Follows the report.
    #[cfg(test)]
    pub(crate) fn reports(&self) -> watch::Receiver<LoadReport> {
        self.report.subscribe()
    }

    pub(crate) fn set_report(&self, report: LoadReport) {
        self.report.send_replace(report);
    }

    /// Notes progress in a phase.
    pub(crate) fn progress(&self, phase: LoadPhase, bytes: u64, bytes_total: Option<u64>) {
        self.report.send_replace(LoadReport {
            phase,
            bytes,
            bytes_total,
            ..LoadReport::starting()
        });
    }

    /// Makes the engine known; only the first one counts.
    pub(crate) fn set_engine(&self, engine: Engine, report: LoadReport) {
        if self.engine.set(Arc::new(engine)).is_ok() {
            self.set_report(report);
        }
    }
}
