//! Metrics under vLLM's names, which autoscalers, gateways and dashboards read already.
//!
//! Names, labels and buckets are those of vLLM 0.32; what it counts for devices or modes that this engine does not
//! have is left out.

mod labels;
mod register;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub(crate) use labels::{CacheConfig, Finished, Loras, Position, Reason, SleepState, Source};

const LATENCY_SECONDS: [f64; 21] = [
    0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0,
    480.0, 960.0, 1920.0, 7680.0,
];
const FIRST_TOKEN_SECONDS: [f64; 22] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    20.0, 40.0, 80.0, 160.0, 640.0, 2560.0,
];
const TOKEN_SECONDS: [f64; 19] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0,
    40.0, 80.0,
];
const TOKENS: [f64; 16] = [
    1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5,
];
const STEP_TOKENS: [f64; 13] = [
    1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0,
];
const COUNTS: [f64; 5] = [1.0, 2.0, 5.0, 10.0, 20.0];
const PREEMPTIONS: [f64; 7] = [1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0];
const SEQUENCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    // The state of the step loop.
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) waiting_by_reason: Family<Reason, Gauge>,
    pub(crate) cache_usage: Gauge<f64, AtomicU64>,
    pub(crate) sleep_state: Family<SleepState, Gauge>,
    pub(crate) cache_config: Family<CacheConfig, Gauge>,
    pub(crate) loras: Family<Loras, Gauge<f64, AtomicU64>>,
    pub(crate) batch_max: Gauge<i64, AtomicI64>,
    // Tokens.
    pub(crate) prompt_tokens: Counter,
    pub(crate) prompt_tokens_cached: Counter,
    pub(crate) prompt_tokens_by_source: Family<Source, Counter>,
    pub(crate) prompt_tokens_cached_by_source: Family<Source, Counter>,
    pub(crate) generation_tokens: Counter,
    pub(crate) prefix_queries: Counter,
    pub(crate) prefix_hits: Counter,
    pub(crate) host_queries: Counter,
    pub(crate) host_hits: Counter,
    pub(crate) drafts: Counter,
    pub(crate) draft_tokens: Counter,
    pub(crate) accepted_tokens: Counter,
    pub(crate) accepted_by_position: Family<Position, Counter>,
    pub(crate) step_tokens: Histogram,
    pub(crate) batch: Histogram,
    // Requests.
    pub(crate) preemptions: Counter,
    pub(crate) rejections: Family<Reason, Counter>,
    pub(crate) success: Family<Finished, Counter>,
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    pub(crate) mean_between_tokens: Histogram,
    pub(crate) whole_request: Histogram,
    pub(crate) queued: Histogram,
    pub(crate) inference: Histogram,
    pub(crate) prefill: Histogram,
    pub(crate) decode: Histogram,
    pub(crate) request_prompt: Histogram,
    pub(crate) request_generation: Histogram,
    pub(crate) request_generation_max: Histogram,
    pub(crate) request_preemptions: Histogram,
    pub(crate) request_computed: Histogram,
    pub(crate) params_n: Histogram,
    pub(crate) params_max_tokens: Histogram,
}

impl Metrics {
    pub(crate) fn new(model: &str) -> Self {
        let labels = [
            ("model_name".into(), model.to_owned().into()),
            ("engine".into(), "0".into()),
        ];
        let mut metrics = Self {
            registry: Registry::with_labels(labels.into_iter()),
            running: Gauge::default(),
            waiting: Gauge::default(),
            waiting_by_reason: Family::default(),
            cache_usage: Gauge::default(),
            sleep_state: Family::default(),
            cache_config: Family::default(),
            loras: Family::default(),
            batch_max: Gauge::default(),
            prompt_tokens: Counter::default(),
            prompt_tokens_cached: Counter::default(),
            prompt_tokens_by_source: Family::default(),
            prompt_tokens_cached_by_source: Family::default(),
            generation_tokens: Counter::default(),
            prefix_queries: Counter::default(),
            prefix_hits: Counter::default(),
            host_queries: Counter::default(),
            host_hits: Counter::default(),
            drafts: Counter::default(),
            draft_tokens: Counter::default(),
            accepted_tokens: Counter::default(),
            accepted_by_position: Family::default(),
            step_tokens: Histogram::new(STEP_TOKENS),
            batch: Histogram::new(SEQUENCES),
            preemptions: Counter::default(),
            rejections: Family::default(),
            success: Family::default(),
            first_token: Histogram::new(FIRST_TOKEN_SECONDS),
            between_tokens: Histogram::new(TOKEN_SECONDS),
            mean_between_tokens: Histogram::new(TOKEN_SECONDS),
            whole_request: Histogram::new(LATENCY_SECONDS),
            queued: Histogram::new(LATENCY_SECONDS),
            inference: Histogram::new(LATENCY_SECONDS),
            prefill: Histogram::new(LATENCY_SECONDS),
            decode: Histogram::new(LATENCY_SECONDS),
            request_prompt: Histogram::new(TOKENS),
            request_generation: Histogram::new(TOKENS),
            request_generation_max: Histogram::new(TOKENS),
            request_preemptions: Histogram::new(PREEMPTIONS),
            request_computed: Histogram::new(TOKENS),
            params_n: Histogram::new(COUNTS),
            params_max_tokens: Histogram::new(TOKENS),
        };
        metrics.register();
        metrics.create_labels();
        metrics
    }

    /// Says which state of sleep the engine is in.
    pub(crate) fn set_sleep(&self, state: SleepState) {
        for other in SleepState::ALL {
            let gauge = self.sleep_state.get_or_create(&other);
            gauge.set(i64::from(other == state));
        }
    }

    /// Says which adapters answers are computed with, and how many requests wait for or run with each.
    pub(crate) fn set_loras(&self, loras_max: usize, active: &BTreeMap<String, (usize, usize)>) {
        let names = |count: fn(&(usize, usize)) -> usize| {
            let busy = active.iter().filter(|(_, counts)| 0 < count(counts));
            busy.map(|(name, _)| name.as_str())
                .collect::<Vec<_>>()
                .join(",")
        };
        self.loras.clear();
        let now = jiff::Timestamp::now().as_millisecond() as f64 / 1e3;
        let labels = Loras {
            max_lora: loras_max.to_string(),
            running_lora_adapters: names(|counts| counts.0),
            waiting_lora_adapters: names(|counts| counts.1),
        };
        self.loras.get_or_create(&labels).set(now);
    }

    /// Shows all values of labels from the beginning, so that rates can be computed from the first request on.
    fn create_labels(&self) {
        self.set_sleep(SleepState::AWAKE);
        for reason in [Reason::CAPACITY, Reason::DEFERRED] {
            drop(self.waiting_by_reason.get_or_create(&reason));
        }
        for reason in [Reason::QUEUED_REQUESTS, Reason::QUEUED_TOKENS] {
            drop(self.rejections.get_or_create(&reason));
        }
        for source in [Source::COMPUTED, Source::CACHE_HIT, Source::TRANSFER] {
            drop(self.prompt_tokens_by_source.get_or_create(&source));
        }
        for source in [Source::DEVICE, Source::HOST] {
            drop(self.prompt_tokens_cached_by_source.get_or_create(&source));
        }
        for finished in Finished::ALL {
            drop(self.success.get_or_create(&finished));
        }
    }
}
