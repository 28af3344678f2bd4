//! The link: a connection to PostgreSQL that is made again when it has failed.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_postgres::{
    Client, Config, Error,
    config::Host,
    tls::{ChannelBinding, TlsConnect, TlsStream},
};
use tokio_rustls::client;
use tracing::info;

use super::{CONNECT_TIMEOUT, schema};
use crate::{ledger::LedgerError, outside};

/// The port of a URL without one.
const PORT: u16 = 5432;
/// The pause after a failure; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Errors of the database that say that it is going away, or is not there yet.
const GOING: [&str; 2] = ["57P", "08"];

/// A connection, or the pause before the next one.
pub(super) struct Link {
    config: Config,
    live: Option<Live>,
    pause: Duration,
    retry_at: Option<Instant>,
}

struct Live {
    client: Client,
    /// What moves bytes; it ends with the connection.
    _driving: JoinSet<()>,
}

impl Link {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            live: None,
            pause: PAUSE,
            retry_at: None,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.live.is_some()
    }

    /// The next use connects at once.
    pub(super) fn forget_pause(&mut self) {
        self.retry_at = None;
    }

    /// Does something with the connection within a time.
    pub(super) async fn run<T>(
        &mut self,
        limit: Duration,
        work: impl AsyncFnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<T, LedgerError> {
        if self.live.is_none() {
            if self.retry_at.is_some_and(|at| Instant::now() < at) {
                return Err(fault("the database was not there a moment ago"));
            }
            self.live = Some(self.connected(limit).await?);
        }
        let Some(live) = &mut self.live else {
            return Err(LedgerError::Closed);
        };
        let done = match timeout(limit, work(&mut live.client)).await {
            Ok(Ok(done)) => {
                self.pause = PAUSE;
                return Ok(done);
            }
            Ok(Err(error)) => error,
            Err(_) => {
                self.fail();
                return Err(fault("the database did not answer in time"));
            }
        };
        let state = done.code().map(|state| state.code().to_owned());
        if state.is_none_or(|state| GOING.iter().any(|going| state.starts_with(going))) {
            self.fail();
        }
        Err(fault(&told(&done)))
    }

    /// A new connection, with the ledger's tables.
    async fn connected(&mut self, limit: Duration) -> Result<Live, LedgerError> {
        let connecting = timeout(CONNECT_TIMEOUT.min(limit), connect(&self.config)).await;
        let mut live = match connecting {
            Ok(Ok(live)) => live,
            Ok(Err(reason)) => {
                self.fail();
                return Err(fault(&reason));
            }
            Err(_) => {
                self.fail();
                return Err(fault("the database did not answer in time"));
            }
        };
        let made = timeout(limit, schema::make(&mut live.client)).await;
        match made {
            Ok(Ok(())) => {
                info!("the ledger's database is there");
                Ok(live)
            }
            Ok(Err(error)) => {
                self.fail();
                Err(fault(&told(&error)))
            }
            Err(_) => {
                self.fail();
                Err(fault("the database did not answer in time"))
            }
        }
    }

    fn fail(&mut self) {
        self.live = None;
        self.retry_at = Some(Instant::now() + self.pause);
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }
}

fn fault(reason: &str) -> LedgerError {
    LedgerError::Storage(reason.to_owned())
}

/// What the database says, or why there is none; nothing of a URL or a row.
fn told(error: &Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{}: {}", error.code().code(), error.message()),
        None => error.to_string(),
    }
}

/// A connection to the first host that answers.
async fn connect(config: &Config) -> Result<Live, String> {
    let mut reason = "no host".to_owned();
    for (place, host) in config.get_hosts().iter().enumerate() {
        let Host::Tcp(host) = host else { continue };
        let ports = config.get_ports();
        // One port for each host, or one for all.
        let port = ports.get(place).or(ports.first()).copied();
        let stream = match outside::connect(host, port.unwrap_or(PORT)).await {
            Ok(stream) => stream,
            Err(error) => {
                reason = error.to_string();
                continue;
            }
        };
        let tls = Tls { host: host.clone() };
        match config.connect_raw(stream, tls).await {
            Ok((client, connection)) => {
                let mut driving = JoinSet::new();
                driving.spawn(connection.map(|_| ()));
                return Ok(Live {
                    client,
                    _driving: driving,
                });
            }
            Err(error) => reason = told(&error),
        }
    }
    Err(reason)
}

/// Speaks TLS where the database does.
struct Tls {
    host: String,
}

impl TlsConnect<TcpStream> for Tls {
    type Stream = Encrypted;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Encrypted>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        async move { Ok(Encrypted(outside::encrypt(&self.host, stream).await?)) }.boxed()
    }
}

/// A connection that speaks TLS.
struct Encrypted(client::TlsStream<TcpStream>);

impl TlsStream for Encrypted {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
