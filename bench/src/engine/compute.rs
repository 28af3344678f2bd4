//! Our arithmetic without the server: scheduler, backend and sampler as the step loop drives them.
//!
//! The work is what `llama-bench` and `llama-batched-bench` do, except that ours also chooses each token, greedily;
//! they feed random ones.

use std::{
    collections::HashMap,
    io::Write,
    num::{NonZeroU32, NonZeroUsize},
    path::PathBuf,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use engine_core::{
    Allowed, BlockPool, Cache, NewSequence, Sampler, SamplingParameters, Scheduler,
    SchedulerOptions, SchedulingPolicy, Scratch, SequenceId, TokenId,
};
use engine_models::{Arithmetic, Backend, BatchRow, CacheShape, CpuBackend, CpuOptions, Loaded};
use engine_server::EngineArgs;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::bandwidth;

const BLOCK_TOKENS: u32 = 16;
const CACHE_TOKENS: u32 = 8192;
/// A prompt as `llama-bench` takes it, and an answer as it makes it.
const PROMPT: usize = 512;
const ANSWER: usize = 128;
/// A prompt of each stream.
const STREAM_PROMPT: usize = 128;

/// What to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The model's file.
    #[arg(long)]
    model: PathBuf,
    /// Threads that compute.
    #[arg(long)]
    threads: NonZeroUsize,
    /// Sequences of the batch; 0 leaves the batch out.
    #[arg(long, default_value_t = 8)]
    streams: usize,
}

/// Speeds in tokens a second, and sizes in bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Computed {
    pub(crate) prefill: f64,
    pub(crate) decode: f64,
    pub(crate) streams: Option<f64>,
    pub(crate) weight_bytes: f64,
    pub(crate) cache_bytes_per_token: f64,
    /// Bytes a second that as many threads read.
    pub(crate) bandwidth: f64,
}

impl Computed {
    /// Bytes that a token of the decoded answer reads: the weights, and on average half of the answer's cache.
    pub(crate) fn bytes_per_token(&self) -> f64 {
        self.weight_bytes + self.cache_bytes_per_token * ANSWER as f64 / 2.0
    }
}

/// Measures and prints JSON.
pub(crate) fn run(args: &Args) -> Result<()> {
    let mut engine = Engine::open(args)?;
    // Once for the caches, the pages and the processor's clock.
    engine.prefill()?;
    let prefill = engine.prefill()?;
    engine.decode()?;
    let decode = engine.decode()?;
    let bandwidth = bandwidth::measure(args.threads.get());
    let streams = match args.streams {
        0 => None,
        count => Some(engine.streams(count)?),
    };
    let computed = Computed {
        prefill,
        decode,
        streams,
        weight_bytes: engine.weight_bytes,
        cache_bytes_per_token: engine.cache_bytes_per_token,
        bandwidth,
    };
    let text = serde_json::to_string(&computed).context("writing the figures")?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("printing the figures")
}

/// The flags that the server would have by default.
#[derive(Debug, Parser)]
struct Defaults {
    #[command(flatten)]
    engine: EngineArgs,
}

fn defaults() -> Result<EngineArgs> {
    let words = [
        "bench",
        "--listen",
        "127.0.0.1:0",
        "--source",
        "file:///model",
        "--served-name",
        "bench",
        "--cache-dir",
        "/tmp",
    ];
    let defaults = Defaults::try_parse_from(words).context("reading the server's defaults")?;
    Ok(defaults.engine)
}

struct Engine {
    scheduler: Scheduler,
    backend: CpuBackend,
    samplers: HashMap<SequenceId, Sampler>,
    scratch: Scratch,
    random: StdRng,
    vocabulary: TokenId,
    next_id: u64,
    weight_bytes: f64,
    cache_bytes_per_token: f64,
}

impl Engine {
    fn open(args: &Args) -> Result<Self> {
        let loaded = Loaded::open(&args.model)
            .with_context(|| format!("opening {}", args.model.display()))?;
        let config = loaded.model.config().clone();
        let file_bytes = loaded.file_bytes as f64;
        let options = CpuOptions {
            cache: CacheShape {
                blocks: (CACHE_TOKENS / BLOCK_TOKENS) as usize,
                block_tokens: BLOCK_TOKENS as usize,
            },
            threads: args.threads,
            arithmetic: Arithmetic::default(),
            float_weights: Default::default(),
        };
        let defaults = defaults()?;
        let scheduling = SchedulerOptions {
            step_tokens_max: defaults.step_tokens,
            sequences_max: defaults.max_sequences,
            waiting_max: defaults.max_waiting,
            waiting_tokens_max: usize::MAX,
            policy: SchedulingPolicy::default(),
            speculation: None,
        };
        let block_tokens = NonZeroU32::new(BLOCK_TOKENS).unwrap_or(NonZeroU32::MIN);
        let pool = BlockPool::new(CACHE_TOKENS / BLOCK_TOKENS, block_tokens);
        let backend = CpuBackend::new(loaded.model, options);
        let packed_bytes = backend.memory().weights as f64;
        Ok(Self {
            scheduler: Scheduler::new(scheduling, Cache::new(pool)),
            // A backend that reads the file in place has packed nothing.
            weight_bytes: if packed_bytes == 0.0 {
                file_bytes
            } else {
                packed_bytes
            },
            cache_bytes_per_token: backend.block_bytes() as f64 / f64::from(BLOCK_TOKENS),
            backend,
            samplers: HashMap::new(),
            scratch: Scratch::default(),
            random: StdRng::seed_from_u64(1),
            vocabulary: u32::try_from(config.vocabulary).unwrap_or(u32::MAX),
            next_id: 0,
        })
    }

    /// A whole prompt, in the chunks that the server makes.
    fn prefill(&mut self) -> Result<f64> {
        let begin = Instant::now();
        self.add(PROMPT, 1)?;
        while self.step()? == 0 {}
        let seconds = begin.elapsed().as_secs_f64();
        self.clear();
        Ok(PROMPT as f64 / seconds)
    }

    /// Single tokens behind an empty beginning.
    fn decode(&mut self) -> Result<f64> {
        self.add(1, ANSWER)?;
        let begin = Instant::now();
        let mut made = 0;
        while made < ANSWER {
            made += self.step()?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        self.clear();
        Ok(made as f64 / seconds)
    }

    /// A token of each stream at a time; the prompts before do not count.
    fn streams(&mut self, count: usize) -> Result<f64> {
        // Whoever is computed first makes some tokens while the others' prompts are computed.
        let spare = count * STREAM_PROMPT;
        for _ in 0..count {
            self.add(STREAM_PROMPT, ANSWER + spare)?;
        }
        while self.step()? < count {}
        let begin = Instant::now();
        let mut made = 0;
        for _ in 0..ANSWER {
            made += self.step()?;
        }
        let seconds = begin.elapsed().as_secs_f64();
        ensure!(made == count * ANSWER, "a stream has missed a step");
        self.clear();
        Ok(made as f64 / seconds)
    }

    fn add(&mut self, prompt: usize, answer: usize) -> Result<()> {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let vocabulary = self.vocabulary;
        let tokens = (0..prompt).map(|_| self.random.random_range(0..vocabulary));
        let new = NewSequence {
            prompt: tokens.collect(),
            length_max: prompt + answer,
            ..NewSequence::default()
        };
        self.scheduler.add(id, new).context("adding a sequence")?;
        let sampler = Sampler::new(SamplingParameters::default());
        self.samplers.insert(id, sampler);
        Ok(())
    }

    /// One step as the server's loop makes it; gives the number of tokens that it made.
    fn step(&mut self) -> Result<usize> {
        let step = self.scheduler.schedule();
        if step.rows.is_empty() {
            bail!("there is nothing to compute");
        }
        let scheduler = &self.scheduler;
        let rows = step.rows.iter().filter_map(|row| {
            let sequence = scheduler.sequence(row.sequence)?;
            Some(BatchRow {
                tokens: &sequence.tokens()[row.start..row.start + row.length],
                start: row.start,
                blocks: sequence.blocks(),
                outputs: row.outputs,
                adapter: None,
            })
        });
        let logits = self.backend.forward(&rows.collect::<Vec<_>>());
        let sampling = step.rows.iter().filter(|row| 0 < row.outputs);
        let mut sampled = Vec::new();
        for (row, logits) in sampling.zip(logits.rows()) {
            if let Some(sampler) = self.samplers.get_mut(&row.sequence) {
                let chosen = sampler.sample(logits, Allowed::default(), &mut self.scratch);
                sampled.push((row.sequence, chosen.token));
            }
        }
        for (id, token) in &sampled {
            self.scheduler.settle(*id, &[*token], 0);
        }
        Ok(sampled.len())
    }

    fn clear(&mut self) {
        for (id, _) in self.samplers.drain() {
            self.scheduler.remove(id);
        }
    }
}
