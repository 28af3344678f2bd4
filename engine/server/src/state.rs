//! What the HTTP handlers, the loader and the step loop share.

mod adapters;
mod encoder;
mod engine;
mod offload;

pub(crate) use adapters::{AdapterFault, Adapters};
pub(crate) use encoder::{EmbedError, EncoderHandle, EncoderLoop};
pub(crate) use engine::{ControlError, Engine, EngineParts, SubmitError};
pub(crate) use offload::Offload;

use std::sync::{Arc, OnceLock};

use protocol::load::{LoadPhase, LoadReport};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// What a process serves: one model, of one of two kinds.
#[derive(Debug)]
enum Served {
    Engine(Arc<Engine>),
    Encoder(Arc<EncoderHandle>),
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
    /// Where requests are read and encoded.
    pub(crate) offload: Offload,
    /// Whether the administrative routes are served: sleep, cache, adapters.
    pub(crate) has_admin: bool,
    report: watch::Sender<LoadReport>,
    served: OnceLock<Served>,
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
            offload: Offload::new(),
            has_admin: false,
            report,
            served: OnceLock::new(),
        }
    }

    /// As it was, with the administrative routes or without.
    #[must_use]
    pub(crate) fn with_admin(mut self, has_admin: bool) -> Self {
        self.has_admin = has_admin;
        self
    }

    /// The engine, once a generative model is loaded and while it takes requests.
    pub(crate) fn engine(&self) -> Option<Arc<Engine>> {
        match self.served.get() {
            Some(Served::Engine(engine)) if !self.draining.is_cancelled() => {
                Some(Arc::clone(engine))
            }
            Some(Served::Engine(_) | Served::Encoder(_)) | None => None,
        }
    }

    /// The encoder, once a model for embeddings is loaded and while it takes requests.
    pub(crate) fn encoder(&self) -> Option<Arc<EncoderHandle>> {
        match self.served.get() {
            Some(Served::Encoder(encoder)) if !self.draining.is_cancelled() => {
                Some(Arc::clone(encoder))
            }
            Some(Served::Engine(_) | Served::Encoder(_)) | None => None,
        }
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

    /// Makes the engine known; only the first model counts.
    pub(crate) fn set_engine(&self, engine: Arc<Engine>, report: LoadReport) {
        if self.served.set(Served::Engine(engine)).is_ok() {
            self.set_report(report);
        }
    }

    /// Makes the encoder known; only the first model counts.
    pub(crate) fn set_encoder(&self, encoder: Arc<EncoderHandle>, report: LoadReport) {
        if self.served.set(Served::Encoder(encoder)).is_ok() {
            self.set_report(report);
        }
    }
}
