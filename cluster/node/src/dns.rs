//! The cluster's names: answers for Services and their endpoints, and for nothing else.

pub(crate) mod names;
pub(crate) mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::context::NodeContext;
use names::Names;
use wire::respond;

const QUERY_BYTES_MAX: usize = 4096;
/// TCP clients at a time, and how long one may take.
const CLIENTS_MAX: usize = 64;
const CLIENT_LIMIT: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Ports tried until one is free for both protocols.
const PORTS_TRIED_MAX: usize = 8;

/// The sockets of the server: the same port for both protocols.
#[derive(Debug)]
pub(crate) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Binds `wanted`, or a free port of 127.0.0.1 where it may not.
    pub(crate) async fn bind(wanted: SocketAddr) -> io::Result<Self> {
        match Self::bind_exactly(wanted).await {
            Ok(sockets) => return Ok(sockets),
            Err(error) => tracing::info!(address = %wanted, %error, "DNS takes another port"),
        }
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for _ in 0..PORTS_TRIED_MAX {
            match Self::bind_exactly(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await {
                Ok(sockets) => return Ok(sockets),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn bind_exactly(address: SocketAddr) -> io::Result<Self> {
        let udp = UdpSocket::bind(address).await?;
        let tcp = TcpListener::bind(udp.local_addr()?).await?;
        Ok(Self { udp, tcp })
    }

    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// Answers until the node shuts down.
pub(crate) async fn serve(sockets: Sockets, context: Arc<NodeContext>, domain: String) {
    let Sockets { udp, tcp } = sockets;
    let names = Names {
        context: Arc::clone(&context),
        domain,
    };
    tokio::select! {
        () = context.shutdown.cancelled() => {}
        () = serve_udp(&udp, &names) => {}
        () = serve_tcp(&tcp, &names) => {}
    }
}

async fn serve_udp(socket: &UdpSocket, names: &Names) {
    let mut buffer = vec![0; QUERY_BYTES_MAX];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            // An error of an earlier answer, such as a client that is gone.
            continue;
        };
        if let Some(answer) = respond(&buffer[..length], &names.zone(), true)
            && let Err(error) = socket.send_to(&answer, client).await
        {
            tracing::debug!(%client, %error, "DNS answer not sent");
        }
    }
}

async fn serve_tcp(listener: &TcpListener, names: &Names) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (names, tasks) = (names.clone(), names.context.tasks.clone());
        tasks.spawn(async move {
            // A client that is too slow or breaks off gets no more.
            drop(timeout(CLIENT_LIMIT, converse(stream, &names)).await);
            drop(place);
        });
    }
}

async fn converse(mut stream: TcpStream, names: &Names) -> io::Result<()> {
    loop {
        let length = usize::from(stream.read_u16().await?);
        let mut query = vec![0; length.min(QUERY_BYTES_MAX)];
        stream.read_exact(&mut query).await?;
        let Some(answer) = respond(&query, &names.zone(), false) else {
            return Ok(());
        };
        let Ok(length) = u16::try_from(answer.len()) else {
            return Ok(());
        };
        stream.write_u16(length).await?;
        stream.write_all(&answer).await?;
    }
}
