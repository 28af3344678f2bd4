//! Replays what a genuine Kubernetes API server answered: 128 recorded requests, in order, against the server in process.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::pki::Pki;
use crate::store::Store;

/// The best count reached so far: never fewer.
const CUSTOM_EQUAL_MIN: usize = 127;
const BUILT_IN_EQUAL_MIN: usize = 215;

/// One recorded request and its answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pair {
    name: String,
    method: String,
    path: String,
    content_type: Option<String>,
    accept: Option<String>,
    #[serde(default)]
    body: Value,
    status: u16,
    headers: HashMap<String, String>,
    response: Value,
}

/// What was recorded under one name and is here under another: resource versions, uids, generated names.
#[derive(Default)]
struct Translation(HashMap<String, String>);

impl Translation {
    /// Notes where two equal places of both answers name the same thing differently.
    fn learn(&mut self, recorded: &Value, found: &Value) {
        match (recorded, found) {
            (Value::Object(left), Value::Object(right)) => {
                for (key, value) in left {
                    let Some(other) = right.get(key) else {
                        continue;
                    };
                    let named = matches!(key.as_str(), "resourceVersion" | "uid" | "continue")
                        || (key == "name" && left.contains_key("generateName"));
                    if let (true, Some(recorded), Some(found)) =
                        (named, value.as_str(), other.as_str())
                        && !recorded.is_empty()
                    {
                        self.0.insert(recorded.to_owned(), found.to_owned());
                    }
                    self.learn(value, other);
                }
            }
            (Value::Array(left), Value::Array(right)) => left
                .iter()
                .zip(right)
                .for_each(|(left, right)| self.learn(left, right)),
            _ => {}
        }
    }

    /// A recorded text whose parts that are long enough to be unmistakable are replaced.
    fn text(&self, text: &str) -> String {
        let mut out = text.to_owned();
        let mut known: Vec<_> = self
            .0
            .iter()
            .filter(|(recorded, _)| recorded.len() > 4)
            .collect();
        known.sort_by_key(|(recorded, _)| std::cmp::Reverse(recorded.len()));
        for (recorded, found) in known {
            out = out.replace(recorded.as_str(), found);
        }
        for (recorded, found) in self.0.iter().filter(|(recorded, _)| recorded.len() <= 4) {
            out = out.replace(
                &format!("resourceVersion={recorded}&"),
                &format!("resourceVersion={found}&"),
            );
        }
        out
    }

    /// A recorded body.
    fn value(&self, value: &mut Value, key: &str) {
        match value {
            Value::Object(fields) => fields
                .iter_mut()
                .for_each(|(name, field)| self.value(field, name)),
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item, key)),
            Value::String(text) if key == "resourceVersion" => {
                *text = self.0.get(text).unwrap_or(text).clone();
            }
            Value::String(text) => *text = self.text(text),
            _ => {}
        }
    }
}

/// Makes times, ages, hashes and the like equal on both sides.
fn normalise(value: &mut Value, key: &str) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                normalise(field, name);
            }
            // The recording's columns of an age are relative to its own clock.
            fields.remove("storageVersionHash");
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                normalise(item, key);
            }
            // Entries are ordered by time; Go reports the faults of a map in any order.
            if matches!(key, "managedFields" | "causes") {
                items.sort_by_cached_key(|item| {
                    let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
                    [
                        text("manager"),
                        text("operation"),
                        text("subresource"),
                        text("field"),
                        text("message"),
                    ]
                });
            }
        }
        Value::String(text) => {
            let is_time =
                text.len() >= 20 && text.ends_with('Z') && text.as_bytes().get(10) == Some(&b'T');
            let is_age = key == "cells"
                && text.len() <= 4
                && text.ends_with('s')
                && text.trim_end_matches('s').parse::<u32>().is_ok();
            if is_time {
                *text = "TIME".to_owned();
            } else if is_age {
                *text = "AGE".to_owned();
            } else if matches!(key, "uid" | "resourceVersion" | "continue") && !text.is_empty() {
                *text = key.to_uppercase();
            } else if text.starts_with("/openapi/v3/") {
                *text = text.split('?').next().unwrap_or_default().to_owned();
            } else if text.starts_with("kube-api-access-") {
                *text = "ACCESS".to_owned();
            } else if text.starts_with("gen-") {
                *text = "GENERATED".to_owned();
            } else if key == "message" {
                *text = anonymise(text);
            }
        }
        _ => {}
    }
}

/// A message without the numbers and uids that differ from run to run, and with its faults in order.
fn anonymise(message: &str) -> String {
    let uid =
        regex::Regex::new("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").unwrap();
    let revision = regex::Regex::new(r"(current: |\()[0-9]+").unwrap();
    let message = revision
        .replace_all(&uid.replace_all(message, "UID"), "${1}RV")
        .into_owned();
    let Some((head, faults)) = message.split_once(" is invalid: [") else {
        return message;
    };
    let mut faults: Vec<&str> = faults.trim_end_matches(']').split(", ").collect();
    faults.sort_unstable();
    format!("{head} is invalid: [{}]", faults.join(", "))
}

fn parts(pair: &Pair, path: &str, token: &str) -> Parts {
    // Watches end after a second: what is to come is there already.
    let path = regex::Regex::new("timeoutSeconds=[0-9]+")
        .unwrap()
        .replace(path, "timeoutSeconds=1")
        .into_owned();
    let mut builder = Request::builder()
        .method(pair.method.as_str())
        .uri(path)
        .header(USER_AGENT, "golden/1.0");
    builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
    if let Some(accept) = &pair.accept {
        builder = builder.header(ACCEPT, accept);
    }
    if let Some(content_type) = &pair.content_type {
        builder = builder.header(CONTENT_TYPE, content_type);
    }
    builder.body(()).unwrap().into_parts().0
}

fn body(pair: &Pair, translation: &Translation) -> Bytes {
    let mut body = pair.body.clone();
    translation.value(&mut body, "");
    match body {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::from(text),
        other => Bytes::from(other.to_string()),
    }
}

/// The answer as it was recorded: JSON, a stream of JSON, or text.
fn shown(headers: &HeaderMap, bytes: &[u8], path: &str) -> Value {
    let is_json = headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.to_str().unwrap().starts_with("application/json"));
    if path.contains("watch=true") && is_json {
        let events: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(bytes)
            .into_iter()
            .collect();
        let events = events.unwrap();
        if events
            .first()
            .is_none_or(|event| event.get("type").is_some())
        {
            return json!({"stream": events});
        }
        return events.into_iter().next().unwrap();
    }
    // Bytes that are no text were recorded one character each.
    serde_json::from_slice(bytes)
        .unwrap_or_else(|_| Value::String(bytes.iter().map(|byte| char::from(*byte)).collect()))
}

/// The first places where two values differ.
fn differences(recorded: &Value, found: &Value, path: &str, out: &mut Vec<String>) {
    if recorded == found || out.len() > 4 {
        return;
    }
    match (recorded, found) {
        (Value::Object(left), Value::Object(right)) => {
            let mut keys: Vec<&String> = left.keys().chain(right.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let null = Value::String("(absent)".to_owned());
                differences(
                    left.get(key).unwrap_or(&null),
                    right.get(key).unwrap_or(&null),
                    &format!("{path}.{key}"),
                    out,
                );
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                differences(left, right, &format!("{path}[{index}]"), out);
            }
        }
        _ => {
            let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
            out.push(format!(
                "{path}: recorded {} found {}",
                short(recorded),
                short(found)
            ));
        }
    }
}

async fn replay(
    api: &Arc<Api>,
    token: &str,
    pair: &Pair,
    translation: &mut Translation,
) -> Vec<String> {
    let path = translation.text(&pair.path);
    let response = api
        .respond(parts(pair, &path, token), body(pair, translation))
        .await;
    let (head, stream) = response.into_parts();
    let bytes = stream.collect().await.unwrap().to_bytes();
    let mut found = shown(&head.headers, &bytes, &pair.path);
    let mut recorded = pair.response.clone();
    translation.learn(&recorded, &found);
    let mut faults = Vec::new();
    if head.status.as_u16() != pair.status {
        faults.push(format!(
            "status: recorded {} found {}",
            pair.status,
            head.status.as_u16()
        ));
    }
    let warning = head
        .headers
        .get("warning")
        .map(|value| value.to_str().unwrap().to_owned());
    if warning.as_deref() != pair.headers.get("Warning").map(String::as_str) {
        faults.push(format!(
            "warning: recorded {:?} found {warning:?}",
            pair.headers.get("Warning")
        ));
    }
    normalise(&mut recorded, "");
    normalise(&mut found, "");
    // What is served, how and since when is this server's own business in three answers.
    match pair.name.as_str() {
        "version" => (recorded, found) = (keys(&recorded), keys(&found)),
        "openapi-v3-index" => (recorded, found) = (served(&recorded), served(&found)),
        "crd-table" => only_ours(&mut recorded, &mut found),
        _ => {}
    }
    if recorded != Value::String(String::new()) {
        differences(&recorded, &found, "", &mut faults);
    }
    faults
}

fn keys(value: &Value) -> Value {
    let mut keys: Vec<&String> = value.as_object().unwrap().keys().collect();
    keys.sort();
    json!(keys)
}

/// The recorded server served only definitions.
fn served(index: &Value) -> Value {
    index["paths"]["apis/apiextensions.k8s.io/v1"].clone()
}

/// The recorded server had definitions of its own.
fn only_ours(recorded: &mut Value, found: &mut Value) {
    for table in [recorded, found] {
        table["rows"]
            .as_array_mut()
            .unwrap()
            .retain(|row| row["object"]["metadata"]["name"] == "widgets.g.example.com");
    }
}

/// Replays pairs in order; the unequal ones with their first differences.
async fn replay_all(pairs: &[Pair]) -> Vec<String> {
    let pki = Pki::ephemeral().unwrap();
    let store = Arc::new(Store::in_memory());
    let url = "https://127.0.0.1:6443";
    let api = Api::start(store, &pki, url, CancellationToken::new())
        .await
        .unwrap();
    let mut translation = Translation::default();
    let mut unequal = Vec::new();
    for pair in pairs {
        let faults = replay(&api, &pki.admin_token, pair, &mut translation).await;
        if !faults.is_empty() {
            unequal.push(format!("{}\n    {}", pair.name, faults.join("\n    ")));
        }
    }
    unequal
}

#[track_caller]
fn check(file: &str, unequal: &[String], total: usize, equal_min: usize) {
    let equal = total - unequal.len();
    for one in unequal {
        println!("unequal: {one}");
    }
    println!("{equal} of {total} golden pairs equal in {file}");
    assert!(
        equal >= equal_min,
        "{equal} golden pairs are equal, {equal_min} were"
    );
}

#[tokio::test]
async fn golden_pairs_of_custom_resources_are_answered_alike() {
    let pairs: Vec<Pair> =
        serde_json::from_str(include_str!("../testdata/crd-golden.json")).unwrap();
    check(
        "crd-golden.json",
        &replay_all(&pairs).await,
        pairs.len(),
        CUSTOM_EQUAL_MIN,
    );
}

/// The recorded cluster had every controller and kind of Kubernetes; ours has neither here, so many pairs cannot be equal.
#[tokio::test]
async fn golden_pairs_of_built_in_kinds_are_answered_alike() {
    let packed = include_bytes!("../testdata/core-golden.json.gz").as_slice();
    let pairs: Vec<Pair> = serde_json::from_reader(flate2::read::GzDecoder::new(packed)).unwrap();
    check(
        "core-golden.json",
        &replay_all(&pairs).await,
        pairs.len(),
        BUILT_IN_EQUAL_MIN,
    );
}
