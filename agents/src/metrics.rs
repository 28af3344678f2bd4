//! Metrics of the runtime; all labels come from closed sets.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use protocol::{openai::Usage, runs::RunStatus};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabel {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: &'static str,
}

/// The runtime's metrics; clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    runs: Family<StatusLabel, Counter>,
    active: Gauge,
    steps: Family<StepLabel, Histogram>,
    calls: Family<OutcomeLabel, Counter>,
    tokens: Family<DirectionLabel, Counter>,
}

/// Counts a run as being worked on until it is dropped.
#[derive(Debug)]
pub(crate) struct ActiveRun(Gauge);

impl Drop for ActiveRun {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let runs = Family::default();
        let active = Gauge::default();
        let steps: Family<StepLabel, Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 4.0, 10)));
        let calls = Family::default();
        let tokens = Family::default();
        let mut registry = Registry::with_prefix("quarterdeck_agents");
        registry.register(
            "runs",
            "Runs by how they stand: started and ended ones",
            Family::clone(&runs),
        );
        registry.register(
            "runs_active",
            "Runs that are being worked on",
            active.clone(),
        );
        registry.register("step_duration_seconds", "Attempts of steps", steps.clone());
        registry.register("tool_calls", "Calls of tools", Family::clone(&calls));
        registry.register(
            "model_tokens",
            "Tokens of models, as the gateway reports them",
            Family::clone(&tokens),
        );
        Self {
            registry: Arc::new(registry),
            runs,
            active,
            steps,
            calls,
            tokens,
        }
    }
}

impl Metrics {
    pub(crate) fn run_created(&self) {
        self.runs
            .get_or_create(&StatusLabel { status: "created" })
            .inc();
    }

    pub(crate) fn run_ended(&self, status: RunStatus) {
        let status = match status {
            RunStatus::Pending => "pending",
            RunStatus::Running => "running",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
        };
        self.runs.get_or_create(&StatusLabel { status }).inc();
    }

    pub(crate) fn run_active(&self) -> ActiveRun {
        self.active.inc();
        ActiveRun(self.active.clone())
    }

    pub(crate) fn step_done(&self, kind: &'static str, is_ok: bool, duration: Duration) {
        let label = StepLabel {
            kind,
            outcome: outcome(is_ok),
        };
        self.steps
            .get_or_create(&label)
            .observe(duration.as_secs_f64());
    }

    pub(crate) fn tool_called(&self, is_ok: bool) {
        self.calls
            .get_or_create(&OutcomeLabel {
                outcome: outcome(is_ok),
            })
            .inc();
    }

    pub(crate) fn tokens(&self, usage: Usage) {
        self.tokens
            .get_or_create(&DirectionLabel {
                direction: "prompt",
            })
            .inc_by(usage.prompt_tokens);
        self.tokens
            .get_or_create(&DirectionLabel {
                direction: "completion",
            })
            .inc_by(usage.completion_tokens);
    }

    pub(crate) fn render(&self) -> String {
        telemetry::metrics::render(&self.registry)
    }
}

const fn outcome(is_ok: bool) -> &'static str {
    if is_ok { "ok" } else { "failed" }
}
