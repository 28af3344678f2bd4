//! Metrics as OTLP writes them in JSON: cumulative, from the text that Prometheus reads, told now and then.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    Collector, Signal,
    exposition::{Kind, Metric, Sample, read},
};
use crate::{gateway::Gateway, upstream::Upstream};

/// How long the last telling may take.
const LAST_TIMEOUT: Duration = Duration::from_secs(5);
/// Counts go on from one telling to the next.
const CUMULATIVE: u8 = 2;
/// Bytes that a collector is told at once, unless one metric has more.
const BATCH_BYTES_MAX: usize = 1 << 20;
/// Metrics of OpenTelemetry's conventions: the name here, the name there, and the unit.
const CONVENTIONS: [(&str, &str, &str); 5] = [
    (
        "gen_ai_server_request_duration",
        "gen_ai.server.request.duration",
        "s",
    ),
    (
        "gen_ai_server_time_to_first_token",
        "gen_ai.server.time_to_first_token",
        "s",
    ),
    (
        "gen_ai_server_time_per_output_token",
        "gen_ai.server.time_per_output_token",
        "s",
    ),
    (
        "gen_ai_client_token_usage",
        "gen_ai.client.token.usage",
        "{token}",
    ),
    ("gen_ai_client_cost", "gen_ai.client.cost", "{USD}"),
];
/// Their labels.
const CONVENTIONAL_LABELS: [(&str, &str); 5] = [
    ("gen_ai_operation_name", "gen_ai.operation.name"),
    ("gen_ai_provider_name", "gen_ai.provider.name"),
    ("gen_ai_request_model", "gen_ai.request.model"),
    ("gen_ai_response_model", "gen_ai.response.model"),
    ("gen_ai_token_type", "gen_ai.token.type"),
];

/// The time over which is counted.
#[derive(Debug, Clone, Copy)]
struct Span {
    begun: Timestamp,
    now: Timestamp,
}

/// Tells a collector of the gateway's metrics until the end, and once more then.
pub(crate) async fn push(
    gateway: Arc<Gateway>,
    (client, collector): (Upstream, Collector),
    every: Duration,
    end: CancellationToken,
) {
    let begun = Timestamp::now();
    let tell_all = async || {
        let span = Span {
            begun,
            now: Timestamp::now(),
        };
        for batch in batches(&gateway.render_metrics(), span) {
            if let Err(reason) = collector.tell(&client, Signal::Metrics, &batch).await {
                // The next ones tell it all again.
                warn!(reason, "metrics did not reach the collector");
                break;
            }
        }
    };
    let now_and_then = async {
        loop {
            tokio::time::sleep(every).await;
            tell_all().await;
        }
    };
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = now_and_then => {}
    }
    if tokio::time::timeout(LAST_TIMEOUT, tell_all())
        .await
        .is_err()
    {
        warn!("the last metrics did not reach the collector in time");
    }
}

/// All metrics of a text, in lists that are not too long.
fn batches(text: &str, span: Span) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes: usize = 0;
    for metric in read(text) {
        let metric = told(&metric, span).to_string();
        let fits = bytes.saturating_add(metric.len()) <= BATCH_BYTES_MAX;
        match batches.last_mut().filter(|_| fits) {
            Some(batch) => {
                bytes += metric.len();
                batch.push(metric);
            }
            None => {
                bytes = metric.len();
                batches.push(vec![metric]);
            }
        }
    }
    batches
}

/// One metric.
fn told(metric: &Metric, span: Span) -> Value {
    let known = CONVENTIONS.iter().find(|(name, ..)| *name == metric.name);
    let (name, unit) = known.map_or((&*metric.name, ""), |(_, name, unit)| (*name, *unit));
    let mut told = json!({"name": name, "description": metric.help});
    if !unit.is_empty() {
        told["unit"] = json!(unit);
    }
    let points = || metric.samples.iter().map(|sample| number(sample, span));
    match metric.kind {
        Kind::Gauge => told["gauge"] = json!({"dataPoints": points().collect::<Vec<_>>()}),
        Kind::Counter => {
            told["sum"] = json!({
                "dataPoints": points().collect::<Vec<_>>(),
                "aggregationTemporality": CUMULATIVE,
                "isMonotonic": true,
            });
        }
        Kind::Histogram => {
            told["histogram"] = json!({
                "dataPoints": histograms(&metric.samples, span),
                "aggregationTemporality": CUMULATIVE,
            });
        }
    }
    told
}

/// A point with the labels and the time.
fn point<'a>(labels: impl Iterator<Item = &'a (String, String)>, span: Span) -> Value {
    let attributes = labels.map(|(name, value)| {
        let known = CONVENTIONAL_LABELS.iter().find(|(label, _)| label == name);
        let name = known.map_or(&**name, |(_, name)| name);
        json!({"key": name, "value": {"stringValue": value}})
    });
    json!({
        "attributes": attributes.collect::<Vec<_>>(),
        // Numbers of 64 bits are texts in OTLP's JSON.
        "startTimeUnixNano": span.begun.as_nanosecond().to_string(),
        "timeUnixNano": span.now.as_nanosecond().to_string(),
    })
}

/// The point of a counter or a gauge.
fn number(sample: &Sample, span: Span) -> Value {
    let mut told = point(sample.labels.iter(), span);
    match sample.value.parse::<i64>() {
        Ok(_) => told["asInt"] = json!(sample.value),
        Err(_) => told["asDouble"] = json!(sample.value.parse::<f64>().unwrap_or_default()),
    }
    told
}

/// The points of a histogram: the samples of one begin with its sum and end with its buckets.
fn histograms(samples: &[Sample], span: Span) -> Vec<Value> {
    let own = |sample: &Sample| -> Vec<(String, String)> {
        let labels = sample.labels.iter();
        labels.filter(|(name, _)| name != "le").cloned().collect()
    };
    let mut points = Vec::new();
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let labels = own(first);
        let end = rest.iter().position(|sample| own(sample) != labels);
        let (these, behind) = rest.split_at(end.unwrap_or(rest.len()));
        rest = behind;
        points.push(histogram(&labels, these, span));
    }
    points
}

fn histogram(labels: &[(String, String)], samples: &[Sample], span: Span) -> Value {
    let mut told = point(labels.iter(), span);
    let mut bounds: Vec<f64> = Vec::new();
    let mut counts: Vec<String> = Vec::new();
    // Buckets here count all that is below their bound, there only what is above the one before.
    let mut below = 0;
    for sample in samples {
        match &*sample.suffix {
            "_sum" => told["sum"] = json!(sample.value.parse::<f64>().unwrap_or_default()),
            "_count" => told["count"] = json!(sample.value),
            "_bucket" => {
                let count: u64 = sample.value.parse().unwrap_or_default();
                counts.push(count.saturating_sub(below).to_string());
                below = count;
                let bound = sample.labels.iter().find(|(name, _)| name == "le");
                let bound = bound.and_then(|(_, bound)| bound.parse::<f64>().ok());
                bounds.extend(bound.filter(|bound| bound.is_finite()));
            }
            _ => {}
        }
    }
    told["explicitBounds"] = json!(bounds);
    told["bucketCounts"] = json!(counts);
    told
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::{Value, json};

    use super::{BATCH_BYTES_MAX, Span, batches};

    const SPAN: Span = Span {
        begun: Timestamp::UNIX_EPOCH,
        now: Timestamp::UNIX_EPOCH,
    };

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        let told: Vec<Value> = batches(text, SPAN)
            .concat()
            .iter()
            .map(|metric| serde_json::from_str(metric).unwrap())
            .collect();
        assert_eq!(&Value::Array(told), expected);
    }

    #[test]
    fn metrics_are_told_by_the_names_of_the_conventions() {
        check(
            "# HELP gen_ai_client_token_usage Tokens.\n# TYPE gen_ai_client_token_usage histogram\n\
             gen_ai_client_token_usage_sum{gen_ai_token_type=\"input\",route=\"r\"} 6.5\n\
             gen_ai_client_token_usage_count{gen_ai_token_type=\"input\",route=\"r\"} 3\n\
             gen_ai_client_token_usage_bucket{le=\"1.0\",gen_ai_token_type=\"input\",route=\"r\"} 1\n\
             gen_ai_client_token_usage_bucket{le=\"4.0\",gen_ai_token_type=\"input\",route=\"r\"} 3\n\
             gen_ai_client_token_usage_bucket{le=\"+Inf\",gen_ai_token_type=\"input\",route=\"r\"} 3\n",
            &json!([{
                "name": "gen_ai.client.token.usage",
                "description": "Tokens.",
                "unit": "{token}",
                "histogram": {
                    "dataPoints": [{
                        "attributes": [
                            {"key": "gen_ai.token.type", "value": {"stringValue": "input"}},
                            {"key": "route", "value": {"stringValue": "r"}},
                        ],
                        "startTimeUnixNano": "0",
                        "timeUnixNano": "0",
                        "sum": 6.5,
                        "count": "3",
                        "explicitBounds": [1.0, 4.0],
                        "bucketCounts": ["1", "2", "0"],
                    }],
                    "aggregationTemporality": 2,
                },
            }]),
        );
    }

    #[test]
    fn counters_grow_and_gauges_do_not() {
        let point = |value: Value| {
            let mut point =
                json!({"attributes": [], "startTimeUnixNano": "0", "timeUnixNano": "0"});
            point
                .as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone());
            point
        };
        check(
            "# HELP a A.\n# TYPE a counter\na_total 3\n# HELP b B.\n# TYPE b gauge\nb 0.5\n",
            &json!([
                {"name": "a", "description": "A.", "sum": {
                    "dataPoints": [point(json!({"asInt": "3"}))],
                    "aggregationTemporality": 2,
                    "isMonotonic": true,
                }},
                {"name": "b", "description": "B.", "gauge": {"dataPoints": [point(json!({"asDouble": 0.5}))]}},
            ]),
        );
    }

    #[test]
    fn no_list_is_too_long() {
        let help = "x".repeat(BATCH_BYTES_MAX / 3);
        let metric = |name: &str| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} 1\n");
        let text = ["a", "b", "c", "d"].map(metric).concat();
        let lengths: Vec<usize> = batches(&text, SPAN).iter().map(Vec::len).collect();
        assert_eq!(lengths, [2, 2]);
    }
}
