//! What the gateway is started with.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::{identity::IdentityArgs, jwt::JwtArgs};

/// How the gateway listens, what it routes by and where it keeps its ledger.
#[derive(Debug, Clone, Args)]
pub struct GatewayArgs {
    /// Address to listen on
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Address on which to pick endpoints for other gateways, by Envoy's external processing over gRPC without encryption; without
    /// it there is no endpoint picker
    #[arg(
        long,
        value_name = "ADDRESS",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1:9002"
    )]
    pub endpoint_picker_listen: Option<SocketAddr>,
    /// Operator to take routes and keys from, as http://operator:8090
    #[arg(
        long,
        value_name = "URL",
        requires = "token_file",
        required_unless_present = "config"
    )]
    pub snapshots: Option<String>,
    /// File with the token for the operator
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// File with routes and keys (a gateway snapshot as YAML or JSON) instead of an operator; read again when it changes
    #[arg(long, value_name = "FILE", conflicts_with = "snapshots")]
    pub config: Option<PathBuf>,
    /// Folder for the ledger and the last good snapshot
    #[arg(long, value_name = "FOLDER", default_value = "quarterdeck-gateway")]
    pub data_dir: PathBuf,
    /// Milliseconds after which a row of the ledger survives power loss; 0 for before its answer is complete. A row always
    /// survives kill -9 before that
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10)]
    pub ledger_sync_millis: u64,
    /// File with the URL of a PostgreSQL database for the ledger, as postgresql://USER:PASSWORD@HOST:5432/DATABASE, which
    /// replicas share; without it each keeps its own in the folder
    #[arg(long, value_name = "FILE")]
    pub ledger_url_file: Option<PathBuf>,
    /// File with the key of the admin API, of 32 random characters or more; without it there is no admin API
    #[arg(long, value_name = "FILE")]
    pub admin_key_file: Option<PathBuf>,
    /// Whose tokens are taken besides keys
    #[command(flatten)]
    pub jwt: JwtArgs,
    /// Who the gateway itself is at clouds
    #[command(flatten)]
    pub identity: IdentityArgs,
    /// Name of this replica, unique among the gateway's replicas
    #[arg(long, value_name = "NAME", default_value = "gateway")]
    pub node: String,
    /// Bytes of a request's body that are accepted
    #[arg(long, value_name = "BYTES", default_value_t = 32 << 20)]
    pub body_bytes_max: usize,
    /// Requests in progress beyond which new ones are told to come back
    #[arg(long, value_name = "COUNT", default_value_t = 1024)]
    pub requests_max: usize,
    /// Bytes of a form with files, as sounds and images, that are accepted
    #[arg(long, value_name = "BYTES", default_value_t = 512 << 20)]
    pub form_bytes_max: u64,
    /// File that gets a line of JSON for each request, - for standard output; without it there is no access log
    #[arg(long, value_name = "FILE")]
    pub access_log: Option<PathBuf>,
    /// Collector that takes spans by OTLP over HTTP, as http://collector:4318; without it there are no spans
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of the traces that begin at the gateway that is told, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    pub trace_share: f64,
    /// Tell in spans what was asked and answered, as guards have left it
    #[arg(long, requires = "otlp_endpoint")]
    pub otlp_content: bool,
    /// Seconds between two tellings of all metrics to the collector, by OTLP over HTTP; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub otlp_metrics_seconds: u64,
    /// Tell the collector the lines of the access log too, as logs by OTLP over HTTP
    #[arg(long, requires = "otlp_endpoint")]
    pub otlp_logs: bool,
    /// Show metrics by LiteLLM's names too
    #[arg(long)]
    pub litellm_metrics: bool,
    /// Bytes of files that a key may have
    #[arg(long, value_name = "BYTES", default_value_t = 10 << 30)]
    pub files_bytes_max: u64,
}
