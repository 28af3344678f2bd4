//! Agents behind one door: the Agent2Agent protocol's JSON-RPC binding, in its revisions 0.3 and 1.0.
//!
//! `/a2a/NAMESPACE/ROUTE/NAME` is an agent as clients of the gateway see it: its card shows our addresses, its requests are
//! passed on with the gateway's credential, and what it answers passes as it came. Requests go only to addresses of the
//! agent's own origin, whatever its card says.

mod agents;
mod call;
mod card;
mod tasks;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Uri, header};
use hyper::body::Body as HttpBody;
use parking_lot::Mutex;
use protocol::openai::ErrorKind;
use tracing::warn;

pub(crate) use self::agents::Agents;
use self::{
    agents::Agent,
    call::Asked,
    card::{Card, Door, rewrite},
    tasks::Tasks,
};
use crate::{
    authorize::Caller,
    credential::Tokens,
    decode::read_body,
    door::{Head, base_url, unauthorized},
    encode::{self, Body},
    fault::Fault,
    gateway::Gateway,
    rpc::{
        account::Books,
        failure::Failure,
        transport::{self, Answer},
    },
    table::{Access, Route, Table},
    upstream::Upstream,
};

/// Where a card lies below an agent's URL, and where it lay before.
const CARDS: [&str; 2] = [".well-known/agent-card.json", ".well-known/agent.json"];
/// How long a card is believed.
const CARD_AGE_MAX: Duration = Duration::from_secs(60);
/// Cards that are kept.
const CARDS_MAX: usize = 4096;

/// What all requests for agents share.
#[derive(Debug)]
pub(crate) struct Desk {
    client: Upstream,
    tokens: Arc<Tokens>,
    books: Books,
    tasks: Tasks,
    /// The texts of cards, by the URLs of agents.
    cards: Mutex<HashMap<String, (Instant, Arc<str>)>>,
}

/// What a path names.
struct Place<'a> {
    route: Arc<Route>,
    agent: Arc<Agent>,
    rest: &'a str,
}

impl Desk {
    /// A desk that knows no cards.
    pub(crate) fn new(client: Upstream, tokens: Arc<Tokens>, books: Books) -> Self {
        Self {
            client,
            tokens,
            books,
            tasks: Tasks::default(),
            cards: Mutex::default(),
        }
    }

    /// The card of an agent, and where its interfaces are.
    async fn card(&self, agent: &Agent, door: Door<'_>) -> Result<Card, Failure> {
        let url = agent.uri.to_string();
        let known = self.cards.lock().get(&url).cloned();
        let known = known.filter(|(since, _)| since.elapsed() < CARD_AGE_MAX);
        let text = match known {
            Some((_, text)) => text,
            None => {
                let text: Arc<str> = self.fetch_card(agent).await?.into();
                let mut cards = self.cards.lock();
                if CARDS_MAX <= cards.len() {
                    cards.clear();
                }
                cards.insert(url, (Instant::now(), Arc::clone(&text)));
                text
            }
        };
        rewrite(agent, &text, door).ok_or(Failure::Garbage("a card without an address of its own"))
    }

    async fn fetch_card(&self, agent: &Agent) -> Result<String, Failure> {
        let base = agent.uri.to_string();
        let url = format!("{}/{}", base.trim_end_matches('/'), CARDS[0]);
        let uri: Uri = url.parse().map_err(|_| Failure::Garbage("no URL"))?;
        match self
            .exchange(agent, &uri, Method::GET, HeaderMap::new(), None)
            .await?
        {
            (Answer::Whole(text), _) => Ok(text),
            _ => Err(Failure::Garbage("a card that is no JSON")),
        }
    }

    /// Sends one request with the gateway's credential.
    async fn exchange(
        &self,
        agent: &Agent,
        uri: &Uri,
        method: Method,
        mut headers: HeaderMap,
        body: Option<String>,
    ) -> Result<(Answer, HeaderMap), Failure> {
        headers.insert(header::ACCEPT, transport::ACCEPTED);
        let mut is_again = false;
        loop {
            let mut headers = headers.clone();
            let shown = self
                .tokens
                .show(&self.client, &agent.auth, &mut headers)
                .await;
            shown.map_err(|error| Failure::Token(error.to_string()))?;
            let (method, body) = (method.clone(), body.clone());
            let sent = transport::exchange(&self.client, uri, method, headers, body, agent.timeout);
            match sent.await {
                Err(Failure::Status(StatusCode::UNAUTHORIZED))
                    if agent.auth.is_fetched() && !is_again =>
                {
                    self.tokens.forget(&agent.auth);
                    is_again = true;
                }
                answered => return answered.map(|answered| (answered.answer, answered.headers)),
            }
        }
    }
}

/// Whether a path is one of agents'.
pub(crate) fn owns(path: &str) -> bool {
    path.starts_with("/a2a/")
}

/// Answers a request for an agent.
///
/// # Errors
/// What the caller is told in place of the agent's card, or who is not let in.
pub(crate) async fn handle<B>(
    gateway: &Arc<Gateway>,
    request_id: &str,
    head: Head<'_>,
    body: B,
) -> Result<Response<Body>, Fault>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let permit = gateway.admit()?;
    let table = gateway.table()?;
    let none = || Fault::new(ErrorKind::NotFound, "There is no such agent here.");
    let place = place(&table, head.uri.path()).ok_or_else(none)?;
    let caller = gateway.authorize(&table, head.headers);
    if !caller.may_use(&place.route) {
        return match &caller {
            Caller::Nobody(why) => Ok(unauthorized(&why.fault(), head, &[])),
            Caller::Key(_) => Err(none()),
        };
    }
    let Place { route, agent, rest } = place;
    let base = base_url(head).unwrap_or_default();
    let url = format!("{base}/a2a/{}", agent.id);
    let door = Door {
        url: &url,
        is_open: matches!(route.access, Access::Open),
    };
    let desk = Arc::clone(&gateway.a2a);
    let found = desk.card(&agent, door).await;
    let found = found.map_err(|failure| {
        warn!(
            agent = agent.id,
            error = failure.describe(),
            "an agent shows no card"
        );
        let message = failure.message("agent", &agent.name);
        Fault::new(ErrorKind::UpstreamFailed, message)
    });
    if CARDS.contains(&rest) {
        allow(head.method, &Method::GET, "GET")?;
        return Ok(encode::json(StatusCode::OK, &found?.shown));
    }
    let number = match rest {
        "" => 0,
        rest => {
            let number = rest
                .strip_prefix("interfaces/")
                .and_then(|rest| rest.parse().ok());
            number.ok_or_else(none)?
        }
    };
    allow(head.method, &Method::POST, "POST")?;
    let found = found?;
    let uri = found.interfaces.get(number).cloned().ok_or_else(none)?;
    let body = read_body(body, gateway.limits.body_bytes_max).await?;
    let asked = Asked {
        desk,
        route,
        agent,
        uri,
        caller,
        request_id: request_id.to_owned(),
        headers: passed(head.headers),
        url: url.clone(),
        _permit: permit,
    };
    Ok(call::call(asked, &body).await)
}

/// The agent that a path names.
fn place<'a>(table: &Table, path: &'a str) -> Option<Place<'a>> {
    let mut parts = path.strip_prefix("/a2a/")?.splitn(4, '/');
    let (namespace, route, name) = (parts.next()?, parts.next()?, parts.next()?);
    let rest = parts.next().unwrap_or_default();
    let route = table
        .tools
        .route(&format!("{namespace}/{route}"), |route| {
            route
                .a2a
                .as_ref()
                .is_some_and(|agents| agents.get(name).is_some())
        })?;
    let agent = Arc::clone(route.a2a.as_ref()?.get(name)?);
    Some(Place { route, agent, rest })
}

/// The headers of a request that are the protocol's own.
fn passed(headers: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    for name in ["a2a-version", "a2a-extensions", "x-a2a-extensions"] {
        if let Some(value) = headers.get(name) {
            passed.insert(name, HeaderValue::clone(value));
        }
    }
    passed
}

fn allow(method: &Method, allowed: &Method, name: &'static str) -> Result<(), Fault> {
    if method == allowed {
        return Ok(());
    }
    let message = format!("Use {name} here, not {method}.");
    Err(Fault {
        allow: Some(name),
        ..Fault::new(ErrorKind::MethodNotAllowed, message)
    })
}
