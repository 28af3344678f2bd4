//! Streams on which clients only listen: what servers say by themselves, of all servers on one stream.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::stream;
use http::{Response as HttpResponse, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use protocol::sse::Event;
use serde_json::{Value, json};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
};
use tracing::debug;

use super::{
    Context, Hub,
    failure::{self, Failure, INVALID_PARAMS},
    link::{Ask, Link},
    message::{self, Message, Object, Request, Response, quoted},
    refuse,
    relay::{COMMENT, KEEP_ALIVE, events, frame, pass},
    session::{Hearing, Session},
    transport::Answer,
    whole,
};
use crate::encode::Body;

/// How long a stream lives; the client opens another, with the rights that it has then.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Messages that wait for a client that reads slowly; the servers' streams wait then.
const OUTBOX: usize = 64;
/// The pause before a server's stream is opened again; it doubles each time.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Resources that one stream tells of.
const RESOURCES_MAX: usize = 256;
/// The field of `_meta` that tells streams apart.
const META_SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// What is wanted of the servers.
#[derive(Debug)]
enum Wanted {
    /// All that a server says on its stream, for a client with a session.
    All,
    /// What the client has named, under this id.
    Named {
        /// The text of the request's id.
        id: String,
        /// The methods of the notifications.
        methods: HashSet<&'static str>,
        /// URIs of resources as the client knows them.
        uris: HashSet<String>,
    },
}

/// One client that listens.
struct Ear {
    context: Context,
    session: Arc<Session>,
    wanted: Arc<Wanted>,
    outbox: mpsc::Sender<String>,
    inbox: mpsc::Receiver<String>,
    watched: HashSet<String>,
    /// The servers' streams; they end with this one.
    watchers: JoinSet<()>,
    ends: Instant,
    _hearing: Option<Hearing>,
    _permit: OwnedSemaphorePermit,
}

/// One server that is listened to.
struct Watch {
    hub: Arc<Hub>,
    session: Arc<Session>,
    link: Arc<Link>,
    prefix: String,
    wanted: Arc<Wanted>,
    outbox: mpsc::Sender<String>,
}

/// `GET`: the stream of a client with a session.
pub(super) fn get(context: Context) -> HttpResponse<Body> {
    if context.session_id().is_none() {
        let message = "There is no stream without a session here.";
        return refuse(StatusCode::METHOD_NOT_ALLOWED, message);
    }
    let session = match context.session() {
        Ok(session) => session,
        Err(none) => return none.refuse(),
    };
    let Some(hearing) = session.hear() else {
        let message = "Somebody listens to this session already.";
        return refuse(StatusCode::CONFLICT, message);
    };
    match Ear::new(context, session, Wanted::All, Some(hearing)) {
        Some(ear) => ear.stream(None),
        None => busy(),
    }
}

/// `subscriptions/listen`: the stream of a client without sessions.
pub(super) fn subscribe(
    context: Context,
    session: Arc<Session>,
    request: &Request,
) -> HttpResponse<Body> {
    let Some((wanted, agreed)) = wanted(&context, request) else {
        let message = "`notifications` is no filter.";
        let response = Response {
            id: request.id.clone(),
            outcome: Err(failure::error(INVALID_PARAMS, message)),
        };
        return whole(StatusCode::OK, response.encode());
    };
    for seat in &context.seats {
        session.link(&seat.server);
    }
    let agreed = format!(
        r#"{{"_meta":{{"{META_SUBSCRIPTION}":{}}},"notifications":{agreed}}}"#,
        request.id
    );
    let acknowledged =
        message::notification("notifications/subscriptions/acknowledged", Some(&agreed));
    match Ear::new(context, session, wanted, None) {
        Some(ear) => ear.stream(Some(acknowledged)),
        None => busy(),
    }
}

fn busy() -> HttpResponse<Body> {
    let message = "The gateway has too many listeners. Try again later.";
    refuse(StatusCode::SERVICE_UNAVAILABLE, message)
}

/// What a client wants to hear, and what of it the gateway agrees to.
fn wanted(context: &Context, request: &Request) -> Option<(Wanted, Value)> {
    let params: Value = serde_json::from_str(request.params.as_deref()?).ok()?;
    let filter = params.get("notifications")?.as_object()?;
    let mut agreed = serde_json::Map::new();
    let mut methods = HashSet::new();
    for (field, method) in [
        ("toolsListChanged", "notifications/tools/list_changed"),
        ("promptsListChanged", "notifications/prompts/list_changed"),
        (
            "resourcesListChanged",
            "notifications/resources/list_changed",
        ),
    ] {
        if filter.get(field) == Some(&Value::Bool(true)) {
            methods.insert(method);
            agreed.insert(field.to_owned(), Value::Bool(true));
        }
    }
    let is_known = |uri: &&str| {
        let mut prefixes = context.seats.iter().map(|seat| &seat.prefix);
        prefixes.any(|prefix| own_uri(uri, prefix).is_some())
    };
    let uris: HashSet<String> = filter
        .get("resourceSubscriptions")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(is_known)
        .take(RESOURCES_MAX)
        .map(str::to_owned)
        .collect();
    if !uris.is_empty() {
        methods.insert("notifications/resources/updated");
        agreed.insert("resourceSubscriptions".to_owned(), json!(uris));
    }
    let id = request.id.clone();
    Some((Wanted::Named { id, methods, uris }, Value::Object(agreed)))
}

/// A resource's URI as its server knows it.
fn own_uri<'a>(uri: &'a str, prefix: &str) -> Option<&'a str> {
    uri.strip_prefix(prefix)?.strip_prefix('+')
}

impl Ear {
    fn new(
        context: Context,
        session: Arc<Session>,
        wanted: Wanted,
        hearing: Option<Hearing>,
    ) -> Option<Self> {
        let permit = Arc::clone(&context.hub.listeners).try_acquire_owned();
        let permit = permit.ok()?;
        // Who only listens takes no place from those who ask.
        drop(context.permit.lock().take());
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        Some(Self {
            context,
            session,
            wanted: Arc::new(wanted),
            outbox,
            inbox,
            watched: HashSet::new(),
            watchers: JoinSet::new(),
            ends: Instant::now() + LIFETIME,
            _hearing: hearing,
            _permit: permit,
        })
    }

    fn stream(self, first: Option<String>) -> HttpResponse<Body> {
        let frames = stream::unfold((self, first), |(mut ear, first)| async {
            if let Some(first) = first {
                return Some((frame(Event::data(first).encode()), (ear, None)));
            }
            let data = ear.next().await?;
            Some((frame(data), (ear, None)))
        });
        events(StreamBody::new(frames).boxed_unsync())
    }

    /// The next bytes for the client; nothing when the stream's time is over.
    async fn next(&mut self) -> Option<bytes::Bytes> {
        loop {
            self.watch_new();
            let quiet = tokio::time::sleep(KEEP_ALIVE);
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.ends.into()) => return None,
                Some(text) = self.inbox.recv() => return Some(Event::data(text).encode()),
                () = self.session.linked.notified() => {}
                () = quiet => return Some(COMMENT),
            }
        }
    }

    /// Listens to the servers that the session has come to use.
    fn watch_new(&mut self) {
        for link in self.session.links() {
            let Some(prefix) = self.context.prefix(&link.server) else {
                continue;
            };
            if self.watched.insert(link.server.id.clone()) {
                let watch = Watch {
                    hub: Arc::clone(&self.context.hub),
                    session: Arc::clone(&self.session),
                    prefix: prefix.to_owned(),
                    wanted: Arc::clone(&self.wanted),
                    outbox: self.outbox.clone(),
                    link,
                };
                self.watchers.spawn(watch.run());
            }
        }
    }
}

impl Watch {
    /// Listens to one server until the client goes away, or the server says that it has no stream.
    async fn run(self) {
        let mut pause = PAUSE;
        loop {
            let failure = match self.hear().await {
                Ok(()) => {
                    pause = PAUSE;
                    Failure::Broken("the stream ended".to_owned())
                }
                Err(Failure::Status(StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_FOUND)) => {
                    return;
                }
                Err(failure) => failure,
            };
            let server = &self.link.server.id;
            debug!(
                server,
                error = failure.describe(),
                "a tool server is not heard"
            );
            tokio::time::sleep(pause).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
    }

    /// Listens to the end of one stream of the server.
    async fn hear(&self) -> Result<(), Failure> {
        let opened = self.link.open(&self.hub).await?;
        let answer = if opened.revision.is_stateless() {
            let ask = Ask {
                method: "subscriptions/listen".to_owned(),
                params: Some(self.filter()),
                ..Ask::default()
            };
            self.link
                .ask(&self.hub, &self.link.fresh_id(), &ask)
                .await?
        } else {
            let answer = self.link.listen(&self.hub, &opened).await?;
            self.subscribe().await?;
            answer
        };
        let Answer::Events(mut events) = answer else {
            return Err(Failure::Status(StatusCode::METHOD_NOT_ALLOWED));
        };
        events.bear_silence(LIFETIME);
        while let Some(text) = events.next().await? {
            let Ok(message) = Message::parse(&text) else {
                continue;
            };
            let shown = match &*self.wanted {
                Wanted::All => self.all(text, message),
                Wanted::Named { id, methods, uris } => {
                    self.named(text, message, (id, methods, uris))
                }
            };
            if let Some(text) = shown
                && self.outbox.send(text).await.is_err()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The parameters of a stream of a server of today's revision.
    fn filter(&self) -> String {
        let filter = match &*self.wanted {
            Wanted::All => json!({
                "toolsListChanged": true, "promptsListChanged": true, "resourcesListChanged": true
            }),
            Wanted::Named { methods, uris, .. } => json!({
                "toolsListChanged": methods.contains("notifications/tools/list_changed"),
                "promptsListChanged": methods.contains("notifications/prompts/list_changed"),
                "resourcesListChanged": methods.contains("notifications/resources/list_changed"),
                "resourceSubscriptions": self.own_uris(uris),
            }),
        };
        json!({ "notifications": filter }).to_string()
    }

    fn own_uris<'a>(&self, uris: &'a HashSet<String>) -> Vec<&'a str> {
        let uris = uris.iter();
        uris.filter_map(|uri| own_uri(uri, &self.prefix)).collect()
    }

    /// Asks a server with sessions to tell of the resources.
    async fn subscribe(&self) -> Result<(), Failure> {
        let Wanted::Named { uris, .. } = &*self.wanted else {
            return Ok(());
        };
        for uri in self.own_uris(uris) {
            let ask = Ask {
                method: "resources/subscribe".to_owned(),
                params: Some(format!(r#"{{"uri":{}}}"#, quoted(uri))),
                ..Ask::default()
            };
            let id = self.link.fresh_id();
            // A server that refuses one resource may still tell of the others.
            drop(self.link.ask(&self.hub, &id, &ask).await?);
        }
        Ok(())
    }

    fn all(&self, text: String, message: Message) -> Option<String> {
        if let Message::Notification { method, .. } = &message
            && method == "notifications/subscriptions/acknowledged"
        {
            return None;
        }
        pass(
            &self.hub,
            (&self.session, &self.link),
            &self.prefix,
            text,
            message,
        )
    }

    fn named(
        &self,
        text: String,
        message: Message,
        (id, methods, uris): (&str, &HashSet<&'static str>, &HashSet<String>),
    ) -> Option<String> {
        let Message::Notification { method, .. } = &message else {
            return self.all(text, message);
        };
        if !methods.contains(method.as_str()) {
            return None;
        }
        let text = self.all(text, message)?;
        let Ok(Message::Notification { method, params }) = Message::parse(&text) else {
            return None;
        };
        let params = params.unwrap_or_else(|| "{}".to_owned());
        let params = Object::parse(&params).ok()?;
        if method == "notifications/resources/updated" && !uris.contains(&params.string("uri")?) {
            return None;
        }
        let meta = params.get("_meta").unwrap_or("{}");
        let meta = Object::parse(meta).ok()?.with(META_SUBSCRIPTION, id);
        let params = params.with("_meta", &meta);
        Some(message::notification(&method, Some(&params)))
    }
}
