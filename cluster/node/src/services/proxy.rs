//! Carries TCP connections from one address to the backends behind it, in turn, past those that do not answer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::context::NodeContext;
use crate::runtime::process::connect;

const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Connections of one address at a time.
const CONNECTIONS_MAX: usize = 4096;
/// After a failed accept, for want of descriptors say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A served address; dropping it closes the listener, while open connections go on.
pub(crate) struct Proxy {
    backends: Arc<RwLock<Vec<SocketAddr>>>,
    address: SocketAddr,
    closing: CancellationToken,
}

impl Proxy {
    pub(crate) async fn start(
        context: &Arc<NodeContext>,
        address: SocketAddr,
        backends: Vec<SocketAddr>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let proxy = Self {
            backends: Arc::new(RwLock::new(backends)),
            address,
            closing: context.shutdown.child_token(),
        };
        let (context_, backends, closing) = (
            Arc::clone(context),
            Arc::clone(&proxy.backends),
            proxy.closing.clone(),
        );
        context
            .tasks
            .spawn(serve(context_, listener, backends, closing));
        Ok(proxy)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set_backends(&self, backends: Vec<SocketAddr>) {
        *self.backends.write() = backends;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

async fn serve(
    context: Arc<NodeContext>,
    listener: TcpListener,
    backends: Arc<RwLock<Vec<SocketAddr>>>,
    closing: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let turn = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            () = closing.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let candidates = in_turn(&backends.read(), turn.fetch_add(1, Ordering::Relaxed));
        let (context_, shutdown) = (Arc::clone(&context), context.shutdown.clone());
        context.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = carry(&context_, stream, candidates) => {}
            }
            drop(place);
        });
    }
}

async fn carry(context: &NodeContext, mut client: TcpStream, candidates: Vec<SocketAddr>) {
    for address in candidates {
        match dial(context, address).await {
            Ok(mut backend) => {
                for stream in [&client, &backend] {
                    // Without it small messages are only slower.
                    drop(stream.set_nodelay(true));
                }
                // Either side may break off; there is nothing to do about it.
                drop(copy_bidirectional(&mut client, &mut backend).await);
                return;
            }
            Err(error) => tracing::debug!(%address, %error, "backend does not answer"),
        }
    }
    // Nobody is there: the client sees a reset, as from a closed port.
    drop(client.set_zero_linger());
}

/// Connects to a Pod's port, into its sandbox where its own network hides it.
pub(crate) async fn dial(context: &NodeContext, address: SocketAddr) -> io::Result<TcpStream> {
    let refused = match connect(address, CONNECT_LIMIT).await {
        Ok(stream) => return Ok(stream),
        Err(error) => error,
    };
    let IpAddr::V4(ip) = address.ip() else {
        return Err(refused);
    };
    let Some(door) = context.table.with_address(ip) else {
        return Err(refused);
    };
    for running in door
        .containers
        .values()
        .filter_map(|container| container.running.as_ref())
    {
        if running.isolation().starts_with("isolated")
            && let Ok(stream) = running.connect(address.port(), CONNECT_LIMIT).await
        {
            return Ok(stream);
        }
    }
    Err(refused)
}

/// All backends, beginning with the one whose turn it is.
fn in_turn(backends: &[SocketAddr], turn: usize) -> Vec<SocketAddr> {
    let mut order = backends.to_vec();
    if !order.is_empty() {
        let first = turn % order.len();
        order.rotate_left(first);
    }
    order
}
