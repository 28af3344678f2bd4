//! SDKs see through the gateway what they see at a provider itself; what passes is what OpenAI's document says.

mod document;
mod fuzzed;
mod programs;
mod tap;

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow, ensure};
use protocol::key::hash_key;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::fluent_provider::{API_KEY, FluentProvider, Heard, MODEL};

pub(crate) use self::programs::{node, packages, python};
use self::{
    document::Document,
    programs::Runtime,
    tap::{Exchange, Tap},
};
use crate::gateway::Gateway;

/// The key of the scripts at the gateway.
const KEY: &str = "qd-5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d";
/// How long an answer that its client has left may go on.
const LEAVING: Duration = Duration::from_secs(10);

/// A gateway before a provider, with a tap before it.
struct Through {
    gateway: Gateway,
    tap: Tap,
    provider: FluentProvider,
    _folder: TempDir,
}

impl Through {
    /// Starts all three; `more` are fields of the target.
    async fn start(more: &Value) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let provider = FluentProvider::start().await;
        let mut target = json!({"name": "own", "model": MODEL, "endpoints": [provider.base_url()], "credential": API_KEY});
        if let (Some(target), Some(more)) = (target.as_object_mut(), more.as_object()) {
            target.extend(more.clone());
        }
        if target["provider"]["type"] == "Gemini" {
            target["endpoints"] = json!([format!("{}/v1beta", provider.root_url())]);
        }
        let snapshot = json!({"keys": [{"id": "default/story", "hash": hash_key(KEY)}], "routes": [{
            "namespace": "default", "name": MODEL, "models": [MODEL], "targets": [target],
            // What an upstream refuses is refused: how often it is asked is another story.
            "retries": {"attempts": 0, "backoffMillis": 1},
        }]});
        let gateway = Gateway::start(folder.path(), &snapshot, &[]).await?;
        let tap = Tap::start(gateway.root()).await?;
        Ok(Self {
            gateway,
            tap,
            provider,
            _folder: folder,
        })
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting a runtime")
}

/// Runs a script at a provider itself and through a gateway, and compares what it saw.
fn check(runtime: Runtime, script: &str) -> Result<()> {
    check_target(runtime, script, &json!({}))
}

/// The same with a target that has more fields: those of a provider that speaks another API.
fn check_target(runtime: Runtime, script: &str, target: &Value) -> Result<()> {
    let tokio = self::runtime()?;
    let straight = tokio.block_on(FluentProvider::start());
    let through = tokio.block_on(Through::start(target))?;
    let (expected, found) = thread::scope(|scope| {
        let base = straight.base_url();
        let expected = scope.spawn(move || runtime.run(script, &base, API_KEY));
        let found = runtime.run(script, &through.tap.url(), KEY);
        let expected = expected
            .join()
            .map_err(|_| anyhow!("the script's thread broke"));
        Ok::<_, anyhow::Error>((expected??, found?))
    })?;
    let differing = differences(&expected["seen"], &found["seen"]);
    ensure!(differing.is_empty(), "{script}:\n{}", differing.join("\n"));
    let left = found["left"]
        .as_u64()
        .and_then(|left| usize::try_from(left).ok());
    let left = left.context("the script does not say what it left")?;
    for provider in [&straight, &through.provider] {
        tokio.block_on(async {
            let leaving = tokio::time::timeout(LEAVING, provider.abandoned(left));
            leaving
                .await
                .with_context(|| format!("{script}: an answer goes on that its client has left"))
        })?;
    }
    check_wire(&through)?;
    through.gateway.stop()
}

/// What is not equal in two documents, scenario by scenario.
fn differences(expected: &Value, found: &Value) -> Vec<String> {
    let names =
        [expected, found].map(|seen| seen.as_object().into_iter().flatten().map(|(name, _)| name));
    let mut names: Vec<&String> = names.into_iter().flatten().collect();
    names.sort();
    names.dedup();
    let differing = names
        .into_iter()
        .filter(|name| expected[*name] != found[*name]);
    differing
        .map(|name| {
            format!(
                "{name}\n  straight: {}\n  through:  {}",
                expected[name], found[name]
            )
        })
        .collect()
}

/// Everything that passed is what OpenAI's document says, but for what clients asked for against it.
fn check_wire(through: &Through) -> Result<()> {
    let mut document = Document::read()?;
    let exchanges = through.tap.exchanges();
    let of_clients = exchanges
        .iter()
        .map(|exchange| document.faults_of_request(&exchange.path, &exchange.request))
        .collect::<Result<Vec<_>>>()?;
    for Heard { path, body, .. } in through.provider.heard() {
        let Ok(body) = serde_json::from_slice(&body) else {
            continue;
        };
        let faults = document.faults_of_request(&path, &body)?;
        let is_clients = faults.is_empty() || of_clients.contains(&faults);
        ensure!(is_clients, "asked {path}: {faults:?}\n{body}");
    }
    let of_openai = exchanges.iter().filter(|exchange| !exchange.is_anthropic);
    for exchange in of_openai {
        valid_answer(&mut document, exchange)?;
    }
    Ok(())
}

fn valid_answer(document: &mut Document, exchange: &Exchange) -> Result<()> {
    let Exchange {
        path,
        status,
        media,
        ..
    } = exchange;
    if exchange.request["encoding_format"] == "base64" {
        // OpenAI's own SDKs ask for it, and its document knows only numbers.
        return Ok(());
    }
    for value in exchange.values()? {
        // An error in the middle of a stream is one too.
        let is_error = value["error"].is_object() && value.get("object").is_none();
        let status = if is_error {
            (*status).max(400)
        } else {
            *status
        };
        let faults = document.faults_of_answer(path, status, media, &value)?;
        ensure!(
            faults.is_empty(),
            "{path} answered {status}: {faults:?}\n{value}"
        );
    }
    Ok(())
}

#[test]
fn openais_python_sdk_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Python("openai"), "openai_python.py")
}

#[test]
fn anthropics_python_sdk_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Python("openai"), "anthropic_python.py")
}

#[test]
fn openais_javascript_sdk_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Node, "openai_javascript.mjs")
}

#[test]
fn anthropics_javascript_sdk_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Node, "anthropic_javascript.mjs")
}

#[test]
fn the_ai_sdk_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Node, "ai_javascript.mjs")
}

#[test]
#[ignore = "takes half a minute: cargo nextest run -p tests --run-ignored only"]
fn langchain_and_instructor_see_through_the_gateway_what_they_see_at_the_provider() -> Result<()> {
    check(Runtime::Python("langchain"), "langchain_python.py")
}

#[test]
#[ignore = "takes half a minute: cargo nextest run -p tests --run-ignored only"]
fn litellm_sees_through_the_gateway_what_it_sees_at_the_provider() -> Result<()> {
    check(Runtime::Python("litellm"), "litellm_python.py")
}

#[test]
fn openais_sdk_cannot_tell_which_api_a_provider_speaks() -> Result<()> {
    for target in [
        json!({"provider": {"type": "Anthropic"}}),
        json!({"provider": {"type": "Gemini"}}),
        json!({"apis": ["Chat"]}),
    ] {
        check_target(Runtime::Python("openai"), "translated_openai.py", &target)
            .with_context(|| target.to_string())?;
    }
    Ok(())
}

#[test]
fn anthropics_sdk_cannot_tell_which_api_a_provider_speaks() -> Result<()> {
    for target in [
        json!({"apis": ["Chat"]}),
        json!({"provider": {"type": "Gemini"}}),
    ] {
        check_target(
            Runtime::Python("openai"),
            "translated_anthropic.py",
            &target,
        )
        .with_context(|| target.to_string())?;
    }
    Ok(())
}
