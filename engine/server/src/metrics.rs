//! Metrics under vLLM's names, which autoscalers, gateways and dashboards read already.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// The label of finished requests.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Finished {
    pub(crate) finished_reason: &'static str,
}

/// All metrics of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) registry: Registry,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) cache_usage: Gauge<f64, AtomicU64>,
    pub(crate) prompt_tokens: Counter,
    pub(crate) prompt_tokens_cached: Counter,
    pub(crate) generation_tokens: Counter,
    pub(crate) preemptions: Counter,
    pub(crate) prefix_queries: Counter,
    pub(crate) prefix_hits: Counter,
    pub(crate) rejections: Counter,
    pub(crate) success: Family<Finished, Counter>,
    pub(crate) step_tokens: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    pub(crate) whole_request: Histogram,
    pub(crate) queued: Histogram,
    pub(crate) prefill: Histogram,
    pub(crate) decode: Histogram,
    pub(crate) request_prompt: Histogram,
    pub(crate) request_generation: Histogram,
    pub(crate) batch: Histogram,
    pub(crate) batch_max: Gauge<i64, AtomicI64>,
}

const SECONDS: [f64; 15] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0,
];
const TOKENS: [f64; 14] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 8192.0, 32768.0,
];
const SEQUENCES: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

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
            cache_usage: Gauge::default(),
            prompt_tokens: Counter::default(),
            prompt_tokens_cached: Counter::default(),
            generation_tokens: Counter::default(),
            preemptions: Counter::default(),
            prefix_queries: Counter::default(),
            prefix_hits: Counter::default(),
            rejections: Counter::default(),
            success: Family::default(),
            step_tokens: Histogram::new(TOKENS),
            first_token: Histogram::new(SECONDS),
            between_tokens: Histogram::new(SECONDS),
            whole_request: Histogram::new(SECONDS),
            queued: Histogram::new(SECONDS),
            prefill: Histogram::new(SECONDS),
            decode: Histogram::new(SECONDS),
            request_prompt: Histogram::new(TOKENS),
            request_generation: Histogram::new(TOKENS),
            batch: Histogram::new(SEQUENCES),
            batch_max: Gauge::default(),
        };
        metrics.register_gauges();
        metrics.register_counters();
        metrics.register_histograms();
        metrics
    }

    fn register_gauges(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "vllm:num_requests_running",
            "Requests that are computed",
            self.running.clone(),
        );
        registry.register(
            "vllm:num_requests_waiting",
            "Requests that wait to be computed",
            self.waiting.clone(),
        );
        registry.register(
            "vllm:kv_cache_usage_perc",
            "Share of the cache in use, 0 to 1",
            self.cache_usage.clone(),
        );
        let help = "Most sequences that one step has computed";
        registry.register(
            "quarterdeck_engine_batch_sequences_max",
            help,
            self.batch_max.clone(),
        );
    }

    fn register_counters(&mut self) {
        let registry = &mut self.registry;
        let counters = [
            ("vllm:prompt_tokens", "Prompt tokens", &self.prompt_tokens),
            (
                "vllm:prompt_tokens_cached",
                "Prompt tokens out of the prefix cache",
                &self.prompt_tokens_cached,
            ),
            (
                "vllm:generation_tokens",
                "Generated tokens",
                &self.generation_tokens,
            ),
            (
                "vllm:num_preemptions",
                "Sequences that gave their blocks back",
                &self.preemptions,
            ),
            (
                "vllm:prefix_cache_queries",
                "Tokens looked for in the prefix cache",
                &self.prefix_queries,
            ),
            (
                "vllm:prefix_cache_hits",
                "Tokens found in the prefix cache",
                &self.prefix_hits,
            ),
            (
                "vllm:admission_rejections",
                "Requests refused because too many wait",
                &self.rejections,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "vllm:request_success",
            "Finished requests by reason",
            self.success.clone(),
        );
    }

    fn register_histograms(&mut self) {
        let registry = &mut self.registry;
        let histograms = [
            (
                "vllm:iteration_tokens_total",
                "Tokens computed in a step",
                &self.step_tokens,
            ),
            (
                "vllm:time_to_first_token_seconds",
                "Time to the first token",
                &self.first_token,
            ),
            (
                "vllm:inter_token_latency_seconds",
                "Time between tokens",
                &self.between_tokens,
            ),
            (
                "vllm:e2e_request_latency_seconds",
                "Time of whole requests",
                &self.whole_request,
            ),
            (
                "vllm:request_queue_time_seconds",
                "Time that requests wait",
                &self.queued,
            ),
            (
                "vllm:request_prefill_time_seconds",
                "Time from the start to the first token",
                &self.prefill,
            ),
            (
                "vllm:request_decode_time_seconds",
                "Time from the first token to the last",
                &self.decode,
            ),
            (
                "vllm:request_prompt_tokens",
                "Prompt tokens of a request",
                &self.request_prompt,
            ),
            (
                "vllm:request_generation_tokens",
                "Generated tokens of a request",
                &self.request_generation,
            ),
            (
                "quarterdeck_engine_batch_sequences",
                "Sequences computed in a step",
                &self.batch,
            ),
        ];
        for (name, help, histogram) in histograms {
            registry.register(name, help, histogram.clone());
        }
    }
}
