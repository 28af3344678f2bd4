//! Tool servers behind one door: the Model Context Protocol over streamable HTTP, in its revisions with sessions and without.
//!
//! `/mcp` shows the servers of all routes that the caller may use as one server, `/mcp/NAMESPACE/ROUTE` those of one route.
//! Names of tools and prompts begin with their server's name and a `_`, URIs of resources with it and a `+`. What is asked of
//! one server is passed on with its parameters and results as they came; only names, ids and URIs on the way are edited. The
//! credentials of clients never reach a server.

mod answer;
mod directory;
mod eras;
mod link;
mod listen;
mod lists;
mod places;
mod prices;
mod relay;
mod revision;
mod search;
mod session;

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Body as HttpBody;
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};

pub(crate) use self::directory::{Directory, ToolServers};
use self::{directory::Seat, eras::Eras, session::Session, session::Sessions};
use crate::{
    authorize::Caller,
    credential::Tokens,
    decode::read_body,
    door::{Head, METADATA, unauthorized},
    encode::Body,
    fault::Fault,
    gateway::Gateway,
    rpc::{account::Books, failure, message, stream::whole, transport},
    table::Table,
    upstream::Upstream,
};

/// Streams on which clients only listen.
const LISTENERS_MAX: usize = 4096;
/// Messages to servers that are on their way while nobody waits for them.
const TASKS_MAX: usize = 4096;

/// What all requests for tools share.
#[derive(Debug)]
pub(crate) struct Hub {
    client: Upstream,
    tokens: Arc<Tokens>,
    sessions: Sessions,
    eras: Eras,
    books: Books,
    listeners: Arc<Semaphore>,
    tasks: Mutex<JoinSet<()>>,
}

/// One request for tools: who asks, and which servers that one may use here.
#[derive(Debug)]
struct Context {
    hub: Arc<Hub>,
    caller: Caller,
    seats: Vec<Seat>,
    path: String,
    request_id: String,
    headers: HeaderMap,
    body_bytes_max: usize,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Hub {
    /// A hub without sessions.
    pub(crate) fn new(client: Upstream, tokens: Arc<Tokens>, books: Books) -> Self {
        Self {
            client,
            tokens,
            sessions: Sessions::default(),
            eras: Eras::default(),
            books,
            listeners: Arc::new(Semaphore::new(LISTENERS_MAX)),
            tasks: Mutex::default(),
        }
    }

    /// Does something that nobody waits for; left out if too much of it is in progress.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        if tasks.len() < TASKS_MAX {
            tasks.spawn(task);
        }
    }

    /// Ends the servers' sessions of sessions that have ended.
    fn close(self: &Arc<Self>, sessions: Vec<Arc<Session>>) {
        for session in sessions {
            let hub = Arc::clone(self);
            self.spawn(async move {
                for link in session.links() {
                    link.close(&hub).await;
                }
            });
        }
    }
}

/// Whether a path is one of tools'.
pub(crate) fn owns(path: &str) -> bool {
    path == "/mcp" || path.starts_with("/mcp/") || path.starts_with(METADATA)
}

/// Answers a request for tools.
///
/// # Errors
/// What the caller is told who is not let in at all.
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
    let path = head.uri.path().trim_end_matches('/');
    if path.starts_with(METADATA) {
        return Ok(places::metadata(&table, head));
    }
    let seats = places::seats(&table, path);
    if seats.is_empty() {
        return Ok(refuse(
            StatusCode::NOT_FOUND,
            "There are no tool servers here.",
        ));
    }
    let origin = match places::origin(&seats, head.headers) {
        Ok(origin) => origin,
        Err(message) => return Ok(refuse(StatusCode::FORBIDDEN, message)),
    };
    let mut response = if *head.method == Method::OPTIONS {
        places::preflight()
    } else {
        enter(
            gateway,
            &table,
            (request_id, head, body),
            (seats, path, permit),
        )
        .await
    };
    if let Some(origin) = origin {
        places::share(response.headers_mut(), origin);
    }
    Ok(response)
}

async fn enter<B>(
    gateway: &Arc<Gateway>,
    table: &Table,
    (request_id, head, body): (&str, Head<'_>, B),
    (seats, path, permit): (Vec<Seat>, &str, OwnedSemaphorePermit),
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let caller = gateway.authorize(table, head.headers);
    let issuers = places::issuers(&seats);
    let (usable, _): (Vec<Seat>, Vec<Seat>) = seats
        .into_iter()
        .partition(|seat| caller.may_use(&seat.route));
    if usable.is_empty() {
        return match &caller {
            Caller::Nobody(why) => unauthorized(&why.fault(), head, &issuers),
            Caller::Key(_) => refuse(StatusCode::NOT_FOUND, "There are no tool servers here."),
        };
    }
    let hub = Arc::clone(&gateway.mcp);
    hub.close(hub.sessions.end_idle());
    let context = Context {
        hub,
        caller,
        seats: usable,
        path: path.to_owned(),
        request_id: request_id.to_owned(),
        headers: head.headers.clone(),
        body_bytes_max: gateway.limits.body_bytes_max,
        permit: Mutex::new(Some(permit)),
    };
    match *head.method {
        Method::POST => match read_body(body, context.body_bytes_max).await {
            Ok(body) => answer::post(context, &body).await,
            Err(fault) => {
                let status = StatusCode::from_u16(fault.kind.status());
                refuse(status.unwrap_or(StatusCode::BAD_REQUEST), &fault.message)
            }
        },
        Method::GET => listen::get(context),
        Method::DELETE => end(&context),
        _ => {
            let message = "Use POST, GET or DELETE here.";
            let mut response = refuse(StatusCode::METHOD_NOT_ALLOWED, message);
            let allow = HeaderValue::from_static("POST, GET, DELETE");
            response.headers_mut().insert(header::ALLOW, allow);
            response
        }
    }
}

/// `DELETE`: the client needs its session no longer.
fn end(context: &Context) -> Response<Body> {
    let Some(id) = context.session_id() else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "There is no `Mcp-Session-Id` header.",
        );
    };
    let (hub, account) = (&context.hub, context.caller.account());
    match hub.sessions.end(id, account, &context.path) {
        Some(session) => {
            hub.close(vec![session]);
            empty(StatusCode::NO_CONTENT)
        }
        None => NoSession::Unknown.refuse(),
    }
}

impl Context {
    fn session_id(&self) -> Option<&str> {
        self.headers.get(transport::SESSION_ID)?.to_str().ok()
    }

    /// The session that the client names.
    fn session(&self) -> Result<Arc<Session>, NoSession> {
        let id = self.session_id().ok_or(NoSession::Unnamed)?;
        let session = self.hub.sessions.get(id, self.caller.account(), &self.path);
        session.ok_or(NoSession::Unknown)
    }

    /// Whether a link's server is one that the caller may use here, and what its names begin with.
    fn prefix(&self, server: &directory::Server) -> Option<&str> {
        let mut seats = self.seats.iter();
        let seat = seats.find(|seat| seat.server.id == server.id)?;
        Some(&seat.prefix)
    }

    /// The servers that may be used, by id.
    fn servers(&self) -> HashSet<&str> {
        self.seats.iter().map(|seat| &*seat.server.id).collect()
    }
}

/// Why a request is of no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoSession {
    /// It names none.
    Unnamed,
    /// It names one that does not exist, or not for this caller.
    Unknown,
}

impl NoSession {
    fn refuse(self) -> Response<Body> {
        match self {
            Self::Unnamed => {
                let message = "There is no `Mcp-Session-Id` header. Send `initialize` first.";
                refuse(StatusCode::BAD_REQUEST, message)
            }
            Self::Unknown => {
                let message = "The session does not exist or has ended. Send `initialize` again.";
                refuse(StatusCode::NOT_FOUND, message)
            }
        }
    }
}

/// An error that answers no request in particular.
fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let error = failure::error(failure::INVALID_REQUEST, message);
    let response = message::Response {
        id: "null".to_owned(),
        outcome: Err(error),
    };
    whole(status, response.encode())
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}
