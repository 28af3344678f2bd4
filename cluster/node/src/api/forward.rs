//! `port-forward`: plain channels for most clients, SPDY inside the WebSocket for kubectl.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::Response;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::mpsc;

use super::Refusal;
use super::channels::{CLOSE, Outbox, Piece, V4, V5, next, split};
use super::query::{Parameters, find_pod};
use super::tunnel;
use crate::context::NodeContext;
use crate::pod::table::PodDoor;

/// The protocol of kubectl: SPDY frames in binary messages.
const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const PORTS_MAX: usize = 64;
const CHUNK_BYTES: usize = 16 * 1024;
/// Pieces from the client that wait for a slow port.
const WAITING_MAX: usize = 32;

pub(super) async fn port_forward(
    State(context): State<Arc<NodeContext>>,
    Path((namespace, pod)): Path<(String, String)>,
    uri: Uri,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refusal> {
    let door = find_pod(&context, &namespace, &pod)?;
    let upgrade = upgrade.map_err(|error| {
        Refusal::bad_request(format!("only WebSocket upgrades are served here: {error}"))
    })?;
    let upgrade = upgrade.protocols([TUNNEL, V5, V4]);
    let is_tunnel = upgrade
        .selected_protocol()
        .is_some_and(|protocol| protocol.as_bytes() == TUNNEL.as_bytes());
    let has_ends = upgrade
        .selected_protocol()
        .is_some_and(|protocol| protocol.as_bytes() == V5.as_bytes());
    let ports = ports(&Parameters::of(&uri))?;
    if !is_tunnel && ports.is_empty() {
        return Err(Refusal::bad_request(
            "query parameter \"ports\" is required",
        ));
    }
    let shutdown = context.shutdown.clone();
    let dialer = Dialer { context, door };
    Ok(upgrade.on_upgrade(move |socket| async move {
        let work = async move {
            if is_tunnel {
                Box::pin(tunnel::serve(socket, dialer)).await;
            } else {
                Box::pin(serve_channels(socket, dialer, ports, has_ends)).await;
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work => {}
        }
    }))
}

fn ports(parameters: &Parameters) -> Result<Vec<u16>, Refusal> {
    let mut ports = Vec::new();
    for text in parameters.all("ports").flat_map(|list| list.split(',')) {
        let port = text.parse().ok().filter(|port| *port > 0);
        ports.push(port.ok_or_else(|| Refusal::bad_request(format!("\"{text}\" is no port")))?);
    }
    if ports.len() > PORTS_MAX {
        return Err(Refusal::bad_request(format!("more than {PORTS_MAX} ports")));
    }
    Ok(ports)
}

/// Connects to ports of one Pod.
#[derive(Clone)]
pub(super) struct Dialer {
    context: Arc<NodeContext>,
    door: PodDoor,
}

impl Dialer {
    /// Connects to the first container that listens.
    pub(super) async fn dial(&self, port: u16) -> Result<TcpStream, String> {
        let id = &self.door.id;
        // The Pod may have been restarted since the client came.
        let door = self
            .context
            .table
            .get(&id.namespace, &id.name)
            .filter(|door| door.id == *id);
        let door = door.ok_or_else(|| format!("pod {} does not run any more", id.name))?;
        let mut last = "no container runs".to_owned();
        for running in door
            .order
            .iter()
            .filter_map(|name| door.containers.get(name)?.running.clone())
        {
            match running.connect(port, CONNECT_LIMIT).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error.to_string(),
            }
        }
        Err(format!(
            "failed to connect to port {port} of pod {}: {last}",
            id.name
        ))
    }
}

/// Serves the plain protocol: two channels for each port, data and error, both begun with the port's number.
async fn serve_channels(socket: WebSocket, dialer: Dialer, ports: Vec<u16>, has_ends: bool) {
    let (outbox, sending, mut stream) = split(socket);
    let mut inboxes = HashMap::new();
    let mut forwards = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let Ok(channel) = u8::try_from(index * 2) else {
            break;
        };
        for channel in [channel, channel + 1] {
            outbox.send(channel, &port.to_le_bytes()).await;
        }
        let (inbox, pieces) = mpsc::channel::<Bytes>(WAITING_MAX);
        inboxes.insert(channel, inbox);
        forwards.push(forward(
            dialer.clone(),
            *port,
            channel,
            pieces,
            Outgoing {
                outbox: outbox.clone(),
                has_ends,
            },
        ));
    }
    drop(outbox);
    let listening = async move {
        while let Some(piece) = next(&mut stream).await {
            match piece {
                Piece::Data(channel, bytes) => {
                    if let Some(inbox) = inboxes.get(&channel)
                        && inbox.send(bytes).await.is_err()
                    {
                        inboxes.remove(&channel);
                    }
                }
                Piece::End(channel) => drop(inboxes.remove(&channel)),
            }
        }
    };
    let work = async move {
        tokio::select! {
            _ = futures::future::join_all(forwards) => {}
            () = listening => {}
        }
    };
    // `sending` ends when every outbox is gone, or with the client.
    tokio::join!(sending, work);
}

struct Outgoing {
    outbox: Outbox,
    has_ends: bool,
}

async fn forward(
    dialer: Dialer,
    port: u16,
    channel: u8,
    mut pieces: mpsc::Receiver<Bytes>,
    outgoing: Outgoing,
) {
    let Outgoing { outbox, has_ends } = outgoing;
    let stream = match dialer.dial(port).await {
        Ok(stream) => stream,
        Err(message) => {
            outbox.send(channel + 1, message.as_bytes()).await;
            return;
        }
    };
    let (read, mut write) = stream.into_split();
    let to_port = async {
        while let Some(bytes) = pieces.recv().await {
            if write.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // The port may have closed first.
        drop(write.shutdown().await);
    };
    // What the port says last is what ends a connection; the client may have finished speaking long before.
    tokio::select! {
        () = async { to_port.await; std::future::pending().await } => {}
        () = from_port(read, channel, &outbox, has_ends) => {}
    }
}

async fn from_port(mut read: OwnedReadHalf, channel: u8, outbox: &Outbox, has_ends: bool) {
    let mut buffer = vec![0; CHUNK_BYTES];
    while let Ok(count @ 1..) = read.read(&mut buffer).await {
        if !outbox.send(channel, &buffer[..count]).await {
            return;
        }
    }
    if has_ends {
        outbox.send(CLOSE, &[channel]).await;
    }
}
