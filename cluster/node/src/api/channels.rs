//! Streams over one WebSocket, as Kubernetes numbers them: the first byte of a message says which.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use crate::runtime::Reader;

/// Version with an explicit end of a stream.
pub(crate) const V5: &str = "v5.channel.k8s.io";
pub(crate) const V4: &str = "v4.channel.k8s.io";

/// The channel whose second byte names a channel that ends.
pub(crate) const CLOSE: u8 = 255;
/// Messages that wait for a slow client.
const WAITING_MAX: usize = 32;
const CHUNK_BYTES: usize = 16 * 1024;

/// The sending half, shared by all streams.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(mpsc::Sender<Message>);

/// A piece of a stream from the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Data(u8, Bytes),
    /// The client will send nothing more on this channel.
    End(u8),
}

/// Splits a socket into an outbox, the future that empties it, and the client's messages.
pub(crate) fn split(
    socket: WebSocket,
) -> (Outbox, impl Future<Output = ()>, SplitStream<WebSocket>) {
    let (sink, stream) = socket.split();
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Outbox(sender), carry(receiver, sink), stream)
}

async fn carry(mut waiting: mpsc::Receiver<Message>, mut sink: SplitSink<WebSocket, Message>) {
    while let Some(message) = waiting.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // Clients take an end without a code for a failure. They may have closed first.
    let normal = CloseFrame {
        code: close_code::NORMAL,
        reason: Utf8Bytes::default(),
    };
    if sink.send(Message::Close(Some(normal))).await.is_ok() {
        drop(sink.close().await);
    }
}

impl Outbox {
    /// Sends bytes on a channel; `false` when the client is gone.
    pub(crate) async fn send(&self, channel: u8, bytes: &[u8]) -> bool {
        let mut message = BytesMut::with_capacity(bytes.len() + 1);
        message.put_u8(channel);
        message.put_slice(bytes);
        self.0.send(Message::Binary(message.freeze())).await.is_ok()
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_raw(&self, bytes: Bytes) -> bool {
        self.0.send(Message::Binary(bytes)).await.is_ok()
    }

    /// Copies a stream to a channel until it ends.
    pub(crate) async fn copy(&self, channel: u8, from: Option<Reader>) {
        let Some(mut from) = from else { return };
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(count @ 1..) = from.read(&mut buffer).await {
            if !self.send(channel, &buffer[..count]).await {
                return;
            }
        }
    }
}

/// The client's next piece; `None` when it has left.
pub(crate) async fn next(stream: &mut SplitStream<WebSocket>) -> Option<Piece> {
    loop {
        let bytes = match stream.next().await?.ok()? {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::from(text),
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return None,
        };
        if let Some(piece) = piece(bytes) {
            return Some(piece);
        }
    }
}

fn piece(mut bytes: Bytes) -> Option<Piece> {
    let channel = *bytes.first()?;
    let rest = bytes.split_off(1);
    match (channel, rest.first()) {
        (CLOSE, Some(ended)) => Some(Piece::End(*ended)),
        (CLOSE, None) => None,
        _ => Some(Piece::Data(channel, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_names_its_channel_or_ends_one() {
        let check =
            |bytes: &'static [u8], expected| assert_eq!(piece(Bytes::from_static(bytes)), expected);
        check(
            &[0, b'a', b'b'],
            Some(Piece::Data(0, Bytes::from_static(b"ab"))),
        );
        check(&[4], Some(Piece::Data(4, Bytes::new())));
        check(&[255, 0], Some(Piece::End(0)));
        check(&[255], None);
        check(&[], None);
    }
}
