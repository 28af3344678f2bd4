//! Port-forward over SPDY frames inside WebSocket messages, as kubectl speaks it.
//!
//! Each connection is a pair of streams with the same request id: `error`, on which we say what failed, and `data`.

use std::collections::HashMap;

use axum::extract::ws::{Message, WebSocket};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{FuturesUnordered, SplitStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::channels::{Outbox, split};
use super::forward::Dialer;
use super::spdy::{Decoder, Encoder, Frame, Headers, SpdyError, data, pong, reset};

/// Connections of one client at a time.
const CONNECTIONS_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 * 1024;
/// Pieces from the client that wait for a slow port; one such port then holds up the others of its client.
const WAITING_MAX: usize = 64;

/// One connection being forwarded.
struct Connection {
    port: u16,
    error_stream: u32,
    data_stream: u32,
    pieces: mpsc::Receiver<Bytes>,
}

#[derive(Default)]
struct Streams {
    decoder: Decoder,
    encoder: Encoder,
    /// Error streams by request id, until their data stream comes.
    waiting: HashMap<String, u32>,
    /// Where the data of a stream goes.
    inboxes: HashMap<u32, mpsc::Sender<Bytes>>,
}

/// Serves a client until it leaves.
pub(super) async fn serve(socket: WebSocket, dialer: Dialer) {
    let (outbox, sending, stream) = split(socket);
    let (opened, openings) = mpsc::channel(CONNECTIONS_MAX);
    let reading = async {
        if let Err(error) = read(stream, &outbox, opened).await {
            tracing::debug!(%error, "port-forward client broke the protocol");
        }
    };
    let forwarding = forward_all(openings, &dialer, &outbox);
    tokio::select! {
        () = reading => {}
        () = forwarding => {}
        () = sending => {}
    }
}

async fn read(
    mut stream: SplitStream<WebSocket>,
    outbox: &Outbox,
    opened: mpsc::Sender<Connection>,
) -> Result<(), SpdyError> {
    let mut streams = Streams::default();
    while let Some(Ok(message)) = stream.next().await {
        match message {
            Message::Binary(bytes) => streams.decoder.feed(&bytes),
            Message::Close(_) => return Ok(()),
            Message::Text(_) | Message::Ping(_) | Message::Pong(_) => continue,
        }
        while let Some(frame) = streams.decoder.next()? {
            match frame {
                Frame::Open {
                    stream, headers, ..
                } => {
                    let answer = streams.open(stream, &headers)?;
                    outbox.send_raw(answer.frame).await;
                    if let Some(connection) = answer.connection
                        && opened.send(connection).await.is_err()
                    {
                        return Ok(());
                    }
                }
                Frame::Data {
                    stream,
                    bytes,
                    is_last,
                } => streams.data(stream, bytes, is_last).await,
                Frame::Reset { stream } => drop(streams.inboxes.remove(&stream)),
                Frame::Ping { id } => drop(outbox.send_raw(pong(id)).await),
                Frame::GoAway => return Ok(()),
                Frame::Other => {}
            }
        }
    }
    Ok(())
}

struct Answer {
    frame: Bytes,
    connection: Option<Connection>,
}

impl Streams {
    /// Takes a new stream in; with the second one of a request the connection is complete.
    fn open(&mut self, stream: u32, headers: &Headers) -> Result<Answer, SpdyError> {
        let header = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.as_str())
        };
        let request = header("requestid").unwrap_or_default().to_owned();
        let port = header("port")
            .and_then(|port| port.parse::<u16>().ok())
            .filter(|port| *port > 0);
        let refused = Answer {
            frame: reset(stream),
            connection: None,
        };
        self.inboxes.retain(|_, inbox| !inbox.is_closed());
        match (header("streamtype"), port) {
            (Some("error"), Some(_)) if self.waiting.len() < CONNECTIONS_MAX => {
                self.waiting.insert(request, stream);
                Ok(Answer {
                    frame: self.encoder.reply(stream)?,
                    connection: None,
                })
            }
            (Some("data"), Some(port)) if self.inboxes.len() < CONNECTIONS_MAX => {
                let Some(error_stream) = self.waiting.remove(&request) else {
                    return Ok(refused);
                };
                let (inbox, pieces) = mpsc::channel(WAITING_MAX);
                self.inboxes.insert(stream, inbox);
                let connection = Connection {
                    port,
                    error_stream,
                    data_stream: stream,
                    pieces,
                };
                Ok(Answer {
                    frame: self.encoder.reply(stream)?,
                    connection: Some(connection),
                })
            }
            _ => Ok(refused),
        }
    }

    async fn data(&mut self, stream: u32, bytes: Bytes, is_last: bool) {
        if let Some(inbox) = self.inboxes.get(&stream)
            && !bytes.is_empty()
        {
            // A port that has closed takes nothing more.
            drop(inbox.send(bytes).await);
        }
        if is_last {
            self.inboxes.remove(&stream);
        }
    }
}

async fn forward_all(mut openings: mpsc::Receiver<Connection>, dialer: &Dialer, outbox: &Outbox) {
    let mut connections = FuturesUnordered::new();
    loop {
        tokio::select! {
            opening = openings.recv() => match opening {
                Some(connection) => connections.push(forward(connection, dialer, outbox)),
                None => return,
            },
            Some(()) = connections.next() => {}
        }
    }
}

async fn forward(connection: Connection, dialer: &Dialer, outbox: &Outbox) {
    let Connection {
        port,
        error_stream,
        data_stream,
        mut pieces,
    } = connection;
    match dialer.dial(port).await {
        Ok(stream) => {
            let (mut read, mut write) = stream.into_split();
            let to_port = async {
                while let Some(bytes) = pieces.recv().await {
                    if write.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
                // The port may have closed first.
                drop(write.shutdown().await);
            };
            let from_port = async {
                let mut buffer = vec![0; CHUNK_BYTES];
                while let Ok(count @ 1..) = read.read(&mut buffer).await {
                    if !outbox
                        .send_raw(data(data_stream, &buffer[..count], false))
                        .await
                    {
                        return;
                    }
                }
            };
            tokio::select! {
                () = async { to_port.await; std::future::pending().await } => {}
                () = from_port => {}
            }
        }
        Err(message) => drop(
            outbox
                .send_raw(data(error_stream, message.as_bytes(), false))
                .await,
        ),
    }
    outbox.send_raw(data(data_stream, b"", true)).await;
    outbox.send_raw(data(error_stream, b"", true)).await;
}
