//! Opens a model and puts an engine behind it.

use std::collections::HashMap;
use std::error::Error;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use engine_core::{AdapterId, BlockPool, Cache, Scheduler};
use engine_models::{
    Adapter, Backend, CacheShape, ChatTemplate, CpuBackend, CpuOptions, LoadError, Loaded,
    LoadedEncoder, ModelConfig, Opened,
};
use protocol::load::{LoadFailure, LoadPhase, LoadReport, ModelFacts};
use tokio::sync::mpsc;
use tracing::info;

use crate::args::EngineArgs;
use crate::metrics::CacheConfig;
use crate::parse::Formats;
use crate::runner::{EventLog, Runner, RunnerOptions};
use crate::state::{Adapters, EncoderHandle, Engine, EngineParts, State};

use super::plan::{BLOCK_TOKENS, Plan, arithmetic, scheduler_options};
use super::{Failure, Work, describe};

/// Opens a generative model without adapters.
#[cfg(test)]
pub(crate) fn start(args: &EngineArgs, state: &Arc<State>, path: &Path) -> Result<Work, Failure> {
    start_with(args, state, path, &[])
}

/// Opens a file or a folder and puts an engine behind it, with these adapters.
pub(super) fn start_with(
    args: &EngineArgs,
    state: &Arc<State>,
    path: &Path,
    loras: &[(String, PathBuf)],
) -> Result<Work, Failure> {
    let opened = engine_models::open(path).map_err(|error| explain(&error, path))?;
    match opened {
        Opened::Generative(loaded) => generate(args, state, *loaded, loras),
        Opened::Encoder(loaded) => Ok(embed(args, state, *loaded)),
    }
}

fn generate(
    args: &EngineArgs,
    state: &Arc<State>,
    loaded: Loaded,
    loras: &[(String, PathBuf)],
) -> Result<Work, Failure> {
    let Loaded {
        model,
        tokenizer,
        template,
        file_bytes,
        parameters,
    } = loaded;
    let config = model.config().clone();
    let (arithmetic, _) = arithmetic(args);
    let block_bytes = CpuBackend::cache_block_bytes(&config, BLOCK_TOKENS as usize, arithmetic);
    let plan = Plan::new(args, config.context_length, block_bytes);
    let formats = formats(args, template.as_ref())?;
    let mut backend = CpuBackend::new(model, cpu_options(args, &plan));
    let adapters = Adapters::new(args.max_loras, state.names.clone());
    let known = add_adapters(&mut backend, &adapters, &config, loras)?;
    let facts = ModelFacts {
        architecture: config.architecture.clone(),
        parameters,
        weight_bytes: file_bytes,
        context_length: u32::try_from(config.context_length).unwrap_or(u32::MAX),
        device: backend.device().to_owned(),
    };
    let memory = backend.memory();
    info!(
        architecture = %facts.architecture, parameters, context_length = plan.context_length,
        cache_blocks = plan.blocks, threads = plan.threads.get(), works_ahead = plan.is_ahead,
        weight_bytes = memory.weights, cache_bytes = memory.cache, device = backend.device(), "model loaded"
    );
    describe_cache(state, &plan, backend.block_bytes());
    let events = args
        .kv_events
        .then(|| Arc::new(EventLog::new(BLOCK_TOKENS)));
    let (sender, messages) = mpsc::channel(args.max_waiting.max(1));
    let tokenizer = Arc::new(tokenizer);
    let runner = Runner::new(RunnerOptions {
        scheduler: Scheduler::new(scheduler_options(args), cache(&plan, args.kv_events)),
        backend: Box::new(backend),
        tokenizer: Arc::clone(&tokenizer),
        metrics: Arc::clone(&state.metrics),
        messages,
        events: events.clone(),
        is_ahead: plan.is_ahead,
        adapters: known,
        adapters_max: args.max_loras,
    });
    let engine = Engine::new(EngineParts {
        messages: sender,
        tokenizer,
        template,
        template_variables: args
            .default_chat_template_kwargs
            .clone()
            .unwrap_or_default(),
        formats,
        config,
        context_length: plan.context_length,
        adapters,
        events,
    });
    let engine = Arc::new(engine);
    warm(&engine);
    state.set_engine(engine, ready(file_bytes, facts));
    Ok(Work::Generate(Box::new(runner)))
}

fn cpu_options(args: &EngineArgs, plan: &Plan) -> CpuOptions {
    let (arithmetic, float_weights) = arithmetic(args);
    CpuOptions {
        cache: CacheShape {
            blocks: plan.blocks as usize,
            block_tokens: BLOCK_TOKENS as usize,
        },
        threads: plan.threads,
        arithmetic,
        float_weights,
    }
}

/// How this model writes tool calls and thoughts.
fn formats(args: &EngineArgs, template: Option<&ChatTemplate>) -> Result<Formats, Failure> {
    let formats = Formats::detect(
        template.map(ChatTemplate::source),
        args.tool_call_format.as_deref(),
        args.reasoning_tag.as_deref(),
    );
    formats.map_err(|error| unsupported(describe(&error)))
}

/// Loads the adapters that are there from the start; returns their names.
fn add_adapters(
    backend: &mut CpuBackend,
    adapters: &Adapters,
    config: &ModelConfig,
    loras: &[(String, PathBuf)],
) -> Result<HashMap<AdapterId, String>, Failure> {
    let mut known = HashMap::new();
    for (name, path) in loras {
        let fault = |error: &dyn Error| unsupported(describe(error)).of_adapter(name);
        let adapter = Adapter::open(path, config).map_err(|error| fault(&error))?;
        let id = adapters.insert(name, path);
        let id = id.map_err(|error| fault(&error))?;
        backend.add_adapter(id, Arc::new(adapter));
        known.insert(id, name.clone());
    }
    Ok(known)
}

const fn unsupported(message: String) -> Failure {
    Failure::new(LoadFailure::Unsupported, message)
}

fn cache(plan: &Plan, has_events: bool) -> Cache {
    let block_tokens = NonZeroU32::new(BLOCK_TOKENS).unwrap_or(NonZeroU32::MIN);
    let cache = Cache::new(BlockPool::new(plan.blocks, block_tokens)).with_host(plan.host_blocks);
    if has_events {
        cache.with_events()
    } else {
        cache
    }
}

/// Builds what all grammars share, beside everything else: the first request with one need not wait for it.
fn warm(engine: &Arc<Engine>) {
    let grammars = Arc::clone(&engine.grammars);
    let spawned = thread::Builder::new()
        .name("grammars".to_owned())
        .spawn(move || grammars.warm());
    // Without a thread the first request builds it.
    drop(spawned);
}

fn describe_cache(state: &State, plan: &Plan, block_bytes: usize) {
    let blocks = plan.blocks as usize;
    let labels = CacheConfig {
        block_size: BLOCK_TOKENS.to_string(),
        num_gpu_blocks: plan.blocks.to_string(),
        num_cpu_blocks: plan.host_blocks.to_string(),
        enable_prefix_caching: "True".to_owned(),
        prefix_caching_hash_algo: "sha256".to_owned(),
        kv_cache_size_tokens: (blocks * BLOCK_TOKENS as usize).to_string(),
        kv_cache_memory_bytes: (blocks * block_bytes).to_string(),
    };
    state.metrics.cache_config.get_or_create(&labels).set(1);
}

fn embed(args: &EngineArgs, state: &Arc<State>, loaded: LoadedEncoder) -> Work {
    let LoadedEncoder {
        mut encoder,
        tokenizer,
        file_bytes,
        parameters,
    } = loaded;
    let config = encoder.config();
    let facts = ModelFacts {
        architecture: config.architecture.clone(),
        parameters,
        weight_bytes: file_bytes,
        context_length: u32::try_from(config.length_max).unwrap_or(u32::MAX),
        device: "cpu".to_owned(),
    };
    let plan = Plan::new(args, config.length_max, 1);
    info!(architecture = %facts.architecture, parameters, threads = plan.threads.get(), "encoder loaded");
    encoder.use_threads(plan.threads);
    let (handle, work) = EncoderHandle::new(encoder, Arc::new(tokenizer), args.max_waiting);
    state.set_encoder(Arc::new(handle), ready(file_bytes, facts));
    Work::Embed(Box::new(work))
}

fn ready(bytes: u64, facts: ModelFacts) -> LoadReport {
    LoadReport {
        phase: LoadPhase::Ready,
        bytes,
        bytes_total: Some(bytes),
        facts: Some(facts),
        ..LoadReport::starting()
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
        path.display(),
        describe(error)
    );
    Failure::new(reason, message)
}
