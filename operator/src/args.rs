//! The role's flags.

use std::net::SocketAddr;

use clap::Args;

/// Flags of `qd operator`.
#[derive(Debug, Clone, Args)]
pub struct OperatorArgs {
    /// Address that serves snapshots to the data planes
    #[arg(long, value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Address that serves /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDRESS")]
    pub probes: SocketAddr,
    /// Image of engines and workspace gates
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    /// Namespace of the operator and the data planes
    #[arg(long, value_name = "NAMESPACE", default_value = crds::names::SYSTEM_NAMESPACE)]
    pub system_namespace: String,
    /// How agents reach the gateway, with /v1
    #[arg(long, value_name = "URL")]
    pub gateway_url: String,
    /// ServiceAccount that may fetch the gateway's snapshots
    #[arg(long, value_name = "NAME", default_value = "quarterdeck-gateway")]
    pub gateway_service_account: String,
    /// ServiceAccount that may fetch the agents' snapshots
    #[arg(long, value_name = "NAME", default_value = "quarterdeck-agents")]
    pub agents_service_account: String,
    /// This replica's name in the Lease; random if not given
    #[arg(long, value_name = "NAME", env = "POD_NAME", hide_env = true)]
    pub identity: Option<String>,
}
