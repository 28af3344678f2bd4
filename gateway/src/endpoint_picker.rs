//! The endpoint picker for other gateways: Envoy's external processing over gRPC, as the Gateway API Inference Extension has it.
//!
//! Another gateway shows each request, headers and body, and is told which replica to send it to; then it shows the answer.
//! A request is authorized, limited, queued and accounted for like one that goes through this gateway, and its replica is
//! picked by the same code. `message` holds what is said, `grpc` how it is framed, `listen` takes connections, `session` is
//! one request from its head to the end of its answer, and `progress` what it holds meanwhile.

mod grpc;
mod head;
mod health;
mod listen;
mod message;
mod progress;
mod reply;
mod session;

use std::sync::Arc;

use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use self::listen::accept;
pub(crate) use self::{
    head::Subset,
    progress::{Picked, Progress},
};
use crate::gateway::Gateway;

/// Where the endpoint is named, in the request's headers and in the metadata for the load balancer.
const DESTINATION: &str = "x-gateway-destination-endpoint";
/// The metadata for the load balancer.
const LOAD_BALANCER: &str = "envoy.lb";

/// Picks endpoints for whoever connects to the listener, if there is one, until shutdown.
pub(crate) fn start(
    listener: Option<TcpListener>,
    gateway: &Arc<Gateway>,
    tasks: &mut JoinSet<()>,
    shutdown: &CancellationToken,
) {
    let Some(listener) = listener else { return };
    if let Ok(address) = listener.local_addr() {
        info!(%address, "endpoint picker listens");
    }
    tasks.spawn(accept(listener, Arc::clone(gateway), shutdown.clone()));
}

#[cfg(test)]
mod tests;
