//! The declared ports of a sandbox on its Pod's address: the way into a network that has no other.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::runtime::RunningContainer;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Connections of one port at a time.
const CONNECTIONS_MAX: usize = 1024;
const BIND_ATTEMPTS_MAX: u32 = 20;
/// After a failed accept, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A sandbox, and how long its ports are served.
#[derive(Clone)]
pub(crate) struct Exposed {
    pub(crate) running: Arc<dyn RunningContainer>,
    pub(crate) tasks: TaskTracker,
    pub(crate) closing: CancellationToken,
}

/// The TCP ports that a container declares.
pub(crate) fn declared_ports(container: &Container) -> Vec<u16> {
    let ports = container.ports.iter().flatten();
    let tcp = ports.filter(|port| {
        port.protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP")
    });
    tcp.filter_map(|port| u16::try_from(port.container_port).ok())
        .collect()
}

/// Serves one port until the container is to end.
pub(crate) async fn expose(exposed: Exposed, ip: Ipv4Addr, port: u16) {
    let address = SocketAddr::from((ip, port));
    let Some(listener) = bind(address, &exposed.closing).await else {
        return;
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let accepted = tokio::select! {
            () = exposed.closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let of_client = exposed.clone();
        exposed.tasks.spawn(async move {
            tokio::select! {
                () = of_client.closing.cancelled() => {}
                () = carry(&of_client, stream, port) => {}
            }
            drop(place);
        });
    }
}

/// Binds an address; the container before may not quite have left it.
async fn bind(address: SocketAddr, closing: &CancellationToken) -> Option<TcpListener> {
    for attempt in 1.. {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(_) if attempt < BIND_ATTEMPTS_MAX && !closing.is_cancelled() => {
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            Err(error) => {
                tracing::warn!(%address, %error, "container port not served");
                return None;
            }
        }
    }
    None
}

async fn carry(exposed: &Exposed, mut client: TcpStream, port: u16) {
    match exposed.running.connect(port, CONNECT_LIMIT).await {
        // Either side may break off; there is nothing to do about it.
        Ok(mut inside) => drop(copy_bidirectional(&mut client, &mut inside).await),
        // Nobody listens inside: the client sees a reset, as from a closed port.
        Err(_) => drop(client.set_zero_linger()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_declared_tcp_ports_are_served() {
        let container = json!({"name": "c", "ports": [{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}, {"containerPort": 443, "protocol": "TCP"}]});
        let container: Container = serde_json::from_value(container).unwrap();
        assert_eq!(declared_ports(&container), [80, 443]);
    }
}
