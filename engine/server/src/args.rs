//! The flags of the `engine` role.

use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use serde_json::{Map, Value};

use crate::source::args::SourceArgs;
use crate::template;

/// Serve one model over the OpenAI API.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Address to serve HTTP on; port 0 takes a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where the weights come from.
    #[command(flatten)]
    pub weights: SourceArgs,
    /// The model's name in the API.
    #[arg(long)]
    pub served_name: String,
    /// Another name that requests may use.
    #[arg(long = "alias")]
    pub aliases: Vec<String>,
    /// Serve the administrative routes: sleep, wake up, reset the cache, load adapters.
    #[arg(long)]
    pub admin: bool,
    /// Most tokens of a prompt and its answer; the model and the cache may allow fewer.
    #[arg(long)]
    pub context_length: Option<usize>,
    /// Most sequences that are computed at once.
    #[arg(long, default_value_t = 16)]
    pub max_sequences: usize,
    /// Most requests that wait; further ones are answered with 429.
    #[arg(long, default_value_t = 256)]
    pub max_waiting: usize,
    /// Most tokens of the prompts that wait; further requests are answered with 429.
    #[arg(long, default_value_t = 1_000_000)]
    pub max_waiting_tokens: usize,
    /// Most tokens that a step computes: long prompts are computed in chunks of this size.
    #[arg(long, default_value_t = 256)]
    pub step_tokens: usize,
    /// Who is computed first.
    #[arg(long, value_enum, default_value_t)]
    pub scheduling_policy: Policy,
    /// How products are computed.
    #[arg(long, value_enum, default_value_t)]
    pub arithmetic: ArithmeticArg,
    /// Quantize matrices of floats when they are loaded.
    #[arg(long, value_enum)]
    pub quantize: Option<Quantize>,
    /// Threads that compute; all cores by default.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Whether the next step is prepared while one is computed; by default where there are cores to spare.
    #[arg(long)]
    pub overlap: Option<bool>,
    /// Memory for keys and values, in MiB; used as it fills.
    #[arg(long, default_value_t = 512)]
    pub kv_cache_mib: usize,
    /// Memory for keys and values that the cache has no more room for, in MiB.
    #[arg(long, default_value_t = 0)]
    pub host_cache_mib: usize,
    /// Publish the changes of the prefix cache at /kv_events. They show the tokens of prompts.
    #[arg(long)]
    pub kv_events: bool,
    /// Most tokens that are guessed from what the sequence has said before; 0 guesses none.
    #[arg(long, default_value_t = 0)]
    pub speculative_ngram: usize,
    /// Fewest last tokens that must have occurred before for a guess.
    #[arg(long, default_value_t = 2)]
    pub speculative_min: usize,
    /// Most last tokens that are compared for a guess.
    #[arg(long, default_value_t = 5)]
    pub speculative_max: usize,
    /// An adapter (LoRA) for the model, as NAME=SOURCE; repeatable.
    #[arg(long = "lora", value_name = "NAME=SOURCE", value_parser = named_source)]
    pub loras: Vec<NamedSource>,
    /// Most adapters that are loaded at once.
    #[arg(long, default_value_t = 8)]
    pub max_loras: usize,
    /// How the model writes tool calls; found out from its chat template by default.
    #[arg(long)]
    pub tool_call_format: Option<String>,
    /// How the model marks reasoning; found out from its chat template by default.
    #[arg(long)]
    pub reasoning_tag: Option<String>,
    /// Variables of the chat template, as a JSON object; those of a request go over them.
    #[arg(long, value_name = "JSON", value_parser = template::parse)]
    pub default_chat_template_kwargs: Option<Map<String, Value>>,
    /// Seconds that running answers get to finish when the process is asked to stop.
    #[arg(long, default_value_t = 25)]
    pub drain_seconds: u64,
}

/// Who is computed first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Policy {
    /// Whoever came first.
    #[default]
    Fcfs,
    /// Whoever has the lower `priority`, then whoever came first.
    Priority,
}

/// How products are computed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ArithmeticArg {
    /// With integers: fast.
    #[default]
    Int8,
    /// With floats: exact.
    F32,
}

/// What matrices of floats become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Quantize {
    /// Eight bits a number.
    Q8,
    /// Four bits a number.
    Q4,
}

/// A source with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSource {
    /// The name that requests use.
    pub name: String,
    /// Where it comes from.
    pub source: String,
}

fn named_source(text: &str) -> Result<NamedSource, String> {
    match text.split_once('=') {
        Some((name, source)) if !name.is_empty() && !source.is_empty() => Ok(NamedSource {
            name: name.to_owned(),
            source: source.to_owned(),
        }),
        Some(_) | None => Err("must be NAME=SOURCE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::http::tests::fixture::try_args;

    #[test]
    fn what_a_flag_cannot_mean_is_said_at_the_start() {
        for (flag, value, expected) in [
            (
                "--default-chat-template-kwargs",
                "[1]",
                "must be a JSON object",
            ),
            (
                "--default-chat-template-kwargs",
                "{a: 1}",
                "must be a JSON object",
            ),
            (
                "--default-chat-template-kwargs",
                "{\"messages\": []}",
                "cannot set \"messages\"",
            ),
            ("--lora", "pirate", "must be NAME=SOURCE"),
            ("--lora", "=file:///a", "must be NAME=SOURCE"),
        ] {
            let read = try_args("file:///m.gguf", Path::new("/cache"), &[flag, value]);
            let message = read.unwrap_err().to_string();
            assert!(
                message.contains(flag) && message.contains(expected),
                "{message}"
            );
        }
    }
}
