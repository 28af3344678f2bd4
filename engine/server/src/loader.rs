//! From a source to a serving engine: fetch, load, start; again with back-off until it works.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use engine_core::{BlockPool, Limits, Scheduler};
use engine_models::{
    Arithmetic, Backend, CacheShape, ChatTemplate, CpuBackend, CpuOptions, FloatWeights, LoadError, Loaded,
};
use protocol::load::{LoadFailure, LoadPhase, LoadReport, ModelFacts};
use tokio::sync::mpsc;
use tokio::task;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::args::EngineArgs;
use crate::grammar::Grammars;
use crate::parse::Formats;
use crate::runner::{Request, Runner};
use crate::source::{self, FetchOptions, Phase};
use crate::state::{Engine, State};

/// Tokens in a block of the cache.
const BLOCK_TOKENS: u32 = 16;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A failed attempt, in the words of the load report.
#[derive(Debug)]
pub(crate) struct Failure {
    reason: LoadFailure,
    message: String,
}

/// Loads the model, however long it takes, and returns the loop that computes.
pub(crate) async fn load(args: &EngineArgs, state: &Arc<State>) -> Runner {
    let mut delay = RETRY_FIRST;
    loop {
        let Failure { reason, message } = match attempt(args, state).await {
            Ok(runner) => return runner,
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

async fn attempt(args: &EngineArgs, state: &Arc<State>) -> Result<Runner, Failure> {
    let options = FetchOptions {
        sha256: args.sha256.clone(),
        hub_endpoint: args.hf_endpoint.clone(),
        hub_token: args.hf_token.clone(),
    };
    let progress = |phase: Phase, bytes: u64, total: Option<u64>| {
        let phase = match phase {
            Phase::Downloading => LoadPhase::Downloading,
            Phase::Verifying => LoadPhase::Verifying,
        };
        state.progress(phase, bytes, total);
    };
    let fetched = source::fetch_with(&args.source, &args.cache_dir, &options, &progress).await;
    let path = fetched.map_err(|error| Failure {
        reason: error.load_failure(),
        message: describe(&error),
    })?;
    state.progress(LoadPhase::Loading, 0, None);
    let (args, shared) = (args.clone(), Arc::clone(state));
    let loading = task::spawn_blocking(move || start(&args, &shared, &path));
    let failed = |message: String| Failure {
        reason: LoadFailure::VerifyFailed,
        message,
    };
    loading
        .await
        .unwrap_or_else(|error| Err(failed(format!("loading the weights failed: {error}"))))
}

/// Opens a file and puts the engine behind it.
pub(crate) fn start(args: &EngineArgs, state: &Arc<State>, path: &Path) -> Result<Runner, Failure> {
    let loaded = Loaded::open(path).map_err(|error| explain(&error, path))?;
    let config = loaded.model.config().clone();
    let plan = plan(args, config.context_length, config.cache_bytes_per_token());
    let facts = ModelFacts {
        architecture: config.architecture.clone(),
        parameters: loaded.parameters,
        weight_bytes: loaded.file_bytes,
        context_length: u32::try_from(config.context_length).unwrap_or(u32::MAX),
        device: "cpu".to_owned(),
    };
    let shape = CacheShape {
        blocks: plan.blocks as usize,
        block_tokens: BLOCK_TOKENS as usize,
    };
    let options = CpuOptions {
        cache: shape,
        threads: plan.threads,
        arithmetic: Arithmetic::F32,
        float_weights: FloatWeights::Keep,
    };
    let backend = CpuBackend::new(loaded.model, options);
    let limits = Limits {
        step_tokens_max: args.step_tokens.max(1),
        sequences_max: args.max_sequences.max(1),
        waiting_max: args.max_waiting,
    };
    let block_tokens = NonZeroU32::new(BLOCK_TOKENS).unwrap_or(NonZeroU32::MIN);
    let scheduler = Scheduler::new(limits, BlockPool::new(plan.blocks, block_tokens));
    let tokenizer = Arc::new(loaded.tokenizer);
    let template = loaded.template.as_ref().map(ChatTemplate::source);
    let formats = Formats::detect(template, None, None).map_err(|error| Failure {
        reason: LoadFailure::Unsupported,
        message: error.to_string(),
    })?;
    let (requests, received) = mpsc::channel::<Request>(args.max_waiting.max(1));
    info!(
        path = %path.display(), architecture = %facts.architecture, parameters = facts.parameters,
        context_length = plan.context_length, cache_blocks = plan.blocks, threads = plan.threads.get(),
        device = backend.device(), "model loaded"
    );
    let runner = Runner::new(
        scheduler,
        Box::new(backend),
        Arc::clone(&tokenizer),
        Arc::clone(&state.metrics),
        received,
    );
    let engine = Engine {
        requests,
        grammars: Arc::new(Grammars::new(Arc::clone(&tokenizer))),
        tokenizer,
        formats,
        template: loaded.template,
        context_length: plan.context_length,
    };
    let ready = LoadReport {
        phase: LoadPhase::Ready,
        bytes: loaded.file_bytes,
        bytes_total: Some(loaded.file_bytes),
        facts: Some(facts),
        ..LoadReport::starting()
    };
    state.set_engine(engine, ready);
    Ok(runner)
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    context_length: usize,
    blocks: u32,
    threads: NonZeroUsize,
}

/// Fits the context and the cache into the memory that is allowed.
fn plan(args: &EngineArgs, trained_length: usize, bytes_per_token: usize) -> Plan {
    let allowed = args.kv_cache_mib.saturating_mul(1 << 20) / bytes_per_token.max(1);
    let block_tokens = BLOCK_TOKENS as usize;
    // No more blocks than all sequences at their longest could use.
    let wished = args
        .context_length
        .unwrap_or(trained_length)
        .clamp(1, trained_length);
    let useful = wished
        .saturating_mul(args.max_sequences.max(1))
        .next_multiple_of(block_tokens);
    let blocks = (allowed.min(useful) / block_tokens).clamp(1, u32::MAX as usize);
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    Plan {
        context_length: wished.min(blocks * block_tokens),
        blocks: u32::try_from(blocks).unwrap_or(u32::MAX),
        threads: args.threads.and_then(NonZeroUsize::new).unwrap_or(cores),
    }
}

fn explain(error: &LoadError, path: &Path) -> Failure {
    let reason = if error.is_unsupported() {
        LoadFailure::Unsupported
    } else {
        LoadFailure::VerifyFailed
    };
    let advice = match reason {
        LoadFailure::Unsupported => "choose a model that this engine serves",
        _ => "check the source, or remove the file so that it is fetched again",
    };
    let message = format!(
        "{} cannot be served: {}; {advice}",
        PathBuf::from(path).display(),
        describe(error)
    );
    Failure { reason, message }
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
    use std::path::Path;

    use super::{BLOCK_TOKENS, plan};
    use crate::http::tests::fixture;

    #[track_caller]
    fn check(flags: &[&str], bytes_per_token: usize, expected: (usize, u32)) {
        let args = fixture::args("file:///m.gguf", Path::new("/cache"), flags);
        let plan = plan(&args, 1000, bytes_per_token);
        assert_eq!(
            (plan.context_length, plan.blocks * BLOCK_TOKENS),
            expected,
            "{flags:?}"
        );
    }

    #[test]
    fn context_and_cache_fit_the_memory() {
        let mebibyte = 1 << 20;
        check(&["--kv-cache-mib", "4096"], mebibyte, (1000, 4096));
        check(&["--kv-cache-mib", "500"], mebibyte, (496, 496));
        check(&["--kv-cache-mib", "0"], mebibyte, (16, 16));
        check(&["--context-length", "100"], 1, (100, 1600));
        check(
            &["--context-length", "5000", "--max-sequences", "1"],
            1,
            (1000, 1008),
        );
        check(
            &["--context-length", "100", "--max-sequences", "2"],
            1,
            (100, 208),
        );
    }
}
