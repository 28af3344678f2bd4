//! Metrics by the names that LiteLLM gives them, for dashboards that are there already. Labels are keys, teams and models
//! of the table, never what users say.

mod state;

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use telemetry::metrics::Registry;

pub(crate) use self::state::Known;
use self::state::StateSeries;
use super::Ended;
use crate::ledger::Outcome;

/// Seconds, as LiteLLM has them.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    api_key_alias: String,
    team: String,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    api_key_alias: String,
    team: String,
    model: String,
    status_code: u16,
}

type Seconds = Family<Labels, Histogram, fn() -> Histogram>;

/// LiteLLM's metrics.
#[derive(Debug)]
pub(crate) struct LiteLlm {
    requests: Family<Labels, Counter>,
    proxied: Family<StatusLabels, Counter>,
    failed: Family<StatusLabels, Counter>,
    spend: Family<Labels, Counter<f64, AtomicU64>>,
    tokens: Family<Labels, Counter>,
    input: Family<Labels, Counter>,
    output: Family<Labels, Counter>,
    total: Seconds,
    api: Seconds,
    first_token: Seconds,
    overhead: Seconds,
    state: StateSeries,
}

impl Default for LiteLlm {
    fn default() -> Self {
        let seconds = || Family::new_with_constructor((|| Histogram::new(SECONDS)) as fn() -> _);
        Self {
            requests: Family::default(),
            proxied: Family::default(),
            failed: Family::default(),
            spend: Family::default(),
            tokens: Family::default(),
            input: Family::default(),
            output: Family::default(),
            total: seconds(),
            api: seconds(),
            first_token: seconds(),
            overhead: seconds(),
            state: StateSeries::default(),
        }
    }
}

impl LiteLlm {
    /// Shows the metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let Self {
            requests,
            proxied,
            failed,
            spend,
            tokens,
            input,
            output,
            total,
            api,
            first_token,
            overhead,
            state,
        } = self;
        state.register(registry);
        let mut counter = |name: &str, help: &str, family: &Family<Labels, Counter>| {
            registry.register(name, help, family.clone());
        };
        counter(
            "litellm_requests_metric",
            "Requests that models answered",
            requests,
        );
        counter(
            "litellm_total_tokens_metric",
            "Tokens of prompts and answers",
            tokens,
        );
        counter("litellm_input_tokens_metric", "Tokens of prompts", input);
        counter("litellm_output_tokens_metric", "Tokens of answers", output);
        let name = "litellm_proxy_total_requests_metric";
        registry.register(name, "Requests, by status", proxied.clone());
        let name = "litellm_proxy_failed_requests_metric";
        registry.register(name, "Requests that failed, by status", failed.clone());
        registry.register(
            "litellm_spend_metric",
            "US dollars that requests cost",
            spend.clone(),
        );
        for (name, help, family) in [
            (
                "litellm_request_total_latency_metric",
                "Seconds of whole requests",
                total,
            ),
            (
                "litellm_llm_api_latency_metric",
                "Seconds of waiting for models",
                api,
            ),
            (
                "litellm_llm_api_time_to_first_token_metric",
                "Seconds to the first token of a stream",
                first_token,
            ),
            (
                "litellm_overhead_latency_metric",
                "Seconds that the gateway took itself",
                overhead,
            ),
        ] {
            registry.register(name, help, family.clone());
        }
    }

    /// Notes how budgets and deployments stand; asked for with each scrape.
    pub(crate) fn refresh(&self, known: &Known<'_>) {
        self.state.set(known);
    }

    /// Observes a request that has ended.
    pub(super) fn observe(&self, ended: &Ended<'_>) {
        let entry = ended.entry;
        let labels = Labels {
            api_key_alias: entry.key.clone(),
            team: entry.team.clone(),
            model: ended.model_label.to_owned(),
        };
        let with_status = StatusLabels {
            api_key_alias: labels.api_key_alias.clone(),
            team: labels.team.clone(),
            model: labels.model.clone(),
            status_code: entry.status,
        };
        self.proxied.get_or_create(&with_status).inc();
        if entry.outcome == Outcome::Failed {
            self.failed.get_or_create(&with_status).inc();
        } else {
            self.requests.get_or_create(&labels).inc();
        }
        if !entry.is_kept {
            let tokens = entry.tokens;
            self.tokens.get_or_create(&labels).inc_by(tokens.total());
            self.input.get_or_create(&labels).inc_by(tokens.prompt);
            self.output.get_or_create(&labels).inc_by(tokens.completion);
            self.spend
                .get_or_create(&labels)
                .inc_by(entry.cost.as_dollars());
        }
        let phases = ended.phases;
        let observe =
            |family: &Seconds, seconds: f64| family.get_or_create(&labels).observe(seconds);
        observe(&self.total, phases.total.as_secs_f64());
        if let Some(overhead) = phases.overhead() {
            observe(&self.overhead, overhead.as_secs_f64());
            observe(
                &self.api,
                phases.total.saturating_sub(overhead).as_secs_f64(),
            );
        }
        if let Some(first) = phases.first_byte {
            observe(&self.first_token, first.as_secs_f64());
        }
    }
}
