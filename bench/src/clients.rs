//! Clients of an OpenAI-compatible server on this machine: each streams an answer, then asks for the next.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{apart, report::say};

const VOCABULARY: [&str; 17] = [
    "the", "river", "stone", "apple", "quiet", "house", "engine", "token", "paper", "winter",
    "garden", "light", "number", "market", "green", "water", "letter",
];
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);

/// What to ask, and how often.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The server's port on the loopback interface.
    #[arg(long)]
    pub(crate) port: u16,
    /// Clients at a time.
    #[arg(long)]
    pub(crate) streams: usize,
    /// Prompts.
    #[arg(long)]
    pub(crate) prompts: usize,
    /// How often each prompt is asked, one time after the other.
    #[arg(long, default_value_t = 1)]
    pub(crate) repetitions: usize,
    /// Words of a prompt, apart from its beginning.
    #[arg(long)]
    pub(crate) words: usize,
    /// Tokens of an answer.
    #[arg(long)]
    pub(crate) tokens: usize,
    /// Makes prompts that no other run has asked.
    #[arg(long)]
    pub(crate) seed: u64,
}

/// What the clients saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Generated tokens over the time of all requests.
    pub(crate) tokens_per_second: f64,
    /// Tokens of a prompt.
    pub(crate) prompt_tokens: u64,
    /// Seconds to the first text of each answer, in the order of their ends.
    pub(crate) first_texts: Vec<f64>,
    /// Seconds between tokens, for each answer.
    pub(crate) between_tokens: Vec<f64>,
}

/// Asks the server from a process apart.
pub(crate) fn ask(args: &Args) -> Result<Seen> {
    let Args {
        port,
        streams,
        prompts,
        repetitions,
        words,
        tokens,
        seed,
    } = args;
    let mut command = apart::subcommand("clients")?;
    command.args(["--port", &port.to_string()]);
    command.args(["--streams", &streams.to_string()]);
    command.args(["--prompts", &prompts.to_string()]);
    command.args(["--repetitions", &repetitions.to_string()]);
    command.args(["--words", &words.to_string()]);
    command.args(["--tokens", &tokens.to_string()]);
    command.args(["--seed", &seed.to_string()]);
    let output = command.output().context("starting the clients")?;
    ensure!(
        output.status.success(),
        "the clients failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("reading what the clients saw")
}

/// Asks and prints what was seen.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let seen = runtime.block_on(all(args))?;
    let text = serde_json::to_string(&seen).context("writing what was seen")?;
    std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes()).context("printing")
}

#[derive(Debug)]
struct Answer {
    first_text: Duration,
    whole: Duration,
    tokens: u64,
    prompt_tokens: u64,
}

async fn all(args: &Args) -> Result<Seen> {
    let client = client()?;
    // The first request of a process pays for what later ones find ready.
    stream(&client, args.port, "Say hello.", 4).await?;
    let mut random = StdRng::seed_from_u64(args.seed);
    let prompts = (0..args.prompts).map(|number| prompt(args, number, &mut random));
    let queue: VecDeque<String> = prompts
        .flat_map(|prompt| std::iter::repeat_n(prompt, args.repetitions))
        .collect();
    let queue = Arc::new(Mutex::new(queue));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let mut workers = JoinSet::new();
    let begin = Instant::now();
    for _ in 0..args.streams {
        let (client, queue, answers) = (client.clone(), Arc::clone(&queue), Arc::clone(&answers));
        let (port, tokens) = (args.port, args.tokens);
        workers.spawn(async move {
            loop {
                let next = queue.lock().pop_front();
                let Some(prompt) = next else {
                    return Ok::<_, anyhow::Error>(());
                };
                let answer = stream(&client, port, &prompt, tokens).await?;
                answers.lock().push(answer);
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.context("waiting for a client")??;
    }
    let seconds = begin.elapsed().as_secs_f64();
    let answers = answers.lock();
    let tokens: u64 = answers.iter().map(|answer| answer.tokens).sum();
    let between = |answer: &Answer| {
        let steps = answer.tokens.saturating_sub(1).max(1);
        (answer.whole - answer.first_text).as_secs_f64() / steps as f64
    };
    Ok(Seen {
        tokens_per_second: tokens as f64 / seconds,
        prompt_tokens: answers.first().map_or(0, |answer| answer.prompt_tokens),
        first_texts: answers
            .iter()
            .map(|answer| answer.first_text.as_secs_f64())
            .collect(),
        between_tokens: answers.iter().map(between).collect(),
    })
}

/// A client that speaks to servers of this machine.
pub(crate) fn client() -> Result<reqwest::Client> {
    // Building a client needs a provider, though nothing here is encrypted.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .no_proxy()
        // A server may close a connection at the moment in which it is used again.
        .pool_max_idle_per_host(0)
        .timeout(REQUEST_TIMEOUT)
        .build()
        .context("making an HTTP client")
}

fn prompt(args: &Args, number: usize, random: &mut StdRng) -> String {
    let seed = args.seed;
    let mut text = format!("Request {seed} {number}. Write a story with these words:");
    for _ in 0..args.words {
        text.push(' ');
        text.push_str(VOCABULARY.choose(random).unwrap_or(&"word"));
    }
    text
}

async fn stream(
    client: &reqwest::Client,
    port: u16,
    prompt: &str,
    tokens: usize,
) -> Result<Answer> {
    let body = json!({
        "model": "bench", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true,
        "stream": true, "stream_options": {"include_usage": true},
    });
    let begin = Instant::now();
    let request = client
        .post(format!("http://127.0.0.1:{port}/v1/completions"))
        .json(&body);
    let mut response = request.send().await.context("asking the server")?;
    let status = response.status();
    if !status.is_success() {
        let text = response.text().await.unwrap_or_default();
        anyhow::bail!("the server answered {status}: {text}");
    }
    let (mut first_text, mut usage, mut events) = (None, Value::Null, Events::default());
    while let Some(bytes) = response.chunk().await.context("reading the answer")? {
        for event in events.push(&bytes) {
            let text = event["choices"][0]["text"].as_str().unwrap_or_default();
            if !text.is_empty() {
                first_text.get_or_insert_with(|| begin.elapsed());
            }
            if event["usage"].is_object() {
                usage = event["usage"].clone();
            }
        }
    }
    let whole = begin.elapsed();
    Ok(Answer {
        first_text: first_text.unwrap_or(whole),
        whole,
        tokens: usage["completion_tokens"]
            .as_u64()
            .context("no usage in the answer")?,
        prompt_tokens: usage["prompt_tokens"].as_u64().unwrap_or(0),
    })
}

/// Server-sent events out of pieces of a body.
#[derive(Debug, Default)]
pub(crate) struct Events {
    rest: Vec<u8>,
    is_done: bool,
}

impl Events {
    /// The events that the piece completes, apart from the last one, `[DONE]`.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Vec<Value> {
        self.rest.extend_from_slice(piece);
        let mut events = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let Some(data) = line.strip_prefix(b"data: ") else {
                continue;
            };
            match serde_json::from_slice(data) {
                Ok(event) => events.push(event),
                Err(_) => self.is_done |= data.starts_with(b"[DONE]"),
            }
        }
        events
    }

    /// Whether the last event has come.
    pub(crate) const fn is_done(&self) -> bool {
        self.is_done
    }
}

/// The middle of some figures.
pub(crate) fn median(figures: &[f64]) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Tells the person what the clients saw.
pub(crate) fn tell(name: &str, seen: &Seen) {
    say(&format!(
        "  {name}: {:.0} tok/s, first text {:.0} ms, between tokens {:.1} ms (p50), prompt {} tokens",
        seen.tokens_per_second,
        median(&seen.first_texts) * 1e3,
        median(&seen.between_tokens) * 1e3,
        seen.prompt_tokens
    ));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Events, median};

    #[test]
    fn events_survive_any_cut() {
        let body = b"data: {\"a\":1}\n\ndata: {\"b\":2}\r\n\r\n: ping\n\ndata: [DONE]\n\n";
        for cut in 0..body.len() {
            let mut events = Events::default();
            let mut all = events.push(&body[..cut]);
            all.extend(events.push(&body[cut..]));
            assert_eq!(all, [json!({"a": 1}), json!({"b": 2})], "cut at {cut}");
            assert!(events.is_done());
        }
    }

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert!(median(&[]).is_nan());
    }
}
