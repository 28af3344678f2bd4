//! Sessions of clients: each has its own connections to tool servers, belongs to one key and one path, and ends when nobody
//! uses it.
//!
//! Clients of today's revision have no sessions; a key's requests share one that they do not see, for the servers that need
//! one. Nothing that one key does is ever sent over a connection of another.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{directory::Server, link::Link, revision::Revision};

/// How long a session lives that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Sessions of all clients.
const SESSIONS_MAX: usize = 16_384;
/// Sessions of one key; beyond, the one that was not used for longest ends.
const SESSIONS_PER_KEY_MAX: usize = 256;
/// Requests of servers that wait for the client's answer.
const ASKED_MAX: usize = 256;
/// Requests of a client that wait for an answer and may be cancelled.
const IN_FLIGHT_MAX: usize = 1024;
/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// What servers are told of a client.
#[derive(Debug)]
pub(super) struct Client {
    /// The revision that it speaks.
    pub(super) revision: Revision,
    /// The text of what it can.
    pub(super) capabilities: String,
    /// The text of its name and version.
    pub(super) info: String,
    /// The text of the parameters by which the client last said what servers shall log.
    pub(super) log_level: Mutex<Option<String>>,
}

impl Client {
    /// What servers with sessions are told: what a client of today's revision can, it can do by that revision only.
    pub(super) fn capabilities_with_sessions(&self) -> &str {
        if self.revision.is_stateless() {
            "{}"
        } else {
            &self.capabilities
        }
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// The id, which nobody can guess; empty if the client does not see the session.
    pub(super) id: String,
    account: String,
    path: String,
    /// The client.
    pub(super) client: Arc<Client>,
    links: Mutex<HashMap<String, Arc<Link>>>,
    asked: Mutex<HashMap<u64, Asked>>,
    last_asked: AtomicU64,
    in_flight: Mutex<HashMap<String, InFlight>>,
    used: Mutex<Instant>,
    /// Tells whoever listens that there is another connection.
    pub(super) linked: Notify,
    is_heard: AtomicBool,
}

/// A server's request that waits for the client's answer.
#[derive(Debug)]
pub(super) struct Asked {
    /// Who asked.
    pub(super) link: Arc<Link>,
    /// The text of the id there.
    pub(super) id: String,
}

/// A client's request that waits for a server's answer.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    /// Who is asked.
    pub(super) link: Arc<Link>,
    /// The text of the id there.
    pub(super) id: String,
    /// Ends the wait.
    pub(super) cancelled: CancellationToken,
}

/// What ids of servers' requests begin with on the way to the client.
const ASKED_PREFIX: &str = "qd-";

impl Session {
    /// A session that nobody knows yet.
    pub(super) fn new(id: String, account: &str, path: &str, client: Client) -> Self {
        Self {
            id,
            account: account.to_owned(),
            path: path.to_owned(),
            client: Arc::new(client),
            links: Mutex::default(),
            asked: Mutex::default(),
            last_asked: AtomicU64::new(0),
            in_flight: Mutex::default(),
            used: Mutex::new(Instant::now()),
            linked: Notify::new(),
            is_heard: AtomicBool::new(false),
        }
    }

    /// The connection to a server, a new one if the server's settings are others now.
    pub(super) fn link(&self, server: &Arc<Server>) -> Arc<Link> {
        let mut links = self.links.lock();
        if let Some(link) = links.get(&server.id)
            && link.server.is_same(server)
        {
            return Arc::clone(link);
        }
        let link = Arc::new(Link::new(Arc::clone(server), Arc::clone(&self.client)));
        links.insert(server.id.clone(), Arc::clone(&link));
        drop(links);
        self.linked.notify_one();
        link
    }

    /// All connections.
    pub(super) fn links(&self) -> Vec<Arc<Link>> {
        self.links.lock().values().cloned().collect()
    }

    /// The text of the id by which the client knows a server's request; nothing if too many wait.
    pub(super) fn ask(&self, link: &Arc<Link>, id: String) -> Option<String> {
        let number = self.last_asked.fetch_add(1, Ordering::Relaxed) + 1;
        let mut asked = self.asked.lock();
        if ASKED_MAX <= asked.len() {
            return None;
        }
        let link = Arc::clone(link);
        asked.insert(number, Asked { link, id });
        Some(format!("\"{ASKED_PREFIX}{number}\""))
    }

    /// The server's request that the client answers.
    pub(super) fn answered(&self, id: &str) -> Option<Asked> {
        let number = id
            .strip_prefix('"')?
            .strip_prefix(ASKED_PREFIX)?
            .strip_suffix('"')?;
        self.asked.lock().remove(&number.parse().ok()?)
    }

    /// Notes which request of a server answers a request of the client.
    pub(super) fn begin(
        &self,
        client_id: &str,
        link: &Arc<Link>,
        id: &str,
        cancelled: &CancellationToken,
    ) {
        // Ids of clients that share a session may be equal, but those cancel in another way.
        let mut in_flight = self.in_flight.lock();
        if in_flight.len() < IN_FLIGHT_MAX && !self.id.is_empty() {
            let request = InFlight {
                link: Arc::clone(link),
                id: id.to_owned(),
                cancelled: cancelled.clone(),
            };
            in_flight.insert(client_id.to_owned(), request);
        }
    }

    /// Forgets a request of the client's; returns it if it was not answered yet.
    pub(super) fn end(&self, client_id: &str) -> Option<InFlight> {
        self.in_flight.lock().remove(client_id)
    }

    /// Takes the place of the one who listens; nothing if somebody has it.
    pub(super) fn hear(self: &Arc<Self>) -> Option<Hearing> {
        let was_heard = self.is_heard.swap(true, Ordering::AcqRel);
        (!was_heard).then(|| Hearing(Arc::clone(self)))
    }

    fn is_idle(&self) -> bool {
        !self.is_heard.load(Ordering::Acquire) && IDLE_MAX < self.used.lock().elapsed()
    }
}

/// The place of the one who listens to a session.
#[derive(Debug)]
pub(super) struct Hearing(Arc<Session>);

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.is_heard.store(false, Ordering::Release);
        *self.0.used.lock() = Instant::now();
    }
}

/// The sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    /// By id, or by key and path for those that clients do not see.
    all: Mutex<HashMap<String, Arc<Session>>>,
    swept: Mutex<Instant>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            swept: Mutex::new(Instant::now()),
        }
    }
}

impl Sessions {
    /// Opens a session. Returns those that ended for it too.
    pub(super) fn open(
        &self,
        account: &str,
        path: &str,
        client: Client,
    ) -> (Option<Arc<Session>>, Vec<Arc<Session>>) {
        let mut all = self.all.lock();
        let mut ended = self.sweep(&mut all, true);
        let mut own: Vec<_> = all
            .values()
            .filter(|session| session.account == account && !session.id.is_empty())
            .map(|session| (*session.used.lock(), session.id.clone()))
            .collect();
        if SESSIONS_PER_KEY_MAX <= own.len() {
            own.sort();
            ended.extend(own.first().and_then(|(_, id)| all.remove(id)));
        }
        if SESSIONS_MAX <= all.len() {
            return (None, ended);
        }
        let id = format!("{:032x}", rand::random::<u128>());
        let session = Arc::new(Session::new(id.clone(), account, path, client));
        all.insert(id, Arc::clone(&session));
        (Some(session), ended)
    }

    /// The session of this id, if it is the account's and of this path: to others it does not exist.
    pub(super) fn get(&self, id: &str, account: &str, path: &str) -> Option<Arc<Session>> {
        let all = self.all.lock();
        let session = all.get(id)?;
        if session.id != id || session.account != account || session.path != path {
            return None;
        }
        *session.used.lock() = Instant::now();
        Some(Arc::clone(session))
    }

    /// The session that a key's requests share whose clients have none. Nobody in particular gets a new one each time.
    pub(super) fn shared(&self, account: &str, path: &str, client: Client) -> Arc<Session> {
        let fresh = || Arc::new(Session::new(String::new(), account, path, client));
        if account.is_empty() {
            return fresh();
        }
        let mut all = self.all.lock();
        // No id has a space.
        let place = format!("{account} {path}");
        if let Some(session) = all.get(&place) {
            *session.used.lock() = Instant::now();
            return Arc::clone(session);
        }
        let session = fresh();
        if all.len() < SESSIONS_MAX {
            all.insert(place, Arc::clone(&session));
        }
        session
    }

    /// Ends a session of the account and this path.
    pub(super) fn end(&self, id: &str, account: &str, path: &str) -> Option<Arc<Session>> {
        self.get(id, account, path)?;
        self.all.lock().remove(id)
    }

    /// Ends the sessions that nobody uses, at most once a minute.
    pub(super) fn end_idle(&self) -> Vec<Arc<Session>> {
        self.sweep(&mut self.all.lock(), false)
    }

    fn sweep(&self, all: &mut HashMap<String, Arc<Session>>, is_full: bool) -> Vec<Arc<Session>> {
        let mut swept = self.swept.lock();
        if swept.elapsed() < SWEEP_EVERY && !(is_full && SESSIONS_MAX <= all.len()) {
            return Vec::new();
        }
        *swept = Instant::now();
        all.extract_if(|_, session| session.is_idle())
            .map(|(_, session)| session)
            .collect()
    }
}
