//! Metrics of calls of models, by OpenTelemetry's names for generative AI; labels are what Routes declare, never what
//! users say.

use std::{
    sync::{OnceLock, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use telemetry::metrics::Registry;

use crate::{call::Operation, cost::Cost, provider::Tokens};

/// Seconds of whole requests.
const DURATION_BUCKETS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// Seconds to the first token.
const FIRST_TOKEN_BUCKETS: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// Seconds from a token to the next.
const NEXT_TOKEN_BUCKETS: [f64; 13] = [
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
];
/// Tokens of a request.
const TOKEN_BUCKETS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// The status of answers that are complete.
const COMPLETE: u16 = 200;

type Histograms<Labels> = Family<Labels, Histogram, fn() -> Histogram>;

/// What a request was about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    gen_ai_operation_name: &'static str,
    gen_ai_provider_name: &'static str,
    gen_ai_request_model: String,
    gen_ai_response_model: String,
    route: String,
}

/// What a request was about, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    #[prometheus(flatten)]
    request: RequestLabels,
    status: u16,
}

/// What tokens were used for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TokenLabels {
    #[prometheus(flatten)]
    request: RequestLabels,
    gen_ai_token_type: &'static str,
}

/// The series of one target: looked up once, not with each request.
#[derive(Debug)]
pub(crate) struct TargetSeries {
    /// By the place of a model among those that the route declares, and by operation.
    by_model: Box<[[OnceLock<Box<Series>>; Operation::ALL.len()]]>,
}

impl TargetSeries {
    /// The series of a target whose route declares so many models.
    pub(crate) fn new(models: usize) -> Self {
        Self {
            by_model: (0..models).map(|_| Default::default()).collect(),
        }
    }
}

/// What is observed of the answers of one status.
#[derive(Debug)]
struct Series {
    labels: RequestLabels,
    duration: Histogram,
    first_token: OnceLock<Histogram>,
    next_token: OnceLock<Histogram>,
    input: OnceLock<Histogram>,
    output: OnceLock<Histogram>,
    cost: OnceLock<Counter<f64, AtomicU64>>,
}

/// How a request went.
#[derive(Debug)]
pub(crate) struct Observation<'a> {
    /// The route.
    pub(crate) route: &'a str,
    /// What the route declares for the model's name that the client asked for: the name, or a pattern.
    pub(crate) asked: &'a str,
    /// Its place among those that the route declares, unless another route has answered.
    pub(crate) place: Option<usize>,
    /// The model's name at the target.
    pub(crate) model: &'a str,
    /// The target's provider; empty if no target has answered.
    pub(crate) provider: &'static str,
    /// The series of the target that answered.
    pub(crate) series: Option<&'a TargetSeries>,
    /// What was asked for.
    pub(crate) operation: Operation,
    /// The status.
    pub(crate) status: u16,
    /// What it used.
    pub(crate) tokens: Tokens,
    /// What that cost.
    pub(crate) cost: Cost,
    /// How long it took.
    pub(crate) duration: Duration,
    /// Milliseconds to the first bytes of a stream.
    pub(crate) first_byte_millis: Option<u64>,
}

impl Observation<'_> {
    /// Seconds from a token to the next, of a stream that is complete.
    fn next_token_seconds(&self) -> Option<f64> {
        let first = Duration::from_millis(self.first_byte_millis?);
        let following = self.tokens.completion.checked_sub(1)?;
        if following == 0 || self.status != COMPLETE {
            return None;
        }
        let seconds = self.duration.saturating_sub(first).as_secs_f64();
        Some(seconds / approximate(following))
    }
}

/// The families.
#[derive(Debug)]
pub(super) struct ModelSeries {
    durations: Histograms<StatusLabels>,
    first_tokens: Histograms<RequestLabels>,
    next_tokens: Histograms<RequestLabels>,
    tokens: Histograms<TokenLabels>,
    costs: Family<RequestLabels, Counter<f64, AtomicU64>>,
}

impl Default for ModelSeries {
    fn default() -> Self {
        Self {
            durations: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS)),
            first_tokens: Family::new_with_constructor(|| Histogram::new(FIRST_TOKEN_BUCKETS)),
            next_tokens: Family::new_with_constructor(|| Histogram::new(NEXT_TOKEN_BUCKETS)),
            tokens: Family::new_with_constructor(|| Histogram::new(TOKEN_BUCKETS)),
            costs: Family::default(),
        }
    }
}

impl ModelSeries {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "gen_ai_server_request_duration",
            "Seconds from a request to the end of its answer",
            self.durations.clone(),
        );
        registry.register(
            "gen_ai_server_time_to_first_token",
            "Seconds from a request to the first event of its stream",
            self.first_tokens.clone(),
        );
        registry.register(
            "gen_ai_server_time_per_output_token",
            "Seconds per token of a stream after the first",
            self.next_tokens.clone(),
        );
        registry.register(
            "gen_ai_client_token_usage",
            "Tokens of a request",
            self.tokens.clone(),
        );
        registry.register(
            "gen_ai_client_cost",
            "US dollars that requests cost",
            self.costs.clone(),
        );
    }

    /// Observes a request that ended.
    pub(super) fn observe(&self, observation: &Observation<'_>) {
        let known = observation
            .series
            .filter(|_| observation.status == COMPLETE)
            .zip(observation.place)
            .and_then(|(known, place)| known.by_model.get(place));
        let known = known.map(|known| {
            let new = || Box::new(self.series(observation));
            known[observation.operation as usize].get_or_init(new)
        });
        // While a request waited its route may have got other models.
        let known = known.filter(|known| known.labels.gen_ai_request_model == observation.asked);
        let looked_up;
        let series = match known {
            Some(known) => known,
            None => {
                looked_up = self.series(observation);
                &looked_up
            }
        };
        let labels = &series.labels;
        series.duration.observe(observation.duration.as_secs_f64());
        if let Some(millis) = observation.first_byte_millis {
            let first_token = || self.first_tokens.get_or_create_owned(labels);
            let seconds = Duration::from_millis(millis).as_secs_f64();
            series.first_token.get_or_init(first_token).observe(seconds);
        }
        if let Some(seconds) = observation.next_token_seconds() {
            let next_token = || self.next_tokens.get_or_create_owned(labels);
            series.next_token.get_or_init(next_token).observe(seconds);
        }
        let tokens = observation.tokens;
        for (kind, histogram, count) in [
            ("input", &series.input, tokens.prompt),
            ("output", &series.output, tokens.completion),
        ] {
            if 0 < count {
                let histogram = histogram.get_or_init(|| self.token_usage(labels, kind));
                histogram.observe(approximate(count));
            }
        }
        if observation.cost != Cost::default() {
            let cost = || self.costs.get_or_create_owned(labels);
            let dollars = observation.cost.as_dollars();
            series.cost.get_or_init(cost).inc_by(dollars);
        }
    }

    fn series(&self, observation: &Observation<'_>) -> Series {
        let labels = RequestLabels {
            gen_ai_operation_name: observation.operation.name(),
            gen_ai_provider_name: observation.provider,
            gen_ai_request_model: observation.asked.to_owned(),
            gen_ai_response_model: observation.model.to_owned(),
            route: observation.route.to_owned(),
        };
        let with_status = StatusLabels {
            request: labels.clone(),
            status: observation.status,
        };
        Series {
            labels,
            duration: self.durations.get_or_create_owned(&with_status),
            first_token: OnceLock::new(),
            next_token: OnceLock::new(),
            input: OnceLock::new(),
            output: OnceLock::new(),
            cost: OnceLock::new(),
        }
    }

    fn token_usage(&self, labels: &RequestLabels, gen_ai_token_type: &'static str) -> Histogram {
        self.tokens.get_or_create_owned(&TokenLabels {
            request: labels.clone(),
            gen_ai_token_type,
        })
    }
}

/// A count as a float; counts of tokens are far below the 2^32 up to which this is exact.
fn approximate(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Observation;
    use crate::{call::Operation, cost::Cost, provider::Tokens};

    #[track_caller]
    fn check(first_byte_millis: Option<u64>, completion: u64, status: u16, expected: Option<f64>) {
        let observation = Observation {
            route: "ns/m",
            asked: "m",
            place: None,
            model: "real",
            provider: "openai",
            series: None,
            operation: Operation::Chat,
            status,
            tokens: Tokens {
                completion,
                ..Tokens::default()
            },
            cost: Cost::default(),
            duration: Duration::from_millis(1500),
            first_byte_millis,
        };
        assert_eq!(observation.next_token_seconds(), expected);
    }

    #[test]
    fn the_time_of_a_token_is_that_of_those_after_the_first_of_a_complete_stream() {
        check(Some(500), 5, 200, Some(0.25));
        check(Some(500), 2, 200, Some(1.0));
        check(Some(500), 1, 200, None);
        check(Some(500), 0, 200, None);
        check(None, 5, 200, None);
        check(Some(500), 5, 499, None);
        check(Some(2000), 5, 200, Some(0.0));
    }
}
