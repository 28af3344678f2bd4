//! Fixture by API: what each translation makes of requests, answers, streams and errors, in golden files.
//!
//! `testdata/wire/KIND/API/FIXTURE/` holds the input and one file for each API that it is translated to.

mod properties;
mod schemas;

use std::{fs, path::PathBuf};

use bytes::Bytes;
use serde_json::{Value, json};
use testkit::golden::{Golden, names};

use super::{
    ClientApi, Exchange, InvalidReply, Translation, UpstreamApi, bedrock::frame, translate_error,
    translate_reply, translate_request,
};
use crate::provider::{Tokens, openai};

/// Sizes that streams are cut into: every byte alone, and sizes that cut events, lines and characters differently.
const CUTS: [usize; 5] = [1, 2, 7, 61, usize::MAX];

impl ClientApi {
    const ALL: [Self; 6] = [
        Self::Chat,
        Self::Messages,
        Self::Responses,
        Self::Completions,
        Self::Ollama,
        Self::Generate,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Messages => "messages",
            Self::Responses => "responses",
            Self::Completions => "completions",
            Self::Ollama => "ollama",
            Self::Generate => "generate",
        }
    }
}

impl UpstreamApi {
    const ALL: [Self; 5] = [
        Self::Chat,
        Self::Messages,
        Self::Gemini,
        Self::Bedrock,
        Self::Ollama,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Messages => "messages",
            Self::Gemini => "gemini",
            Self::Bedrock => "bedrock",
            Self::Ollama => "ollama",
        }
    }
}

pub(super) fn exchange(client: ClientApi, upstream: UpstreamApi) -> Exchange {
    Exchange {
        client,
        upstream,
        model: "smart".to_owned(),
        upstream_model: match upstream {
            UpstreamApi::Chat => "gpt-5.2",
            UpstreamApi::Messages => "claude-opus-4-6",
            UpstreamApi::Gemini => "gemini-3-flash-preview",
            UpstreamApi::Bedrock => "anthropic.claude-sonnet-4-5-20250929-v1:0",
            UpstreamApi::Ollama => "qwen3:8b",
        }
        .to_owned(),
        stream: false,
        request_id: "req_7".to_owned(),
        created: 1_766_000_000,
        request: Bytes::new(),
    }
}

fn root(kind: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/wire")
        .join(kind)
}

/// The folders of fixtures of one API.
fn fixtures(kind: &str, api: &str) -> Vec<PathBuf> {
    let folder = root(kind).join(api);
    let names = names(&folder);
    assert!(!names.is_empty(), "{} has no fixtures", folder.display());
    names.iter().map(|name| folder.join(name)).collect()
}

/// Checks that a kind has no folders of unknown APIs, and reports all faults at once.
#[track_caller]
fn report(kind: &str, known: &[&str], faults: &[String]) {
    for name in names(&root(kind)) {
        assert!(known.contains(&name.as_str()), "{kind}/{name} is no API's");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

fn pretty(body: &[u8]) -> String {
    let value: Value = serde_json::from_slice(body).unwrap();
    format!("{value:#}\n")
}

fn chunk_sizes() -> impl Iterator<Item = usize> {
    CUTS.into_iter()
}

#[test]
fn requests_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for client in ClientApi::ALL {
        for folder in fixtures("requests", client.name()) {
            let body = fs::read(folder.join("input.json")).unwrap();
            let is_stream = serde_json::from_slice::<Value>(&body).unwrap()["stream"] == true;
            let mut golden = Golden::new(&folder, &["input.json"]);
            for upstream in UpstreamApi::ALL {
                if upstream.name() == client.name() {
                    continue;
                }
                let mut exchange = exchange(client, upstream);
                exchange.stream = is_stream;
                let translated = match translate_request(&exchange, &body) {
                    Ok(body) => pretty(&body),
                    Err(error) => format!("{:#}\n", json!({"refused": error.to_string()})),
                };
                golden.check(&format!("{}.json", upstream.name()), &translated);
            }
            faults.extend(golden.close());
        }
    }
    report("requests", &ClientApi::ALL.map(ClientApi::name), &faults);
}

/// The tokens that the client can read from its answer.
fn tokens_of(body: &[u8]) -> Tokens {
    let ollama: Value = serde_json::from_slice(body).unwrap();
    if let (Some(prompt), Some(completion)) = (
        ollama["prompt_eval_count"].as_u64(),
        ollama["eval_count"].as_u64(),
    ) {
        // This API does not tell what was cached.
        let cached = None;
        return Tokens {
            prompt,
            completion,
            cached,
        };
    }
    let mut tokens = openai::decode_response(body).unwrap();
    tokens.cached.get_or_insert(0);
    tokens
}

#[test]
fn answers_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for upstream in UpstreamApi::ALL {
        for folder in fixtures("replies", upstream.name()) {
            let body = fs::read(folder.join("input.json")).unwrap();
            let mut golden = Golden::new(&folder, &["input.json"]);
            for client in ClientApi::ALL {
                if upstream.name() == client.name() {
                    continue;
                }
                let translated = match translate_reply(&exchange(client, upstream), &body) {
                    Ok(reply) => {
                        let told = tokens_of(&reply.body);
                        let known = Tokens {
                            cached: told.cached.and(reply.tokens.cached),
                            ..reply.tokens
                        };
                        assert_eq!(known, told, "{}", folder.display());
                        pretty(&reply.body)
                    }
                    Err(error) => format!("{:#}\n", json!({"invalid": error.to_string()})),
                };
                golden.check(&format!("{}.json", client.name()), &translated);
            }
            faults.extend(golden.close());
        }
    }
    report("replies", &UpstreamApi::ALL.map(UpstreamApi::name), &faults);
}

#[test]
fn errors_are_translated_as_the_golden_files_say() {
    let mut faults = Vec::new();
    for upstream in UpstreamApi::ALL {
        for folder in fixtures("errors", upstream.name()) {
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            // The folder's name begins with the status.
            let status = name.split('-').next().unwrap().parse().unwrap();
            let body = fs::read(folder.join("input.json")).unwrap();
            let mut golden = Golden::new(&folder, &["input.json"]);
            for client in ClientApi::ALL {
                let translated = translate_error(client, status, &body);
                golden.check(&format!("{}.json", client.name()), &pretty(&translated));
            }
            faults.extend(golden.close());
        }
    }
    report("errors", &UpstreamApi::ALL.map(UpstreamApi::name), &faults);
}

#[test]
fn streams_are_translated_as_the_golden_files_say_however_they_are_cut() {
    let mut faults = Vec::new();
    for upstream in UpstreamApi::ALL {
        for folder in fixtures("streams", upstream.name()) {
            let input = input_of(upstream);
            let bytes = fs::read(folder.join(input)).unwrap();
            let bytes = recorded(upstream, &bytes);
            let mut golden = Golden::new(&folder, &[input]);
            for client in ClientApi::ALL {
                if upstream.name() == client.name() {
                    continue;
                }
                let exchange = exchange(client, upstream);
                let whole = run(&exchange, &bytes, usize::MAX);
                for size in chunk_sizes() {
                    let cut = run(&exchange, &bytes, size);
                    assert_eq!(whole, cut, "{} cut by {size}", folder.display());
                }
                golden.check(&format!("{}.{}", client.name(), extension(client)), &whole);
            }
            faults.extend(golden.close());
        }
    }
    report("streams", &UpstreamApi::ALL.map(UpstreamApi::name), &faults);
}

const fn input_of(upstream: UpstreamApi) -> &'static str {
    match upstream {
        UpstreamApi::Chat | UpstreamApi::Messages | UpstreamApi::Gemini => "input.sse",
        // Frames as lines of a type and a payload.
        UpstreamApi::Bedrock => "input.frames",
        UpstreamApi::Ollama => "input.ndjson",
    }
}

const fn extension(client: ClientApi) -> &'static str {
    match client {
        ClientApi::Chat | ClientApi::Messages | ClientApi::Responses | ClientApi::Completions => {
            "sse"
        }
        ClientApi::Ollama | ClientApi::Generate => "ndjson",
    }
}

/// The bytes as they come over the wire.
fn recorded(upstream: UpstreamApi, bytes: &[u8]) -> Vec<u8> {
    match upstream {
        UpstreamApi::Chat | UpstreamApi::Messages | UpstreamApi::Gemini | UpstreamApi::Ollama => {
            bytes.to_vec()
        }
        UpstreamApi::Bedrock => {
            let text = std::str::from_utf8(bytes).unwrap();
            text.lines().flat_map(frame_of).collect()
        }
    }
}

fn frame_of(line: &str) -> Vec<u8> {
    let (kind, payload) = line.split_once(' ').unwrap();
    let (message, name) = match kind.ends_with("Exception") {
        true => ("exception", ":exception-type"),
        false => ("event", ":event-type"),
    };
    let json = (":content-type", "application/json");
    frame(
        &[(name, kind), json, (":message-type", message)],
        payload.as_bytes(),
    )
}

/// What the client gets of a stream; what goes wrong is told at its end.
fn run(exchange: &Exchange, bytes: &[u8], size: usize) -> String {
    let mut translation = Translation::new(exchange);
    let mut seen = Vec::new();
    let mut outcome = || -> Result<(), InvalidReply> {
        for chunk in bytes.chunks(size.min(bytes.len().max(1))) {
            seen.extend_from_slice(&translation.push(chunk)?);
        }
        seen.extend_from_slice(&translation.finish()?);
        Ok(())
    };
    let end = match outcome() {
        Err(error) => format!("(invalid: {error})\n"),
        Ok(()) => {
            let tally = translation.tally();
            let tokens = tally.tokens.map_or_else(
                || "no usage".to_owned(),
                |tokens| format!("{} + {} tokens", tokens.prompt, tokens.completion),
            );
            let end = match (tally.is_done, tally.is_error) {
                (true, _) => "complete",
                (_, true) => "failed",
                _ => "cut off",
            };
            format!("({end}, {} pieces, {tokens})\n", tally.pieces)
        }
    };
    String::from_utf8(seen).unwrap() + &end
}
