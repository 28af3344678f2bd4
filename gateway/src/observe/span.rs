//! Spans of requests, by OpenTelemetry's conventions for generative AI, as OTLP writes them in JSON.

use serde_json::{Value, json};

use super::{
    Ended,
    context::{Trace, hex},
};
use crate::ledger::Outcome;

/// A span of the client's kind: the gateway calls a model.
const KIND_CLIENT: u8 = 3;
/// The status of a span that failed.
const STATUS_ERROR: u8 = 2;

/// The span of a request.
pub(super) fn span(ended: &Ended<'_>, trace: &Trace) -> Value {
    let entry = ended.entry;
    let begin = entry.started_at.as_nanosecond();
    let end = begin.saturating_add_unsigned(ended.phases.total.as_nanos());
    let mut span = json!({
        "traceId": hex(&trace.id),
        "spanId": hex(&trace.span),
        "name": format!("{} {}", entry.operation.name(), entry.model),
        "kind": KIND_CLIENT,
        // Numbers of 64 bits are texts in OTLP's JSON.
        "startTimeUnixNano": begin.to_string(),
        "endTimeUnixNano": end.to_string(),
        "attributes": attributes(ended),
        "status": {},
    });
    if let Some(parent) = &trace.parent {
        span["parentSpanId"] = json!(hex(parent));
    }
    if is_failed(ended) {
        span["status"] = json!({"code": STATUS_ERROR});
    }
    span
}

/// A client that went away is no failure.
fn is_failed(ended: &Ended<'_>) -> bool {
    ended.entry.outcome == Outcome::Failed
}

fn attributes(ended: &Ended<'_>) -> Vec<Value> {
    let entry = ended.entry;
    let text = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let number =
        |name: &str, value: u64| json!({"key": name, "value": {"intValue": value.to_string()}});
    let mut attributes = vec![
        text("gen_ai.operation.name", entry.operation.name()),
        text("gen_ai.request.model", &entry.model),
        text("quarterdeck.route", &entry.route),
        text("quarterdeck.request_id", &entry.id),
        number("http.response.status_code", u64::from(entry.status)),
        number("gen_ai.usage.input_tokens", entry.tokens.prompt),
        number("gen_ai.usage.output_tokens", entry.tokens.completion),
    ];
    let named = [
        ("gen_ai.provider.name", ended.provider),
        ("gen_ai.response.model", ended.upstream_model),
        ("quarterdeck.target", &entry.target),
        ("quarterdeck.key", &entry.key),
    ];
    attributes.extend(
        named
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| text(name, value)),
    );
    if entry.is_kept {
        attributes.push(json!({"key": "quarterdeck.cache.hit", "value": {"boolValue": true}}));
    }
    if let Some(first) = ended.phases.first_byte {
        attributes.push(json!({"key": "gen_ai.response.time_to_first_chunk", "value": {"doubleValue": first.as_secs_f64()}}));
    }
    if let Some(cached) = entry.tokens.cached {
        attributes.push(number("gen_ai.usage.cache_read.input_tokens", cached));
    }
    let reasons: Vec<Value> = ended
        .watch
        .reasons
        .iter()
        .map(|reason| json!({"stringValue": reason}))
        .collect();
    if !reasons.is_empty() {
        attributes.push(json!({"key": "gen_ai.response.finish_reasons", "value": {"arrayValue": {"values": reasons}}}));
    }
    let url = ended
        .watch
        .endpoint
        .as_ref()
        .and_then(|endpoint| url::Url::parse(endpoint.url()).ok());
    if let Some(url) = &url {
        attributes.extend(url.host_str().map(|host| text("server.address", host)));
        attributes.extend(
            url.port_or_known_default()
                .map(|port| number("server.port", u64::from(port))),
        );
    }
    attributes.extend(ended.watch.content());
    if is_failed(ended) {
        attributes.push(text("error.type", &entry.status.to_string()));
    }
    attributes
}
