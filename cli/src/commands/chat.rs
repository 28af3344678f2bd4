//! `qd chat`: a message to a model through the gateway, the answer as it comes.

use std::{io::Read, process::ExitCode};

use anyhow::{Context, Result, bail};
use protocol::{
    openai::{ChatChunk, ErrorBody},
    sse::{DONE, Parser},
};
use serde_json::{Value, json};

use crate::{
    global::Global,
    output::{self, Format},
};

/// Bytes of one event of the stream.
const EVENT_BYTES_MAX: usize = 1 << 20;

/// Arguments of `qd chat`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model, as a Route names it
    model: String,
    /// The message; standard input if not given
    message: Option<String>,
    /// A system message before it
    #[arg(long)]
    system: Option<String>,
    /// Sampling temperature, 0 to 2
    #[arg(long)]
    temperature: Option<f64>,
    /// Most tokens of the answer
    #[arg(long, default_value_t = 256)]
    max_tokens: u32,
}

/// Sends the message and streams the answer.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let Args {
        model,
        message,
        system,
        temperature,
        max_tokens,
    } = args;
    let message = match message {
        Some(message) => message,
        None => std::io::read_to_string(std::io::stdin().take(1 << 20))
            .context("reading the message")?,
    };
    let cluster = global.cluster().await?;
    let key_file = global.data()?.gateway_key();
    let (url, key) = cluster
        .plane("quarterdeck-gateway", &key_file, &global.namespace)
        .await?;
    let mut messages: Vec<Value> = system
        .map(|text| json!({"role": "system", "content": text}))
        .into_iter()
        .collect();
    messages.push(json!({"role": "user", "content": message}));
    let mut body =
        json!({"model": model, "messages": messages, "max_tokens": max_tokens, "stream": true});
    if let Some(temperature) = temperature {
        body["temperature"] = json!(temperature);
    }
    let show = |text: &str| {
        if global.output == Format::Text {
            output::print_part(text);
        }
    };
    let answer = stream(&format!("{url}/v1/chat/completions"), &key, &body, show).await?;
    match global.output {
        Format::Text => output::print(""),
        Format::Json => output::print_json(&json!({"model": model, "answer": answer})),
    }
    Ok(ExitCode::SUCCESS)
}

/// Streams a chat completion, telling each piece of text to `show`, and returns the whole text.
pub(crate) async fn stream(
    url: &str,
    key: &str,
    body: &Value,
    mut show: impl FnMut(&str),
) -> Result<String> {
    let request = reqwest::Client::new().post(url).bearer_auth(key).json(body);
    let mut response = request
        .send()
        .await
        .with_context(|| format!("asking {url}"))?;
    let status = response.status();
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        bail!("the gateway answered {status}: {}", fault_message(&text));
    }
    let mut parser = Parser::new(EVENT_BYTES_MAX);
    let mut answer = String::new();
    while let Some(bytes) = response.chunk().await.context("reading the answer")? {
        for event in parser.push(&bytes)? {
            if event.data == DONE {
                return Ok(answer);
            }
            if let Ok(fault) = serde_json::from_str::<ErrorBody>(&event.data) {
                bail!("the stream failed: {}", fault.error.message);
            }
            let chunk: ChatChunk =
                serde_json::from_str(&event.data).context("reading an event of the answer")?;
            for text in chunk
                .choices
                .iter()
                .filter_map(|choice| choice.delta.content.as_deref())
            {
                show(text);
                answer.push_str(text);
            }
        }
    }
    bail!("the answer broke off before its end")
}

/// The message of an error body, or the body itself.
pub(crate) fn fault_message(text: &str) -> String {
    serde_json::from_str::<ErrorBody>(text)
        .map_or_else(|_| text.to_owned(), |fault| fault.error.message)
}
