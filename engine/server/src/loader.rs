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
/// Longest pause that a source may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// A failed attempt, in the words of the load report.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: LoadFailure,
    message: String,
    /// How long the source asks to be left alone.
    retry_after: Option<Duration>,
}

impl Failure {
    const fn new(reason: LoadFailure, message: String) -> Self {
        Self {
            reason,
            message,
            retry_after: None,
        }
    }

    fn of_adapter(self, name: &str) -> Self {
        Self {
            message: format!("adapter {name:?} cannot be loaded: {}", self.message),
            ..self
        }
    }
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self {
            retry_after: error.retry_after(),
            ..Self::new(error.load_failure(), describe(&error))
        }
    }
}

/// The pauses between attempts: longer each time, and as long as the source asks for.
#[derive(Debug)]
struct Pauses {
    next: Duration,
}

impl Pauses {
    fn after(&mut self, failure: &Failure) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(RETRY_MAX);
        let asked = failure.retry_after.unwrap_or_default();
        pause.max(asked.min(RETRY_AFTER_MAX))
    }
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
    let mut pauses = Pauses { next: RETRY_FIRST };
    loop {
        let failure = match attempt(args, state).await {
            Ok(work) => return work,
            Err(failure) => failure,
        };
        let pause = pauses.after(&failure);
        let Failure {
            reason, message, ..
        } = failure;
        warn!(?reason, %message, retry_in = ?pause, "the model could not be loaded");
        let (phase, reason) = (LoadPhase::Failed, Some(reason));
        state.set_report(LoadReport {
            phase,
            reason,
            message,
            ..LoadReport::starting()
        });
        sleep(pause).await;
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
        let fetched = fetch(args, state, &lora.source, &options).await;
        let path = fetched.map_err(|failure| failure.of_adapter(&lora.name))?;
        loras.push((lora.name.clone(), path));
    }
    state.progress(LoadPhase::Loading, 0, None);
    let (args, shared) = (args.clone(), Arc::clone(state));
    let loading = task::spawn_blocking(move || start::start_with(&args, &shared, &path, &loras));
    loading.await.unwrap_or_else(|error| {
        let message = format!("loading the weights failed: {error}");
        Err(Failure::new(LoadFailure::VerifyFailed, message))
    })
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
    Ok(fetched?.path().to_owned())
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Failure, Pauses, RETRY_AFTER_MAX, RETRY_FIRST, RETRY_MAX};
    use crate::source::FetchError;

    fn busy(wait: Option<Duration>) -> Failure {
        Failure::from(FetchError::Busy {
            what: "https://host.test/m.gguf".to_owned(),
            status: 429,
            wait,
        })
    }

    #[test]
    fn pauses_grow_and_are_as_long_as_the_source_asks_for() {
        let seconds = |count: u64| Duration::from_secs(count);
        let mut pauses = Pauses { next: RETRY_FIRST };
        for (asked, expected) in [
            (None, seconds(1)),
            (Some(seconds(300)), seconds(300)),
            (None, seconds(4)),
            (Some(seconds(3)), seconds(8)),
            (Some(Duration::MAX), RETRY_AFTER_MAX),
            (None, seconds(32)),
            (None, RETRY_MAX),
            (Some(RETRY_MAX + seconds(1)), RETRY_MAX + seconds(1)),
            (None, RETRY_MAX),
        ] {
            assert_eq!(pauses.after(&busy(asked)), expected, "{asked:?}");
        }
    }
}
