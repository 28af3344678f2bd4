//! The way out: a proxy that lets programs reach listed domains and nothing else.
//!
//! A name is checked before it is looked up, and what it leads to is checked before it is connected to: the address that
//! was checked is the one that is used, so a second answer of the name server changes nothing.

mod http_forward;
mod server_name;
mod tunnel;

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::audit::{Audit, Event};
use super::policy::{AllowList, Denial, is_public};

#[cfg(test)]
pub(super) use self::server_name::tests::hello_for as tests_hello_for;

/// Connections at one time; more are refused.
const CONNECTIONS_MAX: usize = 256;
const HEADER_READ_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(10);
const RESOLVE_MAX: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(100);

/// The network that the proxy reaches.
pub trait Network: Debug + Send + Sync + 'static {
    /// Looks a name up.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;
    /// Connects to an address that was checked.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>>;
}

/// The host's own resolver and network.
#[derive(Debug)]
pub(crate) struct HostNetwork;

/// What a proxy lets through, and to where.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// The domains.
    pub allow: AllowList,
    /// The network.
    pub network: Arc<dyn Network>,
}

/// The proxy of one workspace.
#[derive(Debug, Clone)]
pub struct Proxy {
    config: Arc<ProxyConfig>,
    audit: Arc<Audit>,
    tunnels: TaskTracker,
    /// Ends tunnels, which outlive the requests that opened them.
    closing: CancellationToken,
}

/// Why a connection could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Blocked {
    #[error("{0}")]
    Denied(#[from] Denial),
    #[error("the domain does not answer: {0}")]
    Unreachable(io::Error),
}

impl Network for HostNetwork {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        Box::pin(async move {
            tokio::net::lookup_host((host, port))
                .await
                .map(Iterator::collect)
        })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(TcpStream::connect(address))
    }
}

impl Proxy {
    /// A proxy that records what it decides.
    pub(crate) fn new(config: ProxyConfig, audit: Arc<Audit>) -> Self {
        Self {
            config: Arc::new(config),
            audit,
            tunnels: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Serves connections of programs until shutdown.
    pub(crate) async fn run(self, listener: UnixListener, shutdown: CancellationToken) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shutdown.cancelled() => break,
            };
            match accepted {
                Ok((connection, _)) => {
                    let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
                        tracing::warn!(
                            connections_max = CONNECTIONS_MAX,
                            "connection of a program refused"
                        );
                        continue;
                    };
                    let (proxy, shutdown) = (self.clone(), shutdown.clone());
                    self.tunnels.spawn(async move {
                        tokio::select! {
                            () = proxy.serve(connection) => {}
                            () = shutdown.cancelled() => {}
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "connection of a program not accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        self.closing.cancel();
        self.tunnels.close();
        self.tunnels.wait().await;
    }

    /// Runs something beside its request, until it ends or the proxy does.
    fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tunnels.spawn(async move {
            tokio::select! {
                () = work => {}
                () = closing.cancelled() => {}
            }
        });
    }

    async fn serve(&self, connection: UnixStream) {
        let service = service_fn(|request| async {
            Ok::<_, std::convert::Infallible>(self.answer(request).await)
        });
        let outcome = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_READ_MAX)
            .serve_connection(TokioIo::new(connection), service)
            .with_upgrades()
            .await;
        if let Err(error) = outcome {
            tracing::debug!(%error, "connection of a program ended");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let outcome = if request.method() == Method::CONNECT {
            tunnel::open(self, request).await
        } else {
            http_forward::forward(self, request).await
        };
        outcome.unwrap_or_else(|blocked| refusal(&blocked))
    }

    /// Connects to a host if it may be reached, and records the decision.
    pub(crate) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, Blocked> {
        let outcome = self.try_connect(host, port).await;
        let (reason, address) = match &outcome {
            Ok((_, address)) => (None, Some(address.ip().to_string())),
            Err(blocked) => (Some(blocked.to_string()), None),
        };
        let allowed = !matches!(outcome, Err(Blocked::Denied(_)));
        self.audit.record(&Event::Egress {
            host: shown(host),
            port,
            allowed,
            reason,
            address,
        });
        outcome.map(|(stream, _)| stream)
    }

    /// Records that a tunnel was closed for what was in it.
    fn deny(&self, host: &str, port: u16, denial: Denial) {
        let reason = Some(denial.to_string());
        self.audit.record(&Event::Egress {
            host: shown(host),
            port,
            allowed: false,
            reason,
            address: None,
        });
    }

    async fn try_connect(&self, host: &str, port: u16) -> Result<(TcpStream, SocketAddr), Blocked> {
        self.config.allow.check(host, port)?;
        let network = &self.config.network;
        let addresses = tokio::time::timeout(RESOLVE_MAX, network.resolve(host, port))
            .await
            .map_err(|_| Denial::Unresolved)?
            .map_err(|_| Denial::Unresolved)?;
        if addresses.is_empty() {
            return Err(Denial::Unresolved.into());
        }
        // One private address among public ones is already an attempt.
        if !addresses.iter().all(|address| is_public(address.ip())) {
            return Err(Denial::PrivateAddress.into());
        }
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for address in addresses {
            match tokio::time::timeout(CONNECT_MAX, network.connect(address)).await {
                Ok(Ok(stream)) => return Ok((stream, address)),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
            }
        }
        Err(Blocked::Unreachable(last))
    }
}

fn shown(host: &str) -> String {
    host.chars()
        .filter(|letter| !letter.is_control())
        .take(253)
        .collect()
}

/// What a program is told; `curl` and package managers show it.
fn refusal(blocked: &Blocked) -> Response<Body> {
    let status = match blocked {
        Blocked::Denied(_) => StatusCode::FORBIDDEN,
        Blocked::Unreachable(_) => StatusCode::BAD_GATEWAY,
    };
    let mut response = Response::new(Body::from(format!("quarterdeck: {blocked}\n")));
    *response.status_mut() = status;
    response
}
