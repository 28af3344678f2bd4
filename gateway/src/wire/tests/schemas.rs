//! What we answer OpenAI's clients with, and what we ask OpenAI's upstreams, against the schemas of OpenAI's own
//! document, as `cargo xtask openapi` takes them out of it.

use std::{fs, path::Path};

use jsonschema::Validator;
use serde_json::{Value, json};

use super::{ClientApi, UpstreamApi, fixtures};

fn validator(schema: &str) -> Validator {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/openapi/schemas.json");
    let schemas: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let reference = format!("#/components/schemas/{schema}");
    let schema = json!({"$ref": reference, "components": {"schemas": schemas}});
    jsonschema::validator_for(&schema).unwrap()
}

/// The golden files of a kind for one API, with their texts.
fn golden(kind: &str, apis: &[&str], name: &str) -> Vec<(String, String)> {
    let folders = apis.iter().flat_map(|api| fixtures(kind, api));
    let files = folders.map(|folder| folder.join(name));
    files
        .filter_map(|file| {
            let text = fs::read_to_string(&file).ok()?;
            Some((file.display().to_string(), text))
        })
        .collect()
}

#[track_caller]
fn check(schema: &str, cases: impl IntoIterator<Item = (String, Value)>) {
    let validator = validator(schema);
    let mut seen = 0;
    for (place, value) in cases {
        seen += 1;
        let faults: Vec<String> = validator
            .iter_errors(&value)
            .map(|error| format!("{}: {error}", error.instance_path))
            .collect();
        assert!(faults.is_empty(), "{place}: {}\n{value}", faults.join("\n"));
    }
    assert!(10 < seen, "only {seen} cases of {schema}");
}

/// Whole bodies, but for those that say why there is none.
fn bodies(files: Vec<(String, String)>) -> impl Iterator<Item = (String, Value)> {
    files.into_iter().filter_map(|(place, text)| {
        let value: Value = serde_json::from_str(&text).unwrap();
        let is_body = value.get("refused").is_none() && value.get("invalid").is_none();
        is_body.then_some((place, value))
    })
}

/// The events of streams.
fn events(files: Vec<(String, String)>) -> impl Iterator<Item = (String, Value)> {
    files.into_iter().flat_map(|(place, text)| {
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        let values = data.filter_map(|data| serde_json::from_str(data).ok());
        values
            .map(|value| (place.clone(), value))
            .collect::<Vec<_>>()
    })
}

const UPSTREAMS: [&str; 5] = [
    UpstreamApi::ALL[0].name(),
    UpstreamApi::ALL[1].name(),
    UpstreamApi::ALL[2].name(),
    UpstreamApi::ALL[3].name(),
    UpstreamApi::ALL[4].name(),
];

#[test]
fn answers_to_chats_are_what_openais_document_says() {
    let files = golden("replies", &UPSTREAMS, "chat.json");
    check("CreateChatCompletionResponse", bodies(files));
}

#[test]
fn events_of_chats_are_what_openais_document_says() {
    let files = golden("streams", &UPSTREAMS, "chat.sse");
    let chunks = events(files).filter(|(_, value)| value.get("error").is_none());
    check("CreateChatCompletionStreamResponse", chunks);
}

#[test]
fn responses_are_what_openais_document_says() {
    let files = golden("replies", &UPSTREAMS, "responses.json");
    check("Response", bodies(files));
}

#[test]
fn events_of_responses_are_what_openais_document_says() {
    let files = golden("streams", &UPSTREAMS, "responses.sse");
    check("ResponseStreamEvent", events(files));
}

#[test]
fn errors_are_what_openais_document_says() {
    let files = golden("errors", &UPSTREAMS, "chat.json");
    check("ErrorResponse", bodies(files));
}

#[test]
fn requests_for_chats_are_what_openais_document_says() {
    let clients = ClientApi::ALL.map(ClientApi::name);
    let files = golden("requests", &clients, "chat.json");
    check("CreateChatCompletionRequest", bodies(files));
}
