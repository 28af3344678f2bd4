//! One request of an agent: checked, passed on, and its answer back as it came.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures::stream;
use http::{HeaderMap, HeaderValue, Method, Response as HttpResponse, StatusCode, Uri};
use http_body_util::{BodyExt, StreamBody};
use protocol::sse::Event;
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, warn};

use super::{
    Desk,
    agents::Agent,
    card::{Door, rewrite},
    tasks,
};
use crate::{
    authorize::Caller,
    call::Operation,
    cost::Cost,
    encode::Body,
    ledger::LedgerError,
    rpc::{
        account::{CallAccount, Opening},
        failure::{
            self, Failure, INTERNAL_ERROR, INVALID_REQUEST, LIMIT_REACHED, METHOD_NOT_FOUND,
            PARSE_ERROR,
        },
        message::{InvalidMessage, Message, Request, Response},
        stream::{COMMENT, KEEP_ALIVE, events, frame, whole},
        transport::{Answer, Events},
    },
    table::{Access, Route},
};

/// A2A: no such task, or none of the caller's.
const TASK_NOT_FOUND: i64 = -32001;
/// A2A: the agent does not offer this.
const UNSUPPORTED: i64 = -32004;

/// A request and all that it takes to pass it on.
pub(super) struct Asked {
    pub(super) desk: Arc<Desk>,
    pub(super) route: Arc<Route>,
    pub(super) agent: Arc<Agent>,
    pub(super) uri: Uri,
    pub(super) caller: Caller,
    pub(super) request_id: String,
    pub(super) headers: HeaderMap,
    pub(super) url: String,
    pub(super) _permit: OwnedSemaphorePermit,
}

/// What a method is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The agent is given something to do.
    Message,
    /// A task is asked for, or its notifications.
    Task,
    /// The card for those who are let in.
    Card,
    /// All tasks, of whomever.
    List,
}

impl Kind {
    /// The kind of a method, by its names in both revisions.
    fn of(method: &str) -> Option<Self> {
        Some(match method {
            "message/send" | "message/stream" | "SendMessage" | "SendStreamingMessage" => {
                Self::Message
            }
            "tasks/get" | "tasks/cancel" | "tasks/resubscribe" | "GetTask" | "CancelTask"
            | "SubscribeToTask" => Self::Task,
            "agent/getAuthenticatedExtendedCard" | "GetExtendedAgentCard" => Self::Card,
            "tasks/list" | "ListTasks" => Self::List,
            method
                if method.starts_with("tasks/pushNotificationConfig/")
                    || method.ends_with("PushNotificationConfig")
                    || method.ends_with("PushNotificationConfigs") =>
            {
                Self::Task
            }
            _ => return None,
        })
    }
}

/// Passes a request on.
pub(super) async fn call(asked: Asked, body: &Bytes) -> HttpResponse<Body> {
    let parsed = std::str::from_utf8(body).map_err(|_| InvalidMessage::Syntax);
    let (text, request) = match parsed.and_then(|text| Ok((text, Message::parse(text)?))) {
        Ok((text, Message::Request(request))) => (text, request),
        Err(InvalidMessage::Syntax) => {
            return answer(
                "null",
                Err(failure::error(PARSE_ERROR, "The body is no JSON.")),
            );
        }
        Ok(_) | Err(InvalidMessage::Shape) => {
            let message = "The body is no request of JSON-RPC 2.0.";
            return answer("null", Err(failure::error(INVALID_REQUEST, message)));
        }
    };
    let kind = match check(&asked, &request) {
        Ok(kind) => kind,
        Err(error) => return answer(&request.id, Err(error)),
    };
    let mut account = None;
    if kind == Kind::Message {
        match open(&asked).await {
            Ok(opened) => account = Some(opened),
            Err(message) => {
                return answer(&request.id, Err(failure::error(LIMIT_REACHED, &message)));
            }
        }
    }
    let turn = Turn {
        id: request.id,
        kind,
        account,
        asked,
    };
    turn.pass(text.to_owned()).await
}

/// What a request is about, if the caller may ask it.
fn check(asked: &Asked, request: &Request) -> Result<Kind, String> {
    let kind = Kind::of(&request.method)
        .ok_or_else(|| failure::error(METHOD_NOT_FOUND, "There is no such method here."))?;
    if kind == Kind::List {
        let message = "Tasks cannot be listed here: the agent does not know whose they are.";
        return Err(failure::error(UNSUPPORTED, message));
    }
    let params = request.params.as_deref().unwrap_or("{}");
    let params: Value = serde_json::from_str(params).unwrap_or_default();
    let account = asked.caller.account();
    let agent = &asked.agent.id;
    if tasks::named(&params).all(|task| asked.desk.tasks.may_ask(agent, task, account)) {
        Ok(kind)
    } else {
        Err(failure::error(TASK_NOT_FOUND, "Task not found"))
    }
}

async fn open(asked: &Asked) -> Result<CallAccount, String> {
    let opening = Opening {
        id: &asked.request_id,
        route: &asked.route,
        upstream: &asked.agent.id,
        target: &asked.agent.name,
        model: &asked.agent.name,
        operation: Operation::AgentCall,
        price: Cost::default(),
    };
    let opened = CallAccount::open(&asked.desk.books, &asked.caller, opening).await;
    opened.map_err(|fault| fault.message)
}

fn answer(id: &str, outcome: Result<String, String>) -> HttpResponse<Body> {
    let id = id.to_owned();
    whole(StatusCode::OK, Response { id, outcome }.encode())
}

/// A request on its way.
struct Turn {
    id: String,
    kind: Kind,
    account: Option<CallAccount>,
    asked: Asked,
}

impl Turn {
    async fn pass(mut self, text: String) -> HttpResponse<Body> {
        if let Some(account) = &mut self.account
            && let Err(error) = account.check().await
        {
            return answer(&self.id, Err(unaccounted(&error)));
        }
        let Asked {
            desk,
            agent,
            uri,
            headers,
            ..
        } = &self.asked;
        let sent = desk.exchange(agent, uri, Method::POST, headers.clone(), Some(text));
        match sent.await {
            Ok((Answer::Events(events), headers)) => self.stream(events, &headers).await,
            Ok((Answer::Whole(text), headers)) => match self.read(&text) {
                Some(response) => {
                    if let Err(error) = self.finish(Ok(&response.outcome)).await {
                        return answer(&self.id, Err(error));
                    }
                    let shown = self.show(text, response);
                    extended(whole(StatusCode::OK, shown), &headers)
                }
                None => self.fail(&Failure::Garbage("an answer that is none")).await,
            },
            Ok((Answer::Empty, _)) => self.fail(&Failure::Garbage("an empty answer")).await,
            Err(failure) => self.fail(&failure).await,
        }
    }

    /// Reads an answer and notes whose tasks it tells of.
    fn read(&self, text: &str) -> Option<Response> {
        let Ok(Message::Response(response)) = Message::parse(text) else {
            return None;
        };
        if let Ok(result) = &response.outcome
            && let Ok(result) = serde_json::from_str::<Value>(result)
        {
            let account = self.asked.caller.account();
            for task in tasks::told(&result) {
                let agent = &self.asked.agent.id;
                self.asked.desk.tasks.note(agent, task, account);
            }
        }
        Some(response)
    }

    /// The answer's text; that of a card with our addresses.
    fn show(&self, text: String, response: Response) -> String {
        if self.kind != Kind::Card {
            return text;
        }
        let door = Door {
            url: &self.asked.url,
            is_open: matches!(self.asked.route.access, Access::Open),
        };
        let outcome = response.outcome.and_then(|card| {
            let card = rewrite(&self.asked.agent, &card, door);
            let none = || failure::error(UNSUPPORTED, "The agent has no such card.");
            card.map(|card| card.shown.to_string()).ok_or_else(none)
        });
        let id = response.id;
        Response { id, outcome }.encode()
    }

    async fn finish(
        &mut self,
        outcome: Result<&Result<String, String>, &Failure>,
    ) -> Result<(), String> {
        match &mut self.account {
            Some(account) => account
                .finish(outcome)
                .await
                .map_err(|error| unaccounted(&error)),
            None => Ok(()),
        }
    }

    /// The error for an agent that did not answer.
    async fn error(&mut self, failure: &Failure) -> String {
        let agent = &self.asked.agent;
        warn!(
            agent = agent.id,
            error = failure.describe(),
            "an agent failed"
        );
        self.asked
            .desk
            .books
            .count_failure(&agent.id, failure.name());
        let message = failure.message("agent", &agent.name);
        match self.finish(Err(failure)).await {
            Ok(()) => failure::error(INTERNAL_ERROR, &message),
            Err(error) => error,
        }
    }

    async fn fail(mut self, failure: &Failure) -> HttpResponse<Body> {
        let error = self.error(failure).await;
        answer(&self.id, Err(error))
    }

    async fn stream(mut self, first: Box<Events>, headers: &HeaderMap) -> HttpResponse<Body> {
        if let Some(account) = &mut self.account
            && let Err(error) = account.begin().await
        {
            return answer(&self.id, Err(unaccounted(&error)));
        }
        let limit = Duration::from_millis(self.asked.route.timeouts.request_millis);
        let state = Streaming {
            turn: self,
            events: first,
            last: None,
            deadline: Instant::now() + limit,
        };
        let frames = stream::unfold(Some(state), |state| async {
            let mut state = state?;
            let (data, is_last) = state.step().await?;
            Some((frame(data), (!is_last).then_some(state)))
        });
        extended(events(StreamBody::new(frames).boxed_unsync()), headers)
    }
}

/// A stream on its way to the client.
struct Streaming {
    turn: Turn,
    events: Box<Events>,
    /// The last answer, by which the stream is accounted.
    last: Option<Result<String, String>>,
    deadline: Instant,
}

impl Streaming {
    /// The next bytes, and whether they are the last; nothing at the end.
    async fn step(&mut self) -> Option<(Bytes, bool)> {
        let next = tokio::select! {
            biased;
            next = self.events.next() => next,
            () = tokio::time::sleep(KEEP_ALIVE) => return Some((COMMENT, false)),
            () = tokio::time::sleep_until(self.deadline.into()) => {
                Err(Failure::Broken("the route's time for a request is over".to_owned()))
            }
        };
        let failure = match next {
            Ok(Some(text)) => {
                if let Some(response) = self.turn.read(&text) {
                    self.last = Some(response.outcome);
                }
                return Some((Event::data(text).encode(), false));
            }
            Ok(None) => match self.last.take() {
                Some(outcome) => {
                    // The client has all of it; the ledger goes on trying.
                    drop(self.turn.finish(Ok(&outcome)).await);
                    return None;
                }
                None => Failure::Garbage("a stream without an answer"),
            },
            Err(failure) => failure,
        };
        let error = self.turn.error(&failure).await;
        let id = self.turn.id.clone();
        let outcome = Err(error);
        let text = Response { id, outcome }.encode();
        Some((Event::data(text).encode(), true))
    }
}

/// An answer with the extensions that the agent has used.
fn extended(mut response: HttpResponse<Body>, headers: &HeaderMap) -> HttpResponse<Body> {
    for name in ["a2a-version", "a2a-extensions", "x-a2a-extensions"] {
        if let Some(value) = headers.get(name) {
            let headers = response.headers_mut();
            headers.insert(name, HeaderValue::clone(value));
        }
    }
    response
}

/// The ledger's rule: no answer that is not accounted for.
fn unaccounted(error: &LedgerError) -> String {
    // The ledger's writer has told people, once; this would come with every call.
    debug!(%error, "an agent's answer is refused, since it cannot be accounted for");
    let message = "The request cannot be accounted for now. Try again later.";
    failure::error(INTERNAL_ERROR, message)
}
