//! vLLM's and SGLang's way: a subscription over ZMTP 3.0, the wire format of ZeroMQ, with the NULL mechanism.
//!
//! A peer begins with a greeting of 64 bytes, then names its kind of socket in a command READY; a subscriber sends what it
//! wants as a message of its own. After that messages come in frames. Batches have three: topic, number, and what happened.

use std::{io, net::SocketAddr};

use ::http::Uri;
use protocol::address::is_forbidden;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::{BATCH_BYTES_MAX, Batch, CONNECT_TIMEOUT, IDLE_TIMEOUT, msgpack};

/// Another frame of the same message follows.
const MORE: u8 = 0b001;
/// The frame's length takes eight bytes.
const LONG: u8 = 0b010;
/// The frame is a command of the protocol's own.
const COMMAND: u8 = 0b100;
/// Frames of a message.
const FRAMES_MAX: usize = 8;

/// Why a subscription ended.
#[derive(Debug, Error)]
enum ZmtpError {
    /// The connection could not be made, or broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Nothing came in time.
    #[error("silence")]
    Silence,
    /// The other side speaks something else.
    #[error("the publisher does not speak ZMTP 3 with the NULL mechanism")]
    Foreign,
    /// A message over the limit.
    #[error("a message is over the limit")]
    TooLong,
    /// The address names no server that may be reached.
    #[error("the replica has no address that may be reached")]
    Unreachable,
}

/// Listens to the publisher at a port of a replica's host until the connection ends; why it did.
pub(super) async fn listen(url: &str, port: u16, topic: &str, take: impl FnMut(Batch)) -> String {
    match try_listen(url, port, topic, take).await {
        Ok(never) => match never {},
        Err(error) => error.to_string(),
    }
}

async fn try_listen(
    url: &str,
    port: u16,
    topic: &str,
    mut take: impl FnMut(Batch),
) -> Result<std::convert::Infallible, ZmtpError> {
    let connected = timeout(CONNECT_TIMEOUT, async {
        let stream = connect(url, port).await?;
        Subscription::begin(stream, topic).await
    });
    let mut subscription = connected.await.map_err(|_| ZmtpError::Silence)??;
    loop {
        let next = timeout(IDLE_TIMEOUT, subscription.next()).await;
        let message = next.map_err(|_| ZmtpError::Silence)??;
        if let Some(batch) = batch(&message) {
            take(batch);
        }
    }
}

async fn connect(url: &str, port: u16) -> Result<TcpStream, ZmtpError> {
    let uri: Uri = url.parse().map_err(|_| ZmtpError::Unreachable)?;
    let host = uri.host().ok_or(ZmtpError::Unreachable)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let addresses = tokio::net::lookup_host((host, port)).await?;
    // Names may lead anywhere, as with requests.
    let allowed = addresses.filter(|address| !is_forbidden(address.ip()));
    let allowed: Vec<SocketAddr> = allowed.collect();
    if allowed.is_empty() {
        return Err(ZmtpError::Unreachable);
    }
    Ok(TcpStream::connect(&*allowed).await?)
}

/// The batch in a message; `None` if it is none, as from a publisher of something else.
fn batch(message: &[Vec<u8>]) -> Option<Batch> {
    let [_topic, sequence, events] = message else {
        return None;
    };
    Some(Batch {
        sequence: u64::from_be_bytes(sequence.as_slice().try_into().ok()?),
        changes: msgpack::changes(events)?,
    })
}

/// A subscription that has begun.
#[derive(Debug)]
struct Subscription<S> {
    stream: BufReader<S>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Subscription<S> {
    /// Greets the publisher, and asks it for a topic and all that begins with it.
    async fn begin(stream: S, topic: &str) -> Result<Self, ZmtpError> {
        let mut stream = BufReader::new(stream);
        stream.write_all(&greeting()).await?;
        stream.flush().await?;
        let mut theirs = [0; 64];
        stream.read_exact(&mut theirs).await?;
        let is_ours = theirs[0] == 0xff && theirs[9] & 1 == 1 && 3 <= theirs[10];
        if !is_ours || !theirs[12..32].starts_with(b"NULL\0") {
            return Err(ZmtpError::Foreign);
        }
        let mut subscription = Self { stream };
        let ready = b"\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB";
        subscription.send(COMMAND, ready).await?;
        let (flags, theirs) = subscription.frame(BATCH_BYTES_MAX).await?;
        if flags & COMMAND == 0 || !theirs.starts_with(b"\x05READY") {
            return Err(ZmtpError::Foreign);
        }
        let wish = [&b"\x01"[..], topic.as_bytes()].concat();
        subscription.send(0, &wish).await?;
        Ok(subscription)
    }

    /// The frames of the next message.
    async fn next(&mut self) -> Result<Vec<Vec<u8>>, ZmtpError> {
        let mut frames = Vec::new();
        let mut room = BATCH_BYTES_MAX;
        loop {
            let (flags, frame) = self.frame(room).await?;
            if flags & COMMAND != 0 {
                self.answer(&frame).await?;
                continue;
            }
            room -= frame.len();
            frames.push(frame);
            if flags & MORE == 0 {
                return Ok(frames);
            }
            if frames.len() == FRAMES_MAX {
                return Err(ZmtpError::TooLong);
            }
        }
    }

    /// Answers a command that wants to be: a sign of life, with what it brought along.
    async fn answer(&mut self, command: &[u8]) -> Result<(), ZmtpError> {
        // Behind the name, two bytes say how long the sign holds.
        if let Some(context) = command.strip_prefix(b"\x04PING")
            && let Some(context) = context.get(2..)
        {
            let pong = [&b"\x04PONG"[..], context].concat();
            self.send(COMMAND, &pong).await?;
        }
        Ok(())
    }

    async fn send(&mut self, flags: u8, body: &[u8]) -> Result<(), ZmtpError> {
        let mut frame = Vec::with_capacity(body.len() + 9);
        match u8::try_from(body.len()) {
            Ok(length) => frame.extend([flags, length]),
            Err(_) => {
                frame.push(flags | LONG);
                frame.extend((body.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next frame, of so many bytes at most: its flags and its body.
    async fn frame(&mut self, bytes_max: usize) -> Result<(u8, Vec<u8>), ZmtpError> {
        let flags = self.stream.read_u8().await?;
        let length = match flags & LONG {
            0 => u64::from(self.stream.read_u8().await?),
            _ => self.stream.read_u64().await?,
        };
        let length = usize::try_from(length).map_err(|_| ZmtpError::TooLong)?;
        if bytes_max < length {
            return Err(ZmtpError::TooLong);
        }
        let mut body = Vec::new();
        // What was announced is not what is there: memory is taken as bytes come.
        let read = (&mut self.stream).take(length as u64);
        let mut read = std::pin::pin!(read);
        read.read_to_end(&mut body).await?;
        if body.len() < length {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok((flags, body))
    }
}

/// Signature, version 3.0, the NULL mechanism, no server.
fn greeting() -> [u8; 64] {
    let mut greeting = [0; 64];
    greeting[0] = 0xff;
    greeting[9] = 0x7f;
    greeting[10] = 3;
    greeting[12..16].copy_from_slice(b"NULL");
    greeting
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::{Batch, Subscription, ZmtpError, batch, greeting, msgpack};
    use crate::kv_events::msgpack::tests::BATCH;

    const READY: &[u8] = b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03PUB";

    /// A subscription to `kv` whose publisher is played by the test.
    async fn subscribed() -> (Subscription<DuplexStream>, DuplexStream) {
        let (ours, mut theirs) = duplex(1 << 20);
        theirs.write_all(&greeting()).await.unwrap();
        theirs.write_all(READY).await.unwrap();
        let subscription = Subscription::begin(ours, "kv").await.unwrap();
        let mut said = vec![0; 64 + READY.len() + 5];
        theirs.read_exact(&mut said).await.unwrap();
        let (greeted, rest) = said.split_at(64);
        assert_eq!(greeted, greeting());
        let expected = [
            &b"\x04\x19\x05READY\x0bSocket-Type\x00\x00\x00\x03SUB"[..],
            b"\x00\x03\x01kv",
        ];
        assert_eq!(rest, expected.concat());
        (subscription, theirs)
    }

    fn long(flags: u8, body: &[u8]) -> Vec<u8> {
        [&[flags | 2][..], &(body.len() as u64).to_be_bytes(), body].concat()
    }

    #[tokio::test]
    async fn messages_come_in_frames_short_and_long() {
        let (mut subscription, mut theirs) = subscribed().await;
        theirs
            .write_all(b"\x01\x02kv\x01\x08\0\0\0\0\0\0\x01\x02")
            .await
            .unwrap();
        theirs.write_all(&long(0, BATCH)).await.unwrap();
        let message = subscription.next().await.unwrap();
        let expected = Batch {
            sequence: 258,
            changes: msgpack::changes(BATCH).unwrap(),
        };
        assert_eq!(batch(&message), Some(expected));
        // A message of another shape is none.
        theirs.write_all(b"\x00\x02kv").await.unwrap();
        assert_eq!(batch(&subscription.next().await.unwrap()), None);
    }

    #[tokio::test]
    async fn signs_of_life_are_answered_between_messages() {
        let (mut subscription, mut theirs) = subscribed().await;
        theirs
            .write_all(b"\x04\x09\x04PING\0\x0aab\x00\x02kv")
            .await
            .unwrap();
        assert_eq!(subscription.next().await.unwrap(), [b"kv"]);
        let mut pong = [0; 9];
        theirs.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"\x04\x07\x04PONGab");
    }

    #[tokio::test]
    async fn publishers_that_speak_something_else_are_left() {
        let check = async |greets: Vec<u8>| {
            let (ours, mut theirs) = duplex(1 << 10);
            theirs.write_all(&greets).await.unwrap();
            drop(theirs.shutdown().await);
            Subscription::begin(ours, "").await.unwrap_err().to_string()
        };
        let foreign = ZmtpError::Foreign.to_string();
        let with = |place: usize, bytes: &[u8]| {
            let mut greeting = greeting().to_vec();
            greeting[place..][..bytes.len()].copy_from_slice(bytes);
            greeting
        };
        assert_eq!(check(with(12, b"CURVE")).await, foreign);
        assert_eq!(check(with(10, b"\x01")).await, foreign);
        assert_eq!(
            check(b"HTTP/1.1 400 Bad Request\r\n".repeat(3)).await,
            foreign
        );
        let not_ready = [&greeting()[..], b"\x04\x06\x05ERROR"].concat();
        assert_eq!(check(not_ready).await, foreign);
    }

    #[tokio::test]
    async fn messages_over_the_limit_end_a_subscription() {
        let (mut subscription, mut theirs) = subscribed().await;
        theirs
            .write_all(b"\x02\xff\xff\xff\xff\xff\xff\xff\xff")
            .await
            .unwrap();
        let ended = subscription.next().await.unwrap_err();
        assert_eq!(ended.to_string(), ZmtpError::TooLong.to_string());
        let (mut subscription, mut theirs) = subscribed().await;
        theirs.write_all(&b"\x01\x00".repeat(9)).await.unwrap();
        let ended = subscription.next().await.unwrap_err();
        assert_eq!(ended.to_string(), ZmtpError::TooLong.to_string());
    }
}
