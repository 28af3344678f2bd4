//! A fake upstream: answers chats at once, or in events, and says that it is healthy.

use std::{io, sync::LazyLock};

use anyhow::{Context, Result};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinSet, yield_now},
    time::{Interval, MissedTickBehavior},
};

use super::{
    http::{Chunks, Framing, Head},
    script::{EVENT_CHUNKS, Reply, STREAM_HEAD},
};

const READ_BYTES: usize = 80 << 10;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    LazyLock::force(&EVENT_CHUNKS);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted.context("accepting a connection")?;
                // Every event leaves on its own.
                stream.set_nodelay(true).context("preparing a connection")?;
                connections.spawn(converse(stream));
            }
            // A gateway may close its connections when it likes.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(READ_BYTES);
    loop {
        let Some(reply) = request(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        match reply {
            Reply::Whole(answer) => stream.write_all(answer.as_bytes()).await?,
            Reply::Events {
                interval,
                is_endless,
            } => {
                stream.write_all(STREAM_HEAD.as_bytes()).await?;
                let ticks = interval.map(|interval| {
                    let mut ticks = tokio::time::interval(interval);
                    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                    ticks
                });
                events(&mut stream, ticks, is_endless).await?;
            }
        }
    }
}

/// Reads a request; `None` when the gateway has no more.
async fn request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<Option<Reply>> {
    buffer.clear();
    let head = loop {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
        if let Some(head) = Head::parse(buffer)? {
            break head;
        }
    };
    match head.framing {
        Framing::Length(length) => {
            while buffer.len() < head.bytes + length {
                buffer.reserve(READ_BYTES);
                read(stream, buffer).await?;
            }
            Ok(Some(Reply::to(head.path(), &buffer[head.bytes..])))
        }
        Framing::Chunked => {
            let (mut chunks, mut body) = (Chunks::default(), Vec::new());
            chunks.push(&buffer[head.bytes..], &mut body)?;
            while !chunks.is_done() {
                buffer.clear();
                read(stream, buffer).await?;
                chunks.push(buffer, &mut body)?;
            }
            Ok(Some(Reply::to(head.path(), &body)))
        }
    }
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> io::Result<()> {
    if stream.read_buf(buffer).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

async fn events(stream: &mut TcpStream, ticks: Option<Interval>, is_endless: bool) -> Result<()> {
    let mut ticks = ticks;
    let count = if is_endless {
        usize::MAX
    } else {
        EVENT_CHUNKS.len()
    };
    for number in 0..count {
        match &mut ticks {
            Some(ticks) => drop(ticks.tick().await),
            // The other streams take their turns, as the sequences of an engine's batch do.
            None => yield_now().await,
        }
        let event = if is_endless {
            &EVENT_CHUNKS[number.min(1)]
        } else {
            &EVENT_CHUNKS[number]
        };
        stream.write_all(event.as_bytes()).await?;
    }
    Ok(())
}
