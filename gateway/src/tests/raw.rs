//! An upstream of bytes: each request gets what the script says, down to the last bit of its framing.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use protocol::snapshot::Target;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What a request gets.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    /// These bytes, then the end of the connection.
    Bytes(Vec<u8>),
    /// These bytes, then nothing, for ever.
    Stall(Vec<u8>),
    /// These bytes, then a reset of the connection.
    Reset(Vec<u8>),
    /// These bytes, one by one.
    Drip(Vec<u8>),
    /// The head of a stream, then this chunk so many times, counted as they leave.
    Flood {
        /// The chunk.
        chunk: Vec<u8>,
        /// How many times.
        times: usize,
        /// Bytes that left so far.
        sent: Arc<AtomicUsize>,
    },
}

/// The upstream; it stops when dropped.
pub(super) struct RawUpstream {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl RawUpstream {
    /// An upstream that gives the replies in order; the last one repeats.
    pub(super) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (replies, count) = (replies.clone(), Arc::clone(&count));
                connections.spawn(async move { serve(stream, &replies, &count).await });
            }
        });
        Self {
            address,
            asked,
            _server: server,
        }
    }

    /// How many requests came.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    pub(super) fn target(&self, name: &str) -> Target {
        Target {
            name: name.to_owned(),
            model: "raw".to_owned(),
            endpoints: vec![format!("http://{}/v1", self.address)],
            weight: 1,
            ..Target::default()
        }
    }
}

async fn serve(mut stream: TcpStream, replies: &[Reply], count: &AtomicUsize) -> Option<()> {
    read_request(&mut stream).await?;
    let place = count.fetch_add(1, Ordering::SeqCst);
    match &replies[place.min(replies.len() - 1)] {
        Reply::Bytes(bytes) => {
            stream.write_all(bytes).await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Stall(bytes) => {
            stream.write_all(bytes).await.ok()?;
            // Until the client goes away.
            while stream.read_u8().await.is_ok() {}
            Some(())
        }
        Reply::Reset(bytes) => {
            stream.write_all(bytes).await.ok()?;
            stream.set_zero_linger().ok()
        }
        Reply::Flood { chunk, times, sent } => {
            stream.write_all(STREAM_HEAD.as_bytes()).await.ok()?;
            for _ in 0..*times {
                stream.write_all(chunk).await.ok()?;
                sent.fetch_add(chunk.len(), Ordering::SeqCst);
            }
            stream.write_all(b"0\r\n\r\n").await.ok()?;
            stream.shutdown().await.ok()
        }
        Reply::Drip(bytes) => {
            stream.set_nodelay(true).ok()?;
            for byte in bytes {
                stream.write_all(&[*byte]).await.ok()?;
                tokio::task::yield_now().await;
            }
            stream.shutdown().await.ok()
        }
    }
}

/// Reads a request with a length.
async fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut seen = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.ok()?;
        if count == 0 {
            return None;
        }
        seen.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&seen);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let mut lines = head.lines().map(str::to_ascii_lowercase);
        let length = lines.find_map(|line| {
            let value = line.strip_prefix("content-length:")?;
            value.trim().parse::<usize>().ok()
        });
        if length.unwrap_or(0) <= body.len() {
            return Some(());
        }
    }
}

/// An answer with a body of this type and a length.
pub(super) fn answer(status: &str, headers: &str, content_type: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n{body}")
        .into_bytes()
}

/// A chat's whole answer.
pub(super) fn whole(text: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1,"completion_tokens":1}}}}"#
    );
    answer("200 OK", "", "application/json", &body)
}

/// The head of a stream in chunks.
pub(super) const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";

/// A chunk with this text.
pub(super) fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// A chat's stream: its role, its words, its end.
pub(super) fn stream(words: &[&str]) -> Vec<u8> {
    let event = |data: &str| chunk(&format!("data: {data}\n\n"));
    let mut text = STREAM_HEAD.to_owned();
    text.push_str(&event(
        r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
    ));
    for word in words {
        text.push_str(&event(&format!(
            r#"{{"choices":[{{"index":0,"delta":{{"content":"{word}"}}}}]}}"#
        )));
    }
    text.push_str(&event("[DONE]"));
    text.push_str("0\r\n\r\n");
    text.into_bytes()
}
