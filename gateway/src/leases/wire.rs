//! The way to other replicas: one small HTTP request and its answer.

use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use jiff::Timestamp;
use parking_lot::RwLock;
use protocol::snapshot::{Peer, Peers};

use super::{
    door::PATH,
    fleet::{Outside, Unreachable},
    message::{Answer, Letter},
};
use crate::upstream::{self, Upstream};

/// Bytes of an answer: what a replica knows of all pools.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The system's clock, and HTTP to the peers.
pub(crate) struct Http {
    client: Upstream,
    /// What is shown to peers.
    token: RwLock<Option<HeaderValue>>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            client: upstream::client(),
            token: RwLock::default(),
        }
    }
}

impl Outside for Http {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        letter: &'a Letter,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        Box::pin(async move {
            let answered = tokio::time::timeout(limit, self.send(peer, letter)).await;
            answered.ok().flatten().ok_or(Unreachable)
        })
    }

    fn pause(&self, longest: Duration) -> BoxFuture<'_, ()> {
        let time = longest.mul_f64(rand::random::<f64>());
        Box::pin(tokio::time::sleep(time))
    }

    fn trust(&self, peers: &Peers) {
        let token = format!("Bearer {}", peers.token.expose());
        let token = HeaderValue::from_str(&token).ok().map(|mut token| {
            token.set_sensitive(true);
            token
        });
        *self.token.write() = token;
    }
}

impl Http {
    async fn send(&self, peer: &Peer, letter: &Letter) -> Option<Answer> {
        let token = self.token.read().clone()?;
        let body = serde_json::to_vec(letter).ok()?;
        let request = Request::post(format!("{}{PATH}", peer.url.trim_end_matches('/')))
            .header(header::AUTHORIZATION, token)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .ok()?;
        let response = self.client.request(request).await.ok()?;
        if response.status() != StatusCode::OK {
            tracing::warn!(
                peer = peer.name,
                status = response.status().as_u16(),
                "a replica of the gateway refuses to talk"
            );
            return None;
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.ok()?.to_bytes();
        serde_json::from_slice(&body).ok()
    }
}
