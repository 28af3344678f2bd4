//! `POST`: reads the message, tells by its revision how it is to be taken, and sends it where it belongs.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response as HttpResponse, StatusCode, header};
use serde_json::value::RawValue;

use super::{
    Context, NoSession,
    directory::Seat,
    empty,
    failure::{
        self, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, LIMIT_REACHED, METHOD_NOT_FOUND,
        PARSE_ERROR, UNSUPPORTED_VERSION,
    },
    link::{self, Ask, META_CAPABILITIES, META_VERSION},
    listen,
    lists::{self, Kind},
    message::{InvalidMessage, Message, Object, Request, Response, quoted},
    refuse,
    relay::{Outcome, cancelled, relay},
    revision::Revision,
    search::{self, Taken},
    session::{Client, Session},
    transport,
};
use crate::{
    call::{Operation, request_id},
    encode::Body,
    rpc::{
        account::{CallAccount, Opening},
        stream::whole,
    },
};

/// The content type of answers that are no streams.
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Messages in one request, in the revision that allows several.
const BATCH_MAX: usize = 64;

/// What the gateway can, for clients with sessions.
const CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{},"logging":{}}"#;
/// What the gateway can, for clients without.
const STATELESS_CAPABILITIES: &str = r#"{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true},"completions":{}}"#;
/// The gateway's name.
const INFO: &str = concat!(
    r#"{"name":"quarterdeck","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#""}"#
);

/// Answers a `POST`.
pub(super) async fn post(context: Context, body: &Bytes) -> HttpResponse<Body> {
    if !accepts_both(&context) {
        let message = "Accept both `application/json` and `text/event-stream`.";
        return refuse(StatusCode::NOT_ACCEPTABLE, message);
    }
    let Ok(text) = std::str::from_utf8(body) else {
        return invalid(InvalidMessage::Syntax);
    };
    if text.trim_ascii_start().starts_with('[') {
        return batch(&context, text).await;
    }
    let message = match Message::parse(text) {
        Ok(message) => message,
        Err(fault) => return invalid(fault),
    };
    match message {
        Message::Request(request) => match revision(&context, &request) {
            Err((status, error)) => to(&request.id, status, Err(error)),
            Ok(Some(client)) => {
                let account = context.caller.account();
                let sessions = &context.hub.sessions;
                let is_nobodys = account.is_empty();
                let session = sessions.shared(account, &context.path, client);
                let (hub, own) = (Arc::clone(&context.hub), Arc::clone(&session));
                let response = respond(context, session, request).await;
                if is_nobodys && response.headers().get(header::CONTENT_TYPE) == Some(&JSON) {
                    // Nobody comes back to it: callers without a key share nothing.
                    hub.close(vec![own]);
                }
                response
            }
            Ok(None) if request.method == "initialize" => initialize(&context, &request),
            Ok(None) => match context.session() {
                Ok(session) => respond(context, session, request).await,
                Err(none) => none.refuse(),
            },
        },
        Message::Notification { method, params } => match context.session() {
            Ok(session) => {
                notify(&context, &session, &method, params.as_deref());
                empty(StatusCode::ACCEPTED)
            }
            // Today's revision has no notifications of clients that mean anything here.
            Err(NoSession::Unnamed) => empty(StatusCode::ACCEPTED),
            Err(none) => none.refuse(),
        },
        Message::Response(response) => match context.session() {
            Ok(session) => take_answer(&context, &session, response),
            Err(none) => none.refuse(),
        },
    }
}

fn accepts_both(context: &Context) -> bool {
    let mut accepted = context.headers.get_all(header::ACCEPT).iter().peekable();
    if accepted.peek().is_none() {
        return true;
    }
    let ranges: Vec<String> = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| {
            let range = range.split(';').next().unwrap_or_default();
            range.trim().to_ascii_lowercase()
        })
        .collect();
    let has = |kinds: [&str; 2]| {
        let all = ["*/*", kinds[0], kinds[1]];
        ranges.iter().any(|range| all.contains(&range.as_str()))
    };
    has(["application/json", "application/*"]) && has(["text/event-stream", "text/*"])
}

fn invalid(fault: InvalidMessage) -> HttpResponse<Body> {
    let error = match fault {
        InvalidMessage::Syntax => failure::error(PARSE_ERROR, "The body is no JSON."),
        InvalidMessage::Shape => {
            failure::error(INVALID_REQUEST, "The body is no message of JSON-RPC 2.0.")
        }
    };
    to("null", StatusCode::BAD_REQUEST, Err(error))
}

fn to(id: &str, status: StatusCode, outcome: Result<String, String>) -> HttpResponse<Body> {
    let id = id.to_owned();
    whole(status, Response { id, outcome }.encode())
}

/// The client as it shows itself with each request of today's revision; none if the request is of an earlier one.
fn revision(context: &Context, request: &Request) -> Result<Option<Client>, (StatusCode, String)> {
    let bad = |error: String| (StatusCode::BAD_REQUEST, error);
    let header = context.headers.get(transport::PROTOCOL_VERSION);
    let header = header.map(|value| value.to_str().unwrap_or_default());
    let params = request.params.as_deref().unwrap_or("{}");
    let params = Object::parse(params).map_err(|_| {
        bad(failure::error(
            INVALID_PARAMS,
            "The parameters are no object, or name a field twice.",
        ))
    })?;
    let meta = params
        .get("_meta")
        .and_then(|meta| Object::parse(meta).ok());
    let said = meta.as_ref().and_then(|meta| meta.string(META_VERSION));
    let named = said.as_deref().or(header);
    if let Some(name) = named
        && Revision::of(name).is_none()
        && request.method != "initialize"
    {
        let supported = Revision::ALL.map(|revision| quoted(revision.name()));
        let data = format!(
            r#"{{"supported":[{}],"requested":{}}}"#,
            supported.join(","),
            quoted(name)
        );
        let message = "Unsupported protocol version";
        return Err(bad(failure::error_with(
            UNSUPPORTED_VERSION,
            message,
            &data,
        )));
    }
    let is_stateless = |name: &str| Revision::of(name).is_some_and(Revision::is_stateless);
    if !named.is_some_and(is_stateless) {
        return Ok(None);
    }
    let mismatch = |what: &str| {
        let message = format!("The header `{what}` is missing or does not say what the body says.");
        bad(failure::error(HEADER_MISMATCH, &message))
    };
    if said.as_deref() != header {
        return Err(mismatch("MCP-Protocol-Version"));
    }
    let method = context.headers.get(transport::METHOD);
    if method.is_none_or(|method| method.as_bytes() != request.method.as_bytes()) {
        return Err(mismatch("Mcp-Method"));
    }
    let name = match request.method.as_str() {
        "tools/call" | "prompts/get" => params.string("name"),
        "resources/read" => params.string("uri"),
        _ => None,
    };
    if name.is_some() && context.headers.get(transport::NAME).and_then(link::decoded) != name {
        return Err(mismatch("Mcp-Name"));
    }
    let capabilities = meta.as_ref().and_then(|meta| meta.get(META_CAPABILITIES));
    if capabilities.is_none() {
        let message = format!("The field `{META_CAPABILITIES}` of `_meta` is missing.");
        return Err(bad(failure::error(INVALID_PARAMS, &message)));
    }
    Ok(Some(Client {
        revision: Revision::NEWEST,
        // Requests of many clients share connections to servers with sessions: they see the gateway.
        capabilities: "{}".to_owned(),
        info: INFO.to_owned(),
        log_level: parking_lot::Mutex::default(),
    }))
}

/// The handshake of earlier revisions.
fn initialize(context: &Context, request: &Request) -> HttpResponse<Body> {
    let params = request.params.as_deref().unwrap_or("{}");
    let params = Object::parse(params).ok();
    let field = |name: &str| {
        let value = params.as_ref().and_then(|params| params.get(name));
        value
            .filter(|value| value.starts_with('{'))
            .map(str::to_owned)
    };
    let (Some(capabilities), Some(info)) = (field("capabilities"), field("clientInfo")) else {
        let message = "`initialize` needs `capabilities` and `clientInfo`.";
        let error = failure::error(INVALID_PARAMS, message);
        return to(&request.id, StatusCode::OK, Err(error));
    };
    let wanted = params
        .as_ref()
        .and_then(|params| params.string("protocolVersion"));
    let revision = wanted.as_deref().and_then(Revision::of);
    let revision = revision.map_or(Revision::NEWEST_WITH_SESSIONS, |revision| {
        revision.min(Revision::NEWEST_WITH_SESSIONS)
    });
    let client = Client {
        revision,
        capabilities,
        info,
        log_level: parking_lot::Mutex::default(),
    };
    let hub = &context.hub;
    let (session, ended) = hub
        .sessions
        .open(context.caller.account(), &context.path, client);
    hub.close(ended);
    let Some(session) = session else {
        let message = "The gateway has too many sessions. Try again later.";
        return refuse(StatusCode::SERVICE_UNAVAILABLE, message);
    };
    let result = format!(
        r#"{{"protocolVersion":{},"capabilities":{CAPABILITIES},"serverInfo":{INFO}}}"#,
        quoted(revision.name())
    );
    let mut response = to(&request.id, StatusCode::OK, Ok(result));
    // Ids are hexadecimal digits.
    if let Ok(id) = HeaderValue::from_str(&session.id) {
        response.headers_mut().insert(transport::SESSION_ID, id);
    }
    response
}

/// Several messages of the one revision that allows it, answered one after the other.
async fn batch(context: &Context, text: &str) -> HttpResponse<Body> {
    let session = match context.session() {
        Ok(session) => session,
        Err(none) => return none.refuse(),
    };
    let messages: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    if !session.client.revision.has_batches() || messages.is_empty() || BATCH_MAX < messages.len() {
        return invalid(InvalidMessage::Shape);
    }
    let mut answers = Vec::new();
    for message in messages {
        match Message::parse(message.get()) {
            Ok(Message::Request(request)) => {
                let outcome = Box::pin(ask(context, &session, &request_id(), &request)).await;
                let answer = match outcome {
                    Outcome::Whole(response) => response,
                    Outcome::Streamed(relay) => relay.whole().await,
                };
                answers.push(answer.encode());
            }
            Ok(Message::Notification { method, params }) => {
                notify(context, &session, &method, params.as_deref());
            }
            Ok(Message::Response(response)) => drop(take_answer(context, &session, response)),
            Err(_) => {
                let error = failure::error(INVALID_REQUEST, "This is no message of JSON-RPC 2.0.");
                let id = "null".to_owned();
                answers.push(
                    Response {
                        id,
                        outcome: Err(error),
                    }
                    .encode(),
                );
            }
        }
    }
    if answers.is_empty() {
        return empty(StatusCode::ACCEPTED);
    }
    whole(StatusCode::OK, format!("[{}]", answers.join(",")))
}

async fn respond(context: Context, session: Arc<Session>, request: Request) -> HttpResponse<Body> {
    let is_stateless = session.client.revision.is_stateless();
    if is_stateless && request.method == "subscriptions/listen" {
        return listen::subscribe(context, session, &request);
    }
    match ask(&context, &session, &context.request_id, &request).await {
        Outcome::Streamed(relay) => relay.stream(),
        Outcome::Whole(response) => {
            let is_unknown = is_stateless && !knows(&request.method, true);
            let status = if is_unknown {
                StatusCode::NOT_FOUND
            } else {
                StatusCode::OK
            };
            whole(status, response.encode())
        }
    }
}

/// Whether a method is one of the revision.
fn knows(method: &str, is_stateless: bool) -> bool {
    let of_all = [
        "tools/list",
        "tools/call",
        "prompts/list",
        "prompts/get",
        "resources/list",
        "resources/templates/list",
        "resources/read",
        "completion/complete",
    ];
    let of_sessions = [
        "ping",
        "logging/setLevel",
        "resources/subscribe",
        "resources/unsubscribe",
    ];
    let of_era = if is_stateless {
        method == "server/discover"
    } else {
        of_sessions.contains(&method)
    };
    of_era || of_all.contains(&method)
}

/// Sends a request where it belongs.
async fn ask(
    context: &Context,
    session: &Arc<Session>,
    request_id: &str,
    request: &Request,
) -> Outcome {
    let Request { id, method, params } = request;
    let is_stateless = session.client.revision.is_stateless();
    let answer = |outcome: Result<String, String>| {
        let id = id.clone();
        Outcome::Whole(Response { id, outcome })
    };
    if !knows(method, is_stateless) {
        let message = format!("There is no method {}.", quoted(method));
        return answer(Err(failure::error(METHOD_NOT_FOUND, &message)));
    }
    if let Some(kind) = Kind::of(method) {
        return answer(lists::list(context, session, kind, params.as_deref()).await);
    }
    match method.as_str() {
        "ping" => return answer(Ok("{}".to_owned())),
        "server/discover" => return answer(Ok(discovered())),
        "logging/setLevel" => {
            set_log_level(context, session, params.as_deref());
            return answer(Ok("{}".to_owned()));
        }
        _ => {}
    }
    let params = match search::take(context, session, method, params.as_deref()).await {
        Taken::Passed(params) => params,
        Taken::Answered(result) => return answer(Ok(result)),
        Taken::Failed(error) => return answer(Err(error)),
    };
    let (seat, name, params) = match destination(context, method, params.as_deref()) {
        Ok(found) => found,
        Err(message) => return answer(Err(failure::error(INVALID_PARAMS, &message))),
    };
    let mut account = None;
    if method == "tools/call" {
        let tool = format!("{}_{name}", seat.prefix);
        let opening = Opening {
            id: request_id,
            route: &seat.route,
            upstream: &seat.server.id,
            target: &seat.server.name,
            model: &tool,
            operation: Operation::ToolCall,
            price: seat.server.price(&name),
        };
        match CallAccount::open(&context.hub.books, &context.caller, opening).await {
            Ok(opened) => account = Some(opened),
            Err(fault) => {
                return answer(Err(failure::error(LIMIT_REACHED, &fault.message)));
            }
        }
    }
    let headers = context.headers.iter();
    let repeats = headers.filter(|(name, _)| name.as_str().starts_with(transport::PARAM_PREFIX));
    let ask = Ask {
        method: method.clone(),
        params: Some(params),
        name: (method != "completion/complete").then_some(name),
        headers: repeats
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect(),
    };
    relay(context, session, seat, ask, (id, account)).await
}

/// What the gateway says of itself.
fn discovered() -> String {
    let versions = Revision::ALL.map(|revision| quoted(revision.name()));
    format!(
        r#"{{"resultType":"complete","supportedVersions":[{}],"capabilities":{STATELESS_CAPABILITIES},"serverInfo":{INFO},"_meta":{{"io.modelcontextprotocol/serverInfo":{INFO}}},"ttlMs":3600000,"cacheScope":"public"}}"#,
        versions.join(",")
    )
}

/// The server that something is asked of, its name there, and the parameters with that name; or what is wrong.
fn destination<'a>(
    context: &'a Context,
    method: &str,
    params: Option<&str>,
) -> Result<(&'a Seat, String, String), String> {
    let none = || "The parameters do not say what is meant.".to_owned();
    let params = Object::parse(params.unwrap_or("{}")).map_err(|_| none())?;
    if method == "completion/complete" {
        let reference = params.get("ref").ok_or_else(none)?;
        let reference = Object::parse(reference).map_err(|_| none())?;
        let (field, between) = match reference.string("type").as_deref() {
            Some("ref/prompt") => ("name", '_'),
            Some("ref/resource") => ("uri", '+'),
            _ => return Err(none()),
        };
        let full = reference.string(field).ok_or_else(none)?;
        let (seat, name) = seat(context, &full, between)?;
        let reference = reference.with(field, &quoted(&name));
        let params = params.with("ref", &reference);
        return Ok((seat, name, params));
    }
    let (field, between) = if method.starts_with("resources/") {
        ("uri", '+')
    } else {
        ("name", '_')
    };
    let full = params.string(field).ok_or_else(none)?;
    let (seat, name) = seat(context, &full, between)?;
    if method == "tools/call" && !seat.server.may_use(&context.caller, &name) {
        return Err(unknown(&full));
    }
    let params = params.with(field, &quoted(&name));
    Ok((seat, name, params))
}

/// The server that a name begins with, and the rest of the name.
fn seat<'a>(context: &'a Context, full: &str, between: char) -> Result<(&'a Seat, String), String> {
    let found = full.split_once(between).and_then(|(prefix, name)| {
        let seat = context.seats.iter().find(|seat| seat.prefix == prefix)?;
        Some((seat, name.to_owned()))
    });
    if let Some(found) = found {
        return Ok(found);
    }
    match context.seats.as_slice() {
        // Links in results hold URIs as the server knows them; with one server there is no doubt whose they are.
        [only] if between == '+' => Ok((only, full.to_owned())),
        _ => Err(unknown(full)),
    }
}

/// What does not exist, or not for this caller; the two must look the same.
fn unknown(full: &str) -> String {
    let shown: String = full.chars().take(200).collect();
    format!("There is no `{shown}` here, or you do not have access to it.")
}

fn set_log_level(context: &Context, session: &Arc<Session>, params: Option<&str>) {
    *session.client.log_level.lock() = params.map(str::to_owned);
    for link in session.links() {
        let is_wanted = link
            .if_open()
            .is_some_and(|opened| opened.can("logging") && !opened.revision.is_stateless());
        if is_wanted {
            let (hub, params) = (Arc::clone(&context.hub), params.map(str::to_owned));
            context.hub.spawn(async move {
                let ask = Ask {
                    method: "logging/setLevel".to_owned(),
                    params,
                    ..Ask::default()
                };
                // A server that does not take the level goes on as it was.
                drop(link.ask(&hub, &link.fresh_id(), &ask).await);
            });
        }
    }
}

/// Passes on what a client with a session tells.
fn notify(context: &Context, session: &Arc<Session>, method: &str, params: Option<&str>) {
    if method == "notifications/initialized" {
        return;
    }
    let hub = &context.hub;
    if method == "notifications/cancelled" {
        let id = params
            .and_then(|params| Some(Object::parse(params).ok()?.get("requestId")?.to_owned()));
        if let Some(request) = id.and_then(|id| session.end(&id)) {
            let text = cancelled(&request.id, params);
            let shared = Arc::clone(hub);
            hub.spawn(async move {
                // Servers of today's revision are told by the end of the connection.
                if request
                    .link
                    .if_open()
                    .is_some_and(|opened| !opened.revision.is_stateless())
                {
                    request.link.tell(&shared, text).await;
                }
                request.cancelled.cancel();
            });
        }
        return;
    }
    let usable = context.servers();
    for link in session.links() {
        if usable.contains(&*link.server.id)
            && link
                .if_open()
                .is_some_and(|opened| !opened.revision.is_stateless())
        {
            let text = super::message::notification(method, params);
            let shared = Arc::clone(hub);
            hub.spawn(async move { link.tell(&shared, text).await });
        }
    }
}

/// Passes a client's answer on to the server that asked.
fn take_answer(
    context: &Context,
    session: &Arc<Session>,
    response: Response,
) -> HttpResponse<Body> {
    let Some(asked) = session.answered(&response.id) else {
        return refuse(StatusCode::BAD_REQUEST, "Nobody waits for this answer.");
    };
    let text = Response {
        id: asked.id,
        outcome: response.outcome,
    }
    .encode();
    let (hub, link) = (Arc::clone(&context.hub), asked.link);
    context
        .hub
        .spawn(async move { link.tell(&hub, text).await });
    empty(StatusCode::ACCEPTED)
}
