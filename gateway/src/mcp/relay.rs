//! One request of a client, passed on to one server: its answer goes back as it came, and so does what the server says
//! before it answers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream;
use http::Response as HttpResponse;
use http_body_util::{BodyExt, StreamBody};
use protocol::sse::Event;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    Context, Hub,
    directory::Seat,
    failure::{self, Failure, INTERNAL_ERROR, METHOD_NOT_FOUND},
    link::{Ask, Link},
    message::{self, Message, Object, Request, Response, quoted},
    session::Session,
    transport::{Answer, Events, is_to},
};
use crate::{
    encode::Body,
    rpc::account::CallAccount,
    rpc::stream::{COMMENT, KEEP_ALIVE, events, frame},
};

/// What a client gets.
#[derive(Debug)]
pub(super) enum Outcome {
    /// An answer.
    Whole(Response),
    /// What the server says, up to its answer.
    Streamed(Box<Relay>),
}

/// A request on its way; one that is dropped before its end is cancelled at the server.
#[derive(Debug)]
struct Turn {
    hub: Arc<Hub>,
    session: Arc<Session>,
    link: Arc<Link>,
    prefix: String,
    client_id: String,
    server_id: String,
    account: Option<CallAccount>,
    cancelled: CancellationToken,
    is_over: bool,
}

/// A stream of a server on its way to the client.
#[derive(Debug)]
pub(super) struct Relay {
    turn: Turn,
    events: Box<Events>,
    deadline: Instant,
    permit: Option<OwnedSemaphorePermit>,
}

/// Asks one server what the client asks.
pub(super) async fn relay(
    context: &Context,
    session: &Arc<Session>,
    seat: &Seat,
    ask: Ask,
    (client_id, account): (&str, Option<CallAccount>),
) -> Outcome {
    let link = session.link(&seat.server);
    let mut turn = Turn {
        hub: Arc::clone(&context.hub),
        session: Arc::clone(session),
        prefix: seat.prefix.clone(),
        client_id: client_id.to_owned(),
        server_id: link.fresh_id(),
        link,
        account,
        cancelled: CancellationToken::new(),
        is_over: false,
    };
    if let Some(account) = &mut turn.account
        && let Err(error) = account.check().await
    {
        return Outcome::Whole(turn.unaccounted(&error));
    }
    if let Some(account) = &mut turn.account {
        account.note_sent();
    }
    session.begin(client_id, &turn.link, &turn.server_id, &turn.cancelled);
    let answer = tokio::select! {
        biased;
        () = turn.cancelled.cancelled() => Err(Failure::Cancelled),
        answer = turn.link.ask(&turn.hub, &turn.server_id, &ask) => answer,
    };
    match answer {
        Ok(Answer::Events(events)) => {
            if let Some(account) = &mut turn.account
                && let Err(error) = account.begin().await
            {
                return Outcome::Whole(turn.unaccounted(&error));
            }
            let limit = Duration::from_millis(seat.route.timeouts.request_millis);
            Outcome::Streamed(Box::new(Relay {
                turn,
                events,
                deadline: Instant::now() + limit,
                permit: context.permit.lock().take(),
            }))
        }
        Ok(answer) => {
            let response = answer.response(&turn.server_id).await;
            Outcome::Whole(turn.finish(response).await)
        }
        Err(failure) => Outcome::Whole(turn.finish(Err(failure)).await),
    }
}

impl Turn {
    /// The answer as the client gets it, once the ledger knows of it.
    async fn finish(&mut self, response: Result<Response, Failure>) -> Response {
        self.is_over = true;
        let outcome = match &response {
            Ok(response) => Ok(&response.outcome),
            Err(failure) => Err(failure),
        };
        if let Some(account) = &mut self.account
            && let Err(error) = account.finish(outcome).await
        {
            return self.unaccounted(&error);
        }
        let outcome = match response {
            Ok(Response { outcome, .. }) => outcome.map(|result| self.complete(result)),
            Err(failure) => Err(explain(&self.hub, &self.link, &failure)),
        };
        Response {
            id: self.client_id.clone(),
            outcome,
        }
    }

    /// A result as today's revision wants it: those of earlier ones do not say that they are complete.
    fn complete(&self, result: String) -> String {
        if !self.session.client.revision.is_stateless() {
            return result;
        }
        match Object::parse(&result) {
            Ok(object) if object.get("resultType").is_none() => {
                object.with("resultType", "\"complete\"")
            }
            _ => result,
        }
    }

    /// The ledger's rule: no answer that is not accounted for.
    fn unaccounted(&mut self, error: &crate::ledger::LedgerError) -> Response {
        // The ledger's writer has told people, once; this would come with every call.
        debug!(%error, "a tool's answer is refused, since it cannot be accounted for");
        self.is_over = true;
        let message = "The call cannot be accounted for now. Try again later.";
        Response {
            id: self.client_id.clone(),
            outcome: Err(failure::error(INTERNAL_ERROR, message)),
        }
    }

    /// What the client sees of a message before the answer.
    fn show(&self, text: String, message: Message) -> Option<String> {
        if self.session.client.revision.is_stateless()
            && let Message::Notification { method, .. } = &message
        {
            let is_stateless = self
                .link
                .if_open()
                .is_some_and(|opened| opened.revision.is_stateless());
            // A server of an earlier revision does not know whether this client wants to see logs, nor what it listens to.
            let is_wanted = method == "notifications/progress"
                || (method == "notifications/message" && is_stateless);
            return is_wanted.then_some(text);
        }
        let ends = (&*self.session, &self.link);
        pass(&self.hub, ends, &self.prefix, text, message)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.session.end(&self.client_id);
        if self.is_over || !self.session.client.revision.is_stateless() {
            // A client with a session says so when it wants to cancel; that it went away says nothing.
            return;
        }
        let is_stateless = |opened: &Arc<super::link::Opened>| opened.revision.is_stateless();
        if self.link.if_open().as_ref().is_some_and(is_stateless) {
            // The end of the connection says it.
            return;
        }
        let (hub, link) = (Arc::clone(&self.hub), Arc::clone(&self.link));
        let text = cancelled(&self.server_id, None);
        self.hub.spawn(async move { link.tell(&hub, text).await });
    }
}

/// The notification that a request is cancelled.
pub(super) fn cancelled(server_id: &str, params: Option<&str>) -> String {
    let params = params.and_then(|params| Object::parse(params).ok());
    let params = match params {
        Some(params) => params.with("requestId", server_id),
        None => format!(r#"{{"requestId":{server_id}}}"#),
    };
    message::notification("notifications/cancelled", Some(&params))
}

/// The error for a server that did not answer; logs and metrics hear of it too.
pub(super) fn explain(hub: &Hub, link: &Link, failure: &Failure) -> String {
    let server = &link.server;
    if *failure == Failure::Cancelled {
        return failure::error(
            INTERNAL_ERROR,
            &failure.message("tool server", &server.name),
        );
    }
    warn!(
        server = server.id,
        error = failure.describe(),
        "a tool server failed"
    );
    hub.books.count_failure(&server.id, failure.name());
    failure::error(
        INTERNAL_ERROR,
        &failure.message("tool server", &server.name),
    )
}

/// What a client with a session sees of a server's message; requests of the server's get an id that tells its servers apart.
pub(super) fn pass(
    hub: &Arc<Hub>,
    (session, link): (&Session, &Arc<Link>),
    prefix: &str,
    text: String,
    message: Message,
) -> Option<String> {
    match message {
        Message::Response(_) => None,
        Message::Notification { method, params } => {
            if method != "notifications/resources/updated" {
                return Some(text);
            }
            let params = params?;
            let params = Object::parse(&params).ok()?;
            let uri = format!("{prefix}+{}", params.string("uri")?);
            let params = params.with("uri", &quoted(&uri));
            Some(message::notification(&method, Some(&params)))
        }
        Message::Request(Request { id, method, params }) => {
            let refusal = if method == "ping" {
                Ok("{}".to_owned())
            } else if session.client.revision.is_stateless() {
                Err(failure::error(
                    METHOD_NOT_FOUND,
                    "The client cannot be asked.",
                ))
            } else if let Some(id) = session.ask(link, id.clone()) {
                return Some(message::request(&id, &method, params.as_deref()));
            } else {
                Err(failure::error(
                    INTERNAL_ERROR,
                    "Too many requests wait for the client.",
                ))
            };
            let text = Response {
                id,
                outcome: refusal,
            }
            .encode();
            let (shared, link) = (Arc::clone(hub), Arc::clone(link));
            hub.spawn(async move { link.tell(&shared, text).await });
            None
        }
    }
}

impl Relay {
    /// Reads up to the answer and shows nothing else.
    pub(super) async fn whole(mut self) -> Response {
        loop {
            let next = self.read().await;
            if let Some(Step::Last(response)) = self.take(next).await {
                return response;
            }
        }
    }

    /// The stream as the client reads it.
    pub(super) fn stream(self) -> HttpResponse<Body> {
        let frames = stream::unfold(Some(self), |relay| async {
            let mut relay = relay?;
            let data = loop {
                let Ok(next) = tokio::time::timeout(KEEP_ALIVE, relay.read()).await else {
                    break COMMENT;
                };
                match relay.take(next).await {
                    Some(Step::Shown(text)) => break Event::data(text).encode(),
                    Some(Step::Last(response)) => {
                        let last = Event::data(response.encode()).encode();
                        return Some((frame(last), None));
                    }
                    None => {}
                }
            };
            Some((frame(data), Some(relay)))
        });
        events(StreamBody::new(frames).boxed_unsync())
    }

    /// Reads one message's text; nothing is lost if this is dropped.
    async fn read(&mut self) -> Result<Option<String>, Failure> {
        tokio::select! {
            biased;
            () = self.turn.cancelled.cancelled() => Err(Failure::Cancelled),
            next = self.events.next() => next,
            () = tokio::time::sleep_until(self.deadline.into()) => {
                Err(Failure::Broken("the route's time for a request is over".to_owned()))
            }
        }
    }

    /// What the client sees of what was read; nothing if it is not for the client.
    async fn take(&mut self, next: Result<Option<String>, Failure>) -> Option<Step> {
        let failure = match next {
            Err(failure) => failure,
            Ok(None) => Failure::Garbage("a stream without an answer"),
            Ok(Some(text)) => match Message::parse(&text) {
                Ok(Message::Response(response)) if is_to(&response, &self.turn.server_id) => {
                    return Some(Step::Last(self.end(Ok(response)).await));
                }
                Ok(message) => return self.turn.show(text, message).map(Step::Shown),
                // What is no message is of no use to anybody.
                Err(_) => return None,
            },
        };
        Some(Step::Last(self.end(Err(failure)).await))
    }

    async fn end(&mut self, response: Result<Response, Failure>) -> Response {
        let response = self.turn.finish(response).await;
        drop(self.permit.take());
        response
    }
}

/// A message on its way to the client.
enum Step {
    /// One before the answer.
    Shown(String),
    /// The answer.
    Last(Response),
}
