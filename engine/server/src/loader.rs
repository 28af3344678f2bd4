//! From a source to a serving engine: fetch, load, start; again with back-off until it works.

mod plan;
mod start;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use protocol::load::{LoadFailure, LoadPhase, LoadReport};
use tokio::task;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::args::EngineArgs;
use crate::runner::Runner;
use crate::source::{self, FetchError, SourceOptions};
use crate::state::{EncoderLoop, State};

#[cfg(test)]
pub(crate) use start::start;

const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A failed attempt, in the words of the load report.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: LoadFailure,
    message: String,
}

/// The loop that computes, for either kind of model.
pub(crate) enum Work {
    Generate(Box<Runner>),
    Embed(Box<EncoderLoop>),
}

impl Work {
    /// Computes until nobody can send requests any more, or until `abort`. False if it cannot go on.
    pub(crate) fn run(self, abort: &CancellationToken) -> bool {
        match self {
            Self::Generate(runner) => runner.run(abort),
            Self::Embed(encoder) => {
                encoder.run(abort);
                true
            }
        }
    }
}

/// Loads the model, however long it takes, and returns the loop that computes.
pub(crate) async fn load(args: &EngineArgs, state: &Arc<State>) -> Work {
    let mut delay = RETRY_FIRST;
    loop {
        let Failure { reason, message } = match attempt(args, state).await {
            Ok(work) => return work,
            Err(failure) => failure,
        };
        warn!(?reason, %message, retry_in = ?delay, "the model could not be loaded");
        let (phase, reason) = (LoadPhase::Failed, Some(reason));
        state.set_report(LoadReport {
            phase,
            reason,
            message,
            ..LoadReport::starting()
        });
        sleep(delay).await;
        delay = (delay * 2).min(RETRY_MAX);
    }
}

async fn attempt(args: &EngineArgs, state: &Arc<State>) -> Result<Work, Failure> {
    let options = args.weights.options();
    let path = fetch(args, state, &args.weights.source, &options).await?;
    let mut loras = Vec::new();
    for lora in &args.loras {
        // The digest is that of the weights.
        let options = SourceOptions {
            sha256: None,
            ..options.clone()
        };
        let path = fetch(args, state, &lora.source, &options).await?;
        loras.push((lora.name.clone(), path));
    }
    state.progress(LoadPhase::Loading, 0, None);
    let (args, shared) = (args.clone(), Arc::clone(state));
    let loading = task::spawn_blocking(move || start::start_with(&args, &shared, &path, &loras));
    let failed = |message: String| Failure {
        reason: LoadFailure::VerifyFailed,
        message,
    };
    let work = loading
        .await
        .unwrap_or_else(|error| Err(failed(format!("loading the weights failed: {error}"))))?;
    Ok(work)
}

async fn fetch(
    args: &EngineArgs,
    state: &Arc<State>,
    source: &str,
    options: &SourceOptions,
) -> Result<PathBuf, Failure> {
    let progress = |phase: source::Phase, bytes: u64, total: Option<u64>| {
        let phase = match phase {
            source::Phase::Downloading => LoadPhase::Downloading,
            source::Phase::Verifying => LoadPhase::Verifying,
        };
        state.progress(phase, bytes, total);
    };
    let fetched = source::fetch_source(source, &args.weights.cache_dir, options, &progress).await;
    let failed = |error: FetchError| Failure {
        reason: error.load_failure(),
        message: describe(&error),
    };
    Ok(fetched.map_err(failed)?.path().to_owned())
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
