//! Passes messages between a client and an upstream, and counts what the upstream says that they used.

use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep_until, timeout};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Talk;
use crate::{
    account::{Accounting, Ending},
    call::Operation,
    provider::{Tokens, openai},
};

/// Bytes of one message: a piece of sound, or an image.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// How long neither side may say anything.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// How long a conversation may last.
const TALK_MAX: Duration = Duration::from_secs(60 * 60);
/// How long a side may take to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);

type Side = WebSocketStream<TokioIo<Upgraded>>;

/// Why a conversation ends.
#[derive(Debug)]
enum End {
    /// A side has closed it, or is gone.
    Client(Option<CloseFrame>),
    /// The upstream closed it.
    Upstream(Option<CloseFrame>),
    /// The upstream is gone, or does not keep to the rules.
    Broken,
    /// The gateway ends it, for this reason.
    Ours(CloseCode, &'static str),
}

/// Holds a conversation to its end.
pub(super) async fn relay(talk: Talk, stop: CancellationToken) {
    let Talk {
        invitation,
        upstream,
        lease,
        mut accounting,
        permit,
    } = talk;
    let Ok(client) = invitation.upgrade.await else {
        // The client is gone; the account ends as cancelled.
        return;
    };
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_BYTES_MAX);
    config.max_frame_size = Some(MESSAGE_BYTES_MAX);
    let side =
        |socket, role| WebSocketStream::from_raw_socket(TokioIo::new(socket), role, Some(config));
    let mut client = side(client, Role::Server).await;
    let mut upstream = side(upstream, Role::Client).await;
    let end = pass(&mut client, &mut upstream, &mut accounting, &stop).await;
    let ending = match &end {
        End::Broken => Ending::Failed(502),
        End::Client(_) | End::Upstream(_) | End::Ours(..) => Ending::Complete,
    };
    let frame = |code, reason: &'static str| {
        Some(CloseFrame {
            code,
            reason: reason.into(),
        })
    };
    let (to_client, to_upstream) = match end {
        End::Client(given) => (given.clone(), given),
        End::Upstream(given) => (given.clone(), given),
        End::Broken => {
            warn!(
                upstream = lease.endpoint().url(),
                "a conversation broke off"
            );
            lease.endpoint().note_failure(Instant::now());
            let reason = "the model's server ended the conversation";
            (frame(CloseCode::Error, reason), None)
        }
        End::Ours(code, reason) => (frame(code, reason), frame(CloseCode::Away, "")),
    };
    // Accounted for before the client can know that it is over.
    if let Err(error) = accounting.finish(ending).await {
        warn!(%error, "the end of a conversation is not in the ledger yet");
    }
    for (side, frame) in [(&mut client, to_client), (&mut upstream, to_upstream)] {
        // A side that is gone cannot be told.
        let _ = timeout(SEND_TIMEOUT, side.close(frame)).await;
    }
    drop(permit);
}

async fn pass(
    client: &mut Side,
    upstream: &mut Side,
    accounting: &mut Accounting,
    stop: &CancellationToken,
) -> End {
    let over = tokio::time::Instant::now() + TALK_MAX;
    let mut total = Tokens::default();
    loop {
        let idle = tokio::time::Instant::now() + IDLE_TIMEOUT;
        tokio::select! {
            () = stop.cancelled() => return End::Ours(CloseCode::Away, "the gateway ends"),
            () = sleep_until(over) => return End::Ours(CloseCode::Normal, "the conversation took its time"),
            () = sleep_until(idle) => return End::Ours(CloseCode::Normal, "nothing was said for long"),
            message = client.next() => {
                let end = match message {
                    Some(Ok(Message::Close(frame))) => End::Client(frame),
                    Some(Ok(message)) => match send(upstream, message).await {
                        Ok(()) => continue,
                        Err(()) => End::Broken,
                    },
                    Some(Err(error)) => {
                        debug!(%error, "a client does not keep to the rules of WebSockets");
                        return End::Ours(CloseCode::Protocol, "the frame cannot be read");
                    }
                    None => End::Client(None),
                };
                return end;
            }
            message = upstream.next() => match message {
                Some(Ok(Message::Close(frame))) => return End::Upstream(frame),
                Some(Ok(message)) => {
                    if let Message::Text(text) = &message
                        && let Some(used) = used(text.as_bytes())
                    {
                        total = add(total, used);
                        accounting.count(Some(total));
                    }
                    if send(client, message).await.is_err() {
                        return End::Client(None);
                    }
                }
                Some(Err(_)) | None => return End::Broken,
            },
        }
    }
}

/// What an event of the upstream's says that an answer used.
fn used(event: &[u8]) -> Option<Tokens> {
    memchr::memmem::find(event, b"\"response.done\"")?;
    openai::decode_event(event, Operation::Response).tokens
}

fn add(left: Tokens, right: Tokens) -> Tokens {
    let cached = match (left.cached, right.cached) {
        (None, None) => None,
        (left, right) => Some(left.unwrap_or(0).saturating_add(right.unwrap_or(0))),
    };
    Tokens {
        prompt: left.prompt.saturating_add(right.prompt),
        completion: left.completion.saturating_add(right.completion),
        cached,
    }
}

/// Sends a message; each side answers its own pings.
async fn send(side: &mut Side, message: Message) -> Result<(), ()> {
    if matches!(message, Message::Ping(_) | Message::Pong(_)) {
        return Ok(());
    }
    let sent = timeout(SEND_TIMEOUT, side.send(message)).await;
    sent.map_err(|_| ())?.map_err(|_| ())
}
