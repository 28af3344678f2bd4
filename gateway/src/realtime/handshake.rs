//! Handshakes of WebSockets, with the client and with the upstream.
//!
//! Source: RFC 6455, section 4.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::upgrade::OnUpgrade;
use protocol::openai::ErrorKind;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};

use super::Talks;
use crate::fault::Fault;

/// The protocol that OpenAI's clients speak.
const PROTOCOL: &str = "realtime";
/// The version of WebSockets.
const VERSION: HeaderValue = HeaderValue::from_static("13");
/// A header of OpenAI's older clients, without which their upstreams refuse.
const BETA: HeaderName = HeaderName::from_static("openai-beta");

/// The client's side of a conversation that has not begun.
#[derive(Debug)]
pub(crate) struct Invitation {
    /// The client's socket, once the answer is out.
    pub(super) upgrade: OnUpgrade,
    /// Who keeps the conversation.
    pub(super) talks: Arc<Talks>,
    accept: String,
    speaks_realtime: bool,
}

impl Invitation {
    /// What a request says.
    ///
    /// # Errors
    /// It asks for no WebSocket.
    pub(super) fn of(
        headers: &HeaderMap,
        upgrade: Option<OnUpgrade>,
        talks: &Arc<Talks>,
    ) -> Result<Self, Fault> {
        let says = |name: HeaderName, word: &str| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            let mut words = value.unwrap_or_default().split(',');
            words.any(|said| said.trim().eq_ignore_ascii_case(word))
        };
        let is_asked = says(header::UPGRADE, "websocket")
            && says(header::CONNECTION, "upgrade")
            && headers.get(header::SEC_WEBSOCKET_VERSION) == Some(&VERSION);
        let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_asked);
        let (Some(key), Some(upgrade)) = (key, upgrade) else {
            let message = "This path takes WebSockets only, of version 13 over HTTP/1.1.";
            return Err(Fault::new(ErrorKind::InvalidRequest, message));
        };
        Ok(Self {
            upgrade,
            talks: Arc::clone(talks),
            accept: derive_accept_key(key.as_bytes()),
            speaks_realtime: protocols(headers).iter().any(|name| name == PROTOCOL),
        })
    }

    /// Adds what the client's side waits for.
    pub(super) fn answer(&self, headers: &mut HeaderMap) {
        // Base64 is text.
        if let Ok(accept) = HeaderValue::from_str(&self.accept) {
            headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
        }
        if self.speaks_realtime {
            let protocol = HeaderValue::from_static(PROTOCOL);
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
        }
    }
}

/// The protocols that a client offers.
pub(super) fn protocols(headers: &HeaderMap) -> Vec<String> {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let offered = offered.filter_map(|value| value.to_str().ok());
    let names = offered.flat_map(|value| value.split(','));
    names.map(|name| name.trim().to_owned()).collect()
}

/// Adds what asks an upstream for a WebSocket; what it must accept with.
pub(crate) fn opening(client: &HeaderMap, headers: &mut HeaderMap) -> String {
    let key = generate_key();
    headers.remove(header::CONTENT_TYPE);
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_VERSION, VERSION);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(header::SEC_WEBSOCKET_KEY, key);
    }
    if let Some(beta) = client.get(&BETA) {
        headers.insert(BETA, beta.clone());
    }
    derive_accept_key(key.as_bytes())
}
