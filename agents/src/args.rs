//! The command line of the agents role.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

/// Run agents: keep their runs in a log on disk, serve the runs API and an OpenAI-compatible surface
#[derive(Debug, Clone, Args)]
pub struct AgentsArgs {
    /// Address to serve on
    #[arg(long, default_value = "127.0.0.1:8085")]
    pub listen: SocketAddr,
    /// Base URL of the operator whose snapshots are followed
    #[arg(long, required_unless_present = "config", requires = "token_file")]
    pub snapshots: Option<String>,
    /// File with the bearer token for the operator
    #[arg(long)]
    pub token_file: Option<PathBuf>,
    /// Agents and keys as a JSON file, instead of an operator
    #[arg(long, conflicts_with = "snapshots")]
    pub config: Option<PathBuf>,
    /// Folder for the run log and the last good snapshot
    #[arg(long)]
    pub data_dir: PathBuf,
    /// Name of this replica, unique among the replicas
    #[arg(long, default_value = "agents")]
    pub node: String,
    /// Most runs that are worked on at once; others wait
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub concurrent_runs: u16,
    /// Most runs that wait; a new one is refused beyond that
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub waiting_runs: u32,
    /// Days that ended runs are kept
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    pub retention_days: u16,
}
