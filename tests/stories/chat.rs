//! Chats through the gateway: with the real OpenAI SDK, with faults, and eight at once.

use std::{process::Command, thread};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    harness::{Stack, checked},
    sdks::python,
};

const SDK_SCRIPT: &str = r#"
import json, sys
from openai import OpenAI, AuthenticationError, BadRequestError, NotFoundError
url, key = sys.argv[1:]
client = OpenAI(base_url=url, api_key=key, max_retries=0)
messages = [{"role": "user", "content": "What is the capital of France?"}]
whole = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=32)
stream = client.chat.completions.create(model="smollm2", messages=messages, temperature=0, max_tokens=32, stream=True,
                                        stream_options={"include_usage": True})
pieces, usage = [], None
for chunk in stream:
    usage = chunk.usage or usage
    pieces += [choice.delta.content or "" for choice in chunk.choices]
text = client.completions.create(model="smollm2", prompt="The capital of France is", temperature=0, max_tokens=4)
faults = {}
for name, attempt in {
    "wrong key": lambda: OpenAI(base_url=url, api_key="qd-wrong", max_retries=0).models.list(),
    "unknown model": lambda: client.chat.completions.create(model="nobody", messages=messages),
    "bad value": lambda: client.chat.completions.create(model="smollm2", messages=messages, temperature="hot"),
}.items():
    try:
        attempt()
    except (AuthenticationError, BadRequestError, NotFoundError) as error:
        faults[name] = {"status": error.status_code, "code": error.code, "message": error.body["message"]}
print(json.dumps({
    "models": [model.id for model in client.models.list()],
    "whole": whole.choices[0].message.content, "pieces": pieces, "faults": faults,
    "finish": whole.choices[0].finish_reason, "usage": [whole.usage.total_tokens, usage.total_tokens],
    "text": text.choices[0].text,
}))
"#;

#[test]
fn the_openai_sdk_chats_streams_lists_and_gets_its_own_errors() -> Result<()> {
    let python = python("openai")?;
    let stack = Stack::start()?;
    stack.apply_quickstart()?;
    let key = stack.key()?;
    let seen = checked(Command::new(python).args(["-c", SDK_SCRIPT, &stack.gateway(), &key]))?;
    let seen: Value = serde_json::from_str(&seen).context("reading the script's report")?;
    ensure!(seen["models"] == json!(["smollm2"]), "{seen}");
    ensure!(seen["whole"] == "The capital of France is Paris.", "{seen}");
    let pieces = seen["pieces"].as_array().context("no pieces")?;
    let joined: String = pieces.iter().filter_map(Value::as_str).collect();
    ensure!(seen["whole"] == joined && 3 < pieces.len(), "{seen}");
    ensure!(
        seen["finish"] == "stop" && seen["usage"][0] == seen["usage"][1],
        "{seen}"
    );
    ensure!(
        seen["text"]
            .as_str()
            .is_some_and(|text| text.contains("Paris")),
        "{seen}"
    );
    ensure!(seen["faults"]["wrong key"]["status"] == 401, "{seen}");
    ensure!(seen["faults"]["unknown model"]["status"] == 404, "{seen}");
    ensure!(seen["faults"]["bad value"]["status"] == 400, "{seen}");
    let (status, fault) = stack.http_post(
        &format!("{}/chat/completions", stack.gateway()),
        &key,
        "{\"model\": ",
    )?;
    ensure!(
        status == 400 && fault["error"]["type"] == "invalid_request_error",
        "{status} {fault}"
    );
    Ok(())
}

#[test]
fn eight_chats_at_once_are_batched_and_each_answers_as_it_does_alone() -> Result<()> {
    let stack = Stack::start()?;
    stack.apply_quickstart()?;
    let key = stack.key()?;
    let url = format!("{}/chat/completions", stack.gateway());
    let ask = |topic: &str| -> Result<String> {
        let body = json!({
            "model": "smollm2", "temperature": 0, "max_tokens": 32,
            "messages": [{"role": "user", "content": format!("Write one sentence about {topic}.")}],
        });
        let (status, answer) = stack.http_post(&url, &key, &body.to_string())?;
        ensure!(status == 200, "{answer}");
        let text = answer["choices"][0]["message"]["content"].as_str();
        Ok(text.context("no content")?.to_owned())
    };
    let topics = [
        "rain", "bread", "rivers", "glass", "trains", "moss", "salt", "clocks",
    ];
    let alone = topics
        .iter()
        .map(|topic| ask(topic))
        .collect::<Result<Vec<_>>>()?;
    let together = thread::scope(|scope| {
        let threads: Vec<_> = topics
            .iter()
            .map(|topic| scope.spawn(|| ask(topic)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    ensure!(alone == together, "{alone:#?}\n{together:#?}");
    let largest = largest_batch(&stack)?;
    ensure!(1.0 < largest, "the largest batch held {largest} sequences");
    Ok(())
}

/// The most sequences that the engine had in one step, by its own metrics.
fn largest_batch(stack: &Stack) -> Result<f64> {
    let pods = stack.kubectl(&[
        "get",
        "pods",
        "-l",
        "quarterdeck.dev/model=smollm2",
        "-o",
        "jsonpath={.items[*].status.podIP}",
    ])?;
    let address = pods
        .split_whitespace()
        .next()
        .context("the model has no Pod")?;
    let metrics = stack.http_text(&format!("http://{address}:8000/metrics"))?;
    let line = metrics
        .lines()
        .find(|line| line.starts_with("quarterdeck_engine_batch_sequences_max"));
    let value = line
        .and_then(|line| line.rsplit(' ').next())
        .context("no metric of the largest batch")?;
    value.parse().context("reading the metric")
}
