//! Endpoints: one replica each, with its load and its health, which outlive the tables that name it.

mod health;
mod pace;

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use http::Uri;
use parking_lot::Mutex;
use protocol::routing;

use self::health::Health;
pub(crate) use self::{
    health::{Aside, Cooled, Standing},
    pace::Pace,
};
use crate::{
    adapters::Held,
    call::Operation,
    hedging::Hedging,
    prefix::{ENTRIES_DEFAULT, Picker, Seat},
    retry::Budget,
};

/// One replica of a target.
pub(crate) struct Endpoint {
    url: String,
    /// Where others can send requests to, if it is an IP address that is asked below `/v1` without encryption.
    destination: Option<SocketAddr>,
    /// By operation, made when somebody asks for one.
    uris: [OnceLock<Box<Uri>>; Operation::ALL.len()],
    in_flight: AtomicUsize,
    health: Mutex<Health>,
    /// What was learned of how it answers.
    pub(crate) pace: Pace,
    /// The adapters that it holds.
    pub(crate) adapters: Held,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Endpoint")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// One request's place at an endpoint; ends when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    endpoint: Arc<Endpoint>,
}

impl Lease {
    /// Where the request is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endpoint {
    fn new(url: &str) -> Option<Self> {
        // The paths differ in nothing that a URI may not have, so that one speaks for all.
        address(url, Operation::Chat).parse::<Uri>().ok()?;
        Some(Self {
            url: url.to_owned(),
            destination: destination(url),
            uris: Default::default(),
            in_flight: AtomicUsize::new(0),
            health: Mutex::default(),
            pace: Pace::default(),
            adapters: Held::default(),
        })
    }

    /// The base URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Where others can send requests to as they came; `None` if they cannot.
    pub(crate) const fn destination(&self) -> Option<SocketAddr> {
        self.destination
    }

    /// Where requests for this operation go.
    pub(crate) fn uri(&self, operation: Operation) -> &Uri {
        self.uris[operation as usize]
            .get_or_init(|| Box::new(address(&self.url, operation).parse().unwrap_or_default()))
    }

    /// Requests in progress.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How it stands.
    pub(crate) fn standing(&self, now: Instant) -> Standing {
        self.health.lock().standing(now)
    }

    /// Whether a request may be sent now.
    pub(crate) fn is_usable(&self, now: Instant) -> bool {
        self.standing(now) == Standing::Usable
    }

    /// Begins a request; one that finds the endpoint ejected is its probe.
    pub(crate) fn begin(self: &Arc<Self>, now: Instant) -> Lease {
        self.health.lock().begin(now);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Lease {
            endpoint: Arc::clone(self),
        }
    }

    /// Notes that the endpoint answered.
    pub(crate) fn note_success(&self, now: Instant) {
        self.health.lock().succeed(now);
    }

    /// How often it was left out.
    pub(crate) fn cooled(&self) -> Cooled {
        self.health.lock().cooled()
    }

    /// Sets it aside until then: it is alive, but takes no requests.
    pub(crate) fn set_aside(&self, until: Instant, why: Aside) {
        self.health.lock().set_aside(until, why);
    }

    /// Notes that the endpoint did not answer; whether that ejects it.
    pub(crate) fn note_failure(&self, now: Instant) -> bool {
        self.health.lock().fail(now)
    }
}

/// The address in a base URL that others can send requests to by it alone.
fn destination(url: &str) -> Option<SocketAddr> {
    let authority = url.trim_end_matches('/').strip_prefix("http://")?;
    let authority = authority.strip_suffix("/v1")?;
    authority.parse().ok()
}

/// The URL of an operation at a server with this base URL.
fn address(url: &str, operation: Operation) -> String {
    let base = url.trim_end_matches('/');
    let base = match operation.is_beside_v1() {
        true => base.strip_suffix("/v1").unwrap_or(base),
        false => base,
    };
    format!("{base}{}", operation.path())
}

/// What is known of the caches of a target's replicas.
#[derive(Debug)]
pub(crate) struct Caches {
    /// Who picks.
    pub(crate) picker: Arc<Picker>,
    /// The replicas' seats, in their order.
    pub(crate) seats: Vec<Arc<Seat>>,
}

impl Caches {
    /// Forgets what a replica has.
    pub(crate) fn forget(&self, endpoint: &Endpoint) {
        let seat = self.seats.iter().find(|seat| seat.name() == endpoint.url);
        if let Some(seat) = seat {
            self.picker.forget(seat);
        }
    }
}

/// The SHA-256 of a credential.
pub(crate) type Digest = [u8; 32];

/// What makes an endpoint: one server has a health of its own for each model and each credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Identity {
    url: String,
    model: String,
    credential: Option<Digest>,
}

/// All endpoints that any table in use names, and the retry budgets of all routes.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    known: Mutex<HashMap<Identity, Weak<Endpoint>>>,
    budgets: Mutex<HashMap<String, Weak<Budget>>>,
    pickers: Mutex<HashMap<String, Weak<Picker>>>,
    hedgings: Mutex<HashMap<String, (routing::Hedging, Weak<Hedging>)>>,
}

impl Endpoints {
    /// The endpoint of this URL for a model and a credential; `None` if no request can be sent there.
    pub(crate) fn get(
        &self,
        url: &str,
        model: &str,
        credential: Option<Digest>,
    ) -> Option<Arc<Endpoint>> {
        let identity = Identity {
            url: url.to_owned(),
            model: model.to_owned(),
            credential,
        };
        let mut known = self.known.lock();
        if let Some(endpoint) = known.get(&identity).and_then(Weak::upgrade) {
            return Some(endpoint);
        }
        let endpoint = Arc::new(Endpoint::new(url)?);
        known.insert(identity, Arc::downgrade(&endpoint));
        Some(endpoint)
    }

    /// Forgets what no table names any more: once for a table, not once for each of its routes.
    pub(crate) fn sweep(&self) {
        fn keep<K, T>(_: &K, known: &mut Weak<T>) -> bool {
            0 < known.strong_count()
        }
        self.known.lock().retain(keep);
        self.budgets.lock().retain(keep);
        self.pickers.lock().retain(keep);
        let mut hedgings = self.hedgings.lock();
        hedgings.retain(|route, (_, hedging)| keep(route, hedging));
    }

    /// What is known of the caches of a target's replicas; `None` if there are too many of them.
    pub(crate) fn caches(&self, target: &str, endpoints: &[Arc<Endpoint>]) -> Option<Caches> {
        let mut pickers = self.pickers.lock();
        let known = pickers.get(target).and_then(Weak::upgrade);
        let picker = known.unwrap_or_else(|| {
            let picker = Arc::new(Picker::new(ENTRIES_DEFAULT));
            pickers.insert(target.to_owned(), Arc::downgrade(&picker));
            picker
        });
        let seats = endpoints.iter().map(|endpoint| picker.seat(&endpoint.url));
        let seats = seats.collect::<Option<_>>()?;
        Some(Caches { picker, seats })
    }

    /// The hedging of this route; it begins anew when its settings change.
    pub(crate) fn hedging(&self, route: &str, settings: routing::Hedging) -> Arc<Hedging> {
        let mut hedgings = self.hedgings.lock();
        if let Some((known, hedging)) = hedgings.get(route)
            && *known == settings
            && let Some(hedging) = hedging.upgrade()
        {
            return hedging;
        }
        let hedging = Arc::new(Hedging::new(settings));
        hedgings.insert(route.to_owned(), (settings, Arc::downgrade(&hedging)));
        hedging
    }

    /// The retry budget of this route.
    pub(crate) fn budget(&self, route: &str) -> Arc<Budget> {
        let mut budgets = self.budgets.lock();
        if let Some(budget) = budgets.get(route).and_then(Weak::upgrade) {
            return budget;
        }
        let budget = Arc::new(Budget::default());
        budgets.insert(route.to_owned(), Arc::downgrade(&budget));
        budget
    }
}
