//! The loopback end of the way out: every connection is passed to the gate's proxy over its socket.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::socket;

/// Connections at one time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
const PAUSE: Duration = Duration::from_millis(100);

/// Passes connections on until shutdown.
pub(super) async fn run(listener: TcpListener, proxy: PathBuf, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &slots) => accepted,
            () = shutdown.cancelled() => break,
        };
        let Some((connection, slot)) = accepted else {
            continue;
        };
        let (proxy, shutdown) = (proxy.clone(), shutdown.clone());
        connections.spawn(async move {
            tokio::select! {
                () = pass(connection, &proxy) => {}
                () = shutdown.cancelled() => {}
            }
            drop(slot);
        });
    }
    connections.close();
    connections.wait().await;
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> Option<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((connection, _)) => Some((connection, slot)),
        Err(error) => {
            tracing::warn!(%error, "connection to the proxy not accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn pass(mut connection: TcpStream, proxy: &Path) {
    match socket::connect(proxy).await {
        Ok(mut way_out) => {
            if let Err(error) = copy_bidirectional(&mut connection, &mut way_out).await {
                tracing::debug!(%error, "connection to the proxy ended");
            }
        }
        Err(error) => tracing::warn!(%error, "the gate's proxy is not there"),
    }
}
