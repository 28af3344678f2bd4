//! Realtime: conversations over WebSockets, whose frames pass in both directions while what they use is counted.
//!
//! The client's socket is taken over only when an upstream has agreed: until then it gets errors as any request does.

mod handshake;
mod relay;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::{OnUpgrade, Upgraded};
use protocol::openai::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::handshake::{Invitation, opening};
use crate::{account::Accounting, encode::Body, endpoint::Lease, fault::Fault};

/// The conversations that are held.
#[derive(Debug, Default)]
pub(crate) struct Talks {
    tracker: TaskTracker,
    stop: CancellationToken,
}

impl Talks {
    /// Ends all conversations, and waits until they have.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// A conversation that an upstream has agreed to.
#[derive(Debug)]
pub(crate) struct Talk {
    /// The client's side.
    pub(crate) invitation: Invitation,
    /// The upstream's side.
    pub(crate) upstream: Upgraded,
    /// The place at the endpoint.
    pub(crate) lease: Lease,
    /// The account of the request.
    pub(crate) accounting: Accounting,
    /// The request's place in the gateway.
    pub(crate) permit: OwnedSemaphorePermit,
}

/// The answer that takes the client's socket over.
pub(crate) fn accept(talk: Talk) -> Response<Body> {
    let body = Empty::new().map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    talk.invitation.answer(headers);
    let talks = Arc::clone(&talk.invitation.talks);
    talks.tracker.spawn(relay::relay(talk, talks.stop.clone()));
    response
}

/// What a client asks a conversation of, by its URL.
///
/// # Errors
/// It names no model.
pub(crate) fn model(uri: &Uri) -> Result<String, Fault> {
    let query = uri.query().unwrap_or_default().as_bytes();
    let mut parameters = url::form_urlencoded::parse(query);
    let found = parameters.find(|(name, _)| matches!(name.as_ref(), "model" | "deployment"));
    let named = found.map(|(_, model)| model.into_owned());
    named.filter(|model| !model.is_empty()).ok_or_else(|| {
        let message = "The parameter `model` is missing in the URL.";
        Fault::of(ErrorKind::InvalidRequest, "model", message)
    })
}

/// The client's headers, with the key that browsers send among the protocols, since they can send no headers.
pub(crate) fn with_key(mut headers: HeaderMap) -> HeaderMap {
    const IN_PROTOCOL: &str = "openai-insecure-api-key.";
    const KEYS: [HeaderName; 3] = [
        header::AUTHORIZATION,
        HeaderName::from_static("x-api-key"),
        HeaderName::from_static("api-key"),
    ];
    if KEYS.iter().any(|name| headers.contains_key(name)) {
        return headers;
    }
    let offered = handshake::protocols(&headers);
    let key = offered
        .iter()
        .find_map(|name| name.strip_prefix(IN_PROTOCOL));
    let value = key.and_then(|key| HeaderValue::from_str(&format!("Bearer {key}")).ok());
    if let Some(mut value) = value {
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers
}

/// What is left to do for the client's side once the upstream agrees.
pub(crate) fn invitation(
    headers: &HeaderMap,
    upgrade: Option<OnUpgrade>,
    talks: &Arc<Talks>,
) -> Result<Invitation, Fault> {
    Invitation::of(headers, upgrade, talks)
}
