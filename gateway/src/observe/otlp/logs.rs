//! Lines of the access log as OTLP writes logs in JSON.

use serde_json::{Value, json};

use super::super::{Ended, access, context::hex};
use crate::ledger::Outcome;

/// The severity of a request that went well, or whose client went away.
const INFO: (u8, &str) = (9, "INFO");
/// The severity of a request that failed.
const ERROR: (u8, &str) = (17, "ERROR");

/// The record of a request: the same line as in the access log, with what collectors look for.
pub(super) fn record(ended: &Ended<'_>) -> Value {
    let entry = ended.entry;
    let line = access::line(ended);
    let line = String::from_utf8_lossy(line.trim_ascii_end());
    let end = entry
        .started_at
        .as_nanosecond()
        .saturating_add_unsigned(ended.phases.total.as_nanos());
    let (number, text) = match entry.outcome == Outcome::Failed {
        true => ERROR,
        false => INFO,
    };
    let attribute = |name: &str, value: &str| json!({"key": name, "value": {"stringValue": value}});
    let mut record = json!({
        // Numbers of 64 bits are texts in OTLP's JSON.
        "timeUnixNano": end.to_string(),
        "observedTimeUnixNano": end.to_string(),
        "severityNumber": number,
        "severityText": text,
        "eventName": "quarterdeck.access",
        "body": {"stringValue": line},
        "attributes": [
            attribute("gen_ai.operation.name", entry.operation.name()),
            attribute("quarterdeck.route", &entry.route),
            attribute("quarterdeck.request_id", &entry.id),
            {"key": "http.response.status_code", "value": {"intValue": entry.status.to_string()}},
        ],
    });
    if let Some(trace) = &ended.watch.trace {
        record["traceId"] = json!(hex(&trace.id));
        record["spanId"] = json!(hex(&trace.span));
    }
    record
}
