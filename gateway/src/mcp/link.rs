//! A session's connection to one tool server: opened when it is first needed, by the server's revision of the protocol, and
//! opened again once when the server has lost it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::Value;
use tracing::debug;

use super::{
    Hub,
    directory::Server,
    failure::{Failure, UNSUPPORTED_VERSION},
    message::{self, Object, quoted},
    revision::Revision,
    session::Client,
    transport::{self, Answer, Answered},
};

/// The field of `_meta` with the revision.
pub(super) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// The field of `_meta` with the client's name.
pub(super) const META_CLIENT: &str = "io.modelcontextprotocol/clientInfo";
/// The field of `_meta` with what the client can.
pub(super) const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A connection to one tool server.
#[derive(Debug)]
pub(super) struct Link {
    /// The server.
    pub(super) server: Arc<Server>,
    client: Arc<Client>,
    /// Whoever finds it closed opens it while the others wait.
    opened: tokio::sync::Mutex<Option<Arc<Opened>>>,
    last_id: AtomicU64,
}

/// What is known of an open connection.
#[derive(Debug)]
pub(super) struct Opened {
    /// The revision that is spoken.
    pub(super) revision: Revision,
    /// The server's session.
    session: Option<HeaderValue>,
    capabilities: Value,
}

/// What is asked of a server.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// The method.
    pub(super) method: String,
    /// The parameters' text.
    pub(super) params: Option<String>,
    /// The name of a tool or prompt, or the URI of a resource.
    pub(super) name: Option<String>,
    /// Headers of the client's that repeat arguments.
    pub(super) headers: HeaderMap,
}

impl Opened {
    /// Whether the server has said that it can this, as `resources`.
    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities.get(capability).is_some()
    }
}

impl Link {
    /// A connection that is not open yet.
    pub(super) fn new(server: Arc<Server>, client: Arc<Client>) -> Self {
        Self {
            server,
            client,
            opened: tokio::sync::Mutex::default(),
            last_id: AtomicU64::new(0),
        }
    }

    /// An id that no other request of this connection has.
    pub(super) fn fresh_id(&self) -> String {
        (self.last_id.fetch_add(1, Ordering::Relaxed) + 1).to_string()
    }

    /// Opens the connection if it is not open.
    ///
    /// # Errors
    /// [`Failure`] of the handshake.
    pub(super) async fn open(&self, hub: &Hub) -> Result<Arc<Opened>, Failure> {
        let mut held = self.opened.lock().await;
        if let Some(opened) = held.as_ref() {
            return Ok(Arc::clone(opened));
        }
        let opened = match hub.eras.get(&self.server) {
            Some(Era::Stateless(opened)) => opened,
            Some(Era::Sessions) => self.initialize(hub).await?,
            None => match self.discover(hub).await? {
                Some(opened) => {
                    hub.eras
                        .set(&self.server, Era::Stateless(Arc::clone(&opened)));
                    opened
                }
                None => {
                    let opened = self.initialize(hub).await?;
                    hub.eras.set(&self.server, Era::Sessions);
                    opened
                }
            },
        };
        *held = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The connection if it is open now.
    pub(super) fn if_open(&self) -> Option<Arc<Opened>> {
        self.opened.try_lock().ok()?.clone()
    }

    async fn forget(&self, lost: &Arc<Opened>) {
        let mut held = self.opened.lock().await;
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, lost)) {
            *held = None;
        }
    }

    /// Asks a server of today's revision what it can; nothing if it is of an earlier one.
    async fn discover(&self, hub: &Hub) -> Result<Option<Arc<Opened>>, Failure> {
        let id = self.fresh_id();
        let ask = Ask {
            method: "server/discover".to_owned(),
            ..Ask::default()
        };
        let opened = Opened {
            revision: Revision::NEWEST,
            session: None,
            capabilities: Value::Null,
        };
        let answered = match self.post(hub, &opened, &id, &ask).await {
            Ok(answered) => answered,
            // A server of an earlier revision refuses in whatever way; one that cannot be reached says nothing of itself.
            Err(Failure::Status(status)) if status.is_client_error() && !is_refusal(status) => {
                return Ok(None);
            }
            Err(Failure::Garbage(_)) => return Ok(None),
            Err(failure) => return Err(failure),
        };
        let Ok(response) = answered.answer.response(&id).await else {
            return Ok(None);
        };
        let result: Value = match &response.outcome {
            Ok(result) => serde_json::from_str(result).unwrap_or_default(),
            Err(error) => {
                let error: Value = serde_json::from_str(error).unwrap_or_default();
                let supported = error.pointer("/data/supported").and_then(Value::as_array);
                let speaks_earlier = supported.is_some_and(|supported| {
                    let mut names = supported.iter().filter_map(Value::as_str);
                    names.any(super::revision::begins_with_handshake)
                });
                return if error.get("code") == Some(&UNSUPPORTED_VERSION.into()) && !speaks_earlier
                {
                    Err(Failure::Garbage("no revision of the protocol in common"))
                } else {
                    Ok(None)
                };
            }
        };
        let supported = result.get("supportedVersions").and_then(Value::as_array);
        let is_ours = |version: &Value| version.as_str() == Some(Revision::NEWEST.name());
        if !supported.is_some_and(|supported| supported.iter().any(is_ours)) {
            return Ok(None);
        }
        Ok(Some(Arc::new(Opened {
            capabilities: result.get("capabilities").cloned().unwrap_or_default(),
            ..opened
        })))
    }

    /// The handshake of earlier revisions.
    async fn initialize(&self, hub: &Hub) -> Result<Arc<Opened>, Failure> {
        let wanted = self.client.revision.min(Revision::NEWEST_WITH_SESSIONS);
        let params = format!(
            r#"{{"protocolVersion":{},"capabilities":{},"clientInfo":{}}}"#,
            quoted(wanted.name()),
            self.client.capabilities_with_sessions(),
            self.client.info,
        );
        let id = self.fresh_id();
        let ask = Ask {
            method: "initialize".to_owned(),
            params: Some(params),
            ..Ask::default()
        };
        let before = Opened {
            revision: wanted,
            session: None,
            capabilities: Value::Null,
        };
        let Answered {
            answer, headers, ..
        } = self.post(hub, &before, &id, &ask).await?;
        let response = answer.response(&id).await?;
        let result = response.outcome.map_err(Failure::Refused)?;
        let result: Value =
            serde_json::from_str(&result).map_err(|_| Failure::Garbage("no handshake"))?;
        let agreed = result.get("protocolVersion").and_then(Value::as_str);
        let revision = agreed
            .and_then(Revision::of)
            .filter(|revision| !revision.is_stateless())
            .ok_or(Failure::Garbage("no revision of the protocol in common"))?;
        let opened = Arc::new(Opened {
            revision,
            session: headers.get(transport::SESSION_ID).cloned(),
            capabilities: result.get("capabilities").cloned().unwrap_or_default(),
        });
        let initialized = message::notification("notifications/initialized", None);
        self.send(hub, &opened, HeaderMap::new(), initialized)
            .await?;
        let level = self.client.log_level.lock().clone();
        if let Some(level) = level.filter(|_| opened.can("logging")) {
            let text = message::request(&self.fresh_id(), "logging/setLevel", Some(&level));
            self.send(hub, &opened, HeaderMap::new(), text).await?;
        }
        Ok(opened)
    }

    /// Asks the server something; opens the connection first if need be, and once again if the server has lost it.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) async fn ask(&self, hub: &Hub, id: &str, ask: &Ask) -> Result<Answer, Failure> {
        let mut is_again = false;
        loop {
            let opened = self
                .open(hub)
                .await
                .inspect_err(|_| hub.eras.forget(&self.server))?;
            match self.post(hub, &opened, id, ask).await {
                Err(Failure::SessionLost) if !is_again => self.forget(&opened).await,
                Err(failure) => {
                    if opened.revision.is_stateless() {
                        // Perhaps another server is there now; the next who comes finds out.
                        hub.eras.forget(&self.server);
                        self.forget(&opened).await;
                    }
                    return Err(failure);
                }
                Ok(answered) => return Ok(answered.answer),
            }
            is_again = true;
        }
    }

    /// Tells the server something, or answers it, if the connection is open.
    pub(super) async fn tell(&self, hub: &Hub, text: String) {
        let Some(opened) = self.if_open() else { return };
        if let Err(failure) = self.send(hub, &opened, HeaderMap::new(), text).await {
            debug!(
                server = self.server.id,
                error = failure.describe(),
                "a tool server was not told"
            );
        }
    }

    /// Ends the server's session, if there is one.
    pub(super) async fn close(&self, hub: &Hub) {
        let Some(opened) = self.opened.lock().await.take() else {
            return;
        };
        if opened.session.is_some() {
            let ended = self.exchange(hub, &opened, Method::DELETE, HeaderMap::new(), None);
            if let Err(failure) = ended.await {
                debug!(
                    server = self.server.id,
                    error = failure.describe(),
                    "a session was not ended"
                );
            }
        }
    }

    /// Opens the stream on which a server with sessions speaks by itself.
    ///
    /// # Errors
    /// [`Failure`]; [`Failure::Status`] of 405 if the server has none.
    pub(super) async fn listen(&self, hub: &Hub, opened: &Arc<Opened>) -> Result<Answer, Failure> {
        let answered = self.exchange(hub, opened, Method::GET, HeaderMap::new(), None);
        match answered.await {
            Err(Failure::SessionLost) => {
                self.forget(opened).await;
                Err(Failure::SessionLost)
            }
            answered => answered.map(|answered| answered.answer),
        }
    }

    async fn post(
        &self,
        hub: &Hub,
        opened: &Opened,
        id: &str,
        ask: &Ask,
    ) -> Result<Answered, Failure> {
        let mut headers = HeaderMap::new();
        let mut params = ask.params.clone();
        if opened.revision.is_stateless() {
            headers.extend(ask.headers.clone());
            if let Ok(method) = HeaderValue::from_str(&ask.method) {
                headers.insert(transport::METHOD, method);
            }
            if let Some(name) = ask.name.as_deref().and_then(encoded) {
                headers.insert(transport::NAME, name);
            }
            params = Some(self.with_meta(params.as_deref().unwrap_or("{}"))?);
        }
        let text = message::request(id, &ask.method, params.as_deref());
        self.send(hub, opened, headers, text).await
    }

    /// Parameters that say which revision is spoken and what the client can. Where the client did not say so in this revision,
    /// it is nothing that a server would have to ask it for, since such a client does not know how it is asked.
    fn with_meta(&self, params: &str) -> Result<String, Failure> {
        let invalid = |_| Failure::Garbage("parameters that are no object");
        let params = Object::parse(params).map_err(invalid)?;
        let mut meta = params.get("_meta").unwrap_or("{}").to_owned();
        if Object::parse(&meta)
            .map_err(invalid)?
            .get(META_VERSION)
            .is_none()
        {
            for (name, value) in [
                (META_CAPABILITIES, "{}"),
                (META_CLIENT, &*self.client.info),
                (META_VERSION, &*quoted(Revision::NEWEST.name())),
            ] {
                meta = Object::parse(&meta).map_err(invalid)?.with(name, value);
            }
        }
        Ok(params.with("_meta", &meta))
    }

    async fn send(
        &self,
        hub: &Hub,
        opened: &Opened,
        headers: HeaderMap,
        text: String,
    ) -> Result<Answered, Failure> {
        self.exchange(hub, opened, Method::POST, headers, Some(text))
            .await
    }

    async fn exchange(
        &self,
        hub: &Hub,
        opened: &Opened,
        method: Method,
        more: HeaderMap,
        body: Option<String>,
    ) -> Result<Answered, Failure> {
        let mut headers = transport::headers(opened.revision.name());
        headers.extend(more);
        if let Some(session) = &opened.session {
            headers.insert(transport::SESSION_ID, session.clone());
        }
        let Server {
            uri, timeout, auth, ..
        } = &*self.server;
        let mut is_again = false;
        let answered = loop {
            let mut headers = headers.clone();
            let shown = hub.tokens.show(&hub.client, auth, &mut headers).await;
            shown.map_err(|error| Failure::Token(error.to_string()))?;
            let (method, body) = (method.clone(), body.clone());
            let sent = transport::exchange(&hub.client, uri, method, headers, body, *timeout);
            let answered = sent.await;
            let refused = Failure::Status(StatusCode::UNAUTHORIZED);
            if answered.as_ref().err() != Some(&refused) || is_again || !auth.is_fetched() {
                break answered;
            }
            // The token may have been taken back before its time.
            hub.tokens.forget(auth);
            is_again = true;
        };
        let is_lost = match &answered {
            Ok(answered) => answered.status == StatusCode::NOT_FOUND,
            Err(failure) => *failure == Failure::Status(StatusCode::NOT_FOUND),
        };
        if is_lost && opened.session.is_some() {
            return Err(Failure::SessionLost);
        }
        answered
    }
}

/// Whether a status says that the gateway may not ask at all, whatever the revision.
fn is_refusal(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
    )
}

/// A name as a header carries it.
fn encoded(name: &str) -> Option<HeaderValue> {
    let is_plain = name.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && name.trim_ascii() == name
        && !(name.starts_with("=?base64?") && name.ends_with("?="));
    if is_plain {
        return HeaderValue::from_str(name).ok();
    }
    HeaderValue::from_str(&format!("=?base64?{}?=", BASE64_STANDARD.encode(name))).ok()
}

/// A name from a header.
pub(super) fn decoded(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let inner = text
        .strip_prefix("=?base64?")
        .and_then(|text| text.strip_suffix("?="));
    match inner {
        Some(inner) => String::from_utf8(BASE64_STANDARD.decode(inner).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

/// Which kind of revision a server speaks.
#[derive(Debug, Clone)]
pub(super) enum Era {
    /// One with sessions.
    Sessions,
    /// One without, and what the server can.
    Stateless(Arc<Opened>),
}
