//! Cache: answers that are given again to equal requests of a route, and equal requests at once that are sent only once.
//!
//! - What is kept is what the upstream answered, before guards looked at it: they look again each time it is given.
//! - Only complete answers without an error are kept; a stream is kept whole and given again as a stream.
//! - An answer is given to those only who share a scope: the key that asked, or all of the route.

mod control;
mod convert;
mod flight;
mod key;
mod recorder;
mod store;

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use protocol::snapshot::{self, Per};

use self::{
    control::Control,
    flight::{Flights, Landing, Role, join},
    key::{Key, key},
    store::{Room, Store},
};
pub(crate) use self::{flight::Lead, recorder::Recorder};
use crate::{authorize::Caller, decode::Decoded, provider::Tokens};

/// Headers of clients that providers are told of and answer by.
const BETAS: [&str; 3] = ["anthropic-beta", "anthropic-version", "openai-beta"];

/// Bytes that all caches of a gateway keep together.
const BYTES_MAX: u64 = 1 << 30;
/// An answer of more than this part of its cache would push out too many others.
const ANSWER_SHARE: u64 = 4;
/// Bytes of an answer that is kept: a stream is recorded while it passes.
const ANSWER_BYTES_MAX: u64 = 4 << 20;
/// Leaders that one request waits for; after that it goes on its own.
const LEADERS_MAX: usize = 2;

/// The caches of all routes, which outlive the tables that name them.
#[derive(Debug)]
pub(crate) struct Registry {
    caches: Mutex<HashMap<String, Weak<Cache>>>,
    room: Arc<Room>,
}

/// The cache of one route.
#[derive(Debug)]
pub(crate) struct Cache {
    store: Store,
    flights: Flights,
    settings: snapshot::Cache,
}

/// How an answer is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Form {
    /// As one body.
    Whole,
    /// As a stream of events.
    Stream,
}

/// Where an answer is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Place {
    key: Key,
    form: Form,
}

/// An answer that is given again.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    /// How it was sent.
    pub(crate) form: Form,
    /// Its body; all events of a stream, the usage included.
    pub(crate) body: Bytes,
    /// The target that gave it.
    pub(crate) target: String,
    /// What it used then.
    pub(crate) tokens: Option<Tokens>,
    /// When it was complete.
    pub(crate) kept_at: Instant,
}

/// What a cache says to a request.
#[derive(Debug)]
pub(crate) enum Found {
    /// An answer.
    Kept(Arc<Kept>),
    /// Nothing: the request is to be sent, and its answer kept.
    Missing(Lead),
    /// Nothing, and the answer is not to be kept.
    Bypass,
}

impl Found {
    /// The word in the answer's header and in metrics.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Kept(_) => "hit",
            Self::Missing(_) => "miss",
            Self::Bypass => "bypass",
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self {
            caches: Mutex::default(),
            room: Arc::new(Room::new(BYTES_MAX)),
        }
    }
}

impl Registry {
    /// Forgets the caches that no table names any more.
    pub(crate) fn sweep(&self) {
        let mut caches = self.caches.lock();
        caches.retain(|_, cache| 0 < cache.strong_count());
    }

    /// The cache of a route: the one that is there, as long as its settings are the same.
    pub(crate) fn cache(&self, route: &str, settings: snapshot::Cache) -> Arc<Cache> {
        let mut caches = self.caches.lock();
        let known = caches.get(route).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.settings == settings
        {
            return known;
        }
        let ttl = Duration::from_millis(settings.ttl_millis);
        let made = Arc::new(Cache {
            store: Store::new(ttl, settings.bytes_max, Arc::clone(&self.room)),
            flights: Flights::default(),
            settings,
        });
        caches.insert(route.to_owned(), Arc::downgrade(&made));
        made
    }
}

/// The scope of requests with the same headers among those that providers are told of and answer by.
fn with_betas<'a>(scope: &'a str, headers: &HeaderMap) -> Cow<'a, str> {
    let mut scope = Cow::Borrowed(scope);
    for name in BETAS {
        for value in headers.get_all(name) {
            let scope = scope.to_mut();
            scope.push('\n');
            scope.push_str(name);
            // A value that is no text is not sent by anybody whom a cache could help.
            scope.push_str(value.to_str().unwrap_or_default());
        }
    }
    scope
}

impl Cache {
    /// Looks for an answer, and waits until `until` for the one of an equal request that is on its way.
    pub(crate) async fn find(
        self: &Arc<Self>,
        caller: &Caller,
        headers: &HeaderMap,
        decoded: &Decoded,
        until: Instant,
    ) -> Found {
        let control = Control::of(headers);
        let scope = match self.settings.per {
            Per::Route => "",
            Per::Team => caller.team().unwrap_or(caller.account()),
            Per::User => caller.user().unwrap_or(caller.account()),
            // Tags and models say nothing of who may see an answer.
            Per::Key | Per::Tag | Per::Model => caller.account(),
        };
        let Some(key) = key(decoded, &with_betas(scope, headers)) else {
            return Found::Bypass;
        };
        let form = match decoded.fields.stream {
            true => Form::Stream,
            false => Form::Whole,
        };
        let place = Place { key, form };
        if !control.may_keep {
            return match control
                .takes_kept
                .then(|| self.get(place, decoded, &control))
            {
                Some(Some(kept)) => Found::Kept(kept),
                _ => Found::Bypass,
            };
        }
        if !control.takes_kept {
            return Found::Missing(Lead::alone(self, place));
        }
        for _ in 0..LEADERS_MAX {
            let role = join(self, place);
            // Asked only now: a leader that has just ended has kept its answer before it left.
            if let Some(kept) = self.get(place, decoded, &control) {
                return Found::Kept(kept);
            }
            match role {
                Role::Lead(lead) => return Found::Missing(lead),
                Role::Follow(mut flight) => {
                    let landed = flight.wait_for(|landing| !matches!(landing, Landing::Flying));
                    match tokio::time::timeout_at(until.into(), landed).await {
                        Ok(Ok(landing)) => match &*landing {
                            Landing::Kept(kept) => return Found::Kept(Arc::clone(kept)),
                            Landing::Flying | Landing::Unkept => break,
                        },
                        // The leader failed: whoever comes first leads.
                        Ok(Err(_)) => {}
                        Err(_) => break,
                    }
                }
            }
        }
        Found::Missing(Lead::alone(self, place))
    }

    /// The answer in the form that was asked for, perhaps made from the other one.
    fn get(&self, place: Place, decoded: &Decoded, control: &Control) -> Option<Arc<Kept>> {
        let now = Instant::now();
        let kept = self.store.get(&place, control.age_max, now);
        if kept.is_some() {
            return kept;
        }
        let form = match place.form {
            Form::Whole => Form::Stream,
            Form::Stream => Form::Whole,
        };
        let other = self
            .store
            .get(&Place { form, ..place }, control.age_max, now)?;
        let body = convert::convert(decoded.operation, &other)?;
        let kept = Arc::new(Kept {
            form: place.form,
            body,
            ..Kept::clone(&other)
        });
        self.store.insert(place, Arc::clone(&kept), now);
        Some(kept)
    }
}

impl Lead {
    /// Keeps an answer and gives it to those who wait.
    pub(crate) fn keep(self, kept: Kept) {
        let kept = Arc::new(kept);
        let store = &self.cache.store;
        store.insert(self.place, Arc::clone(&kept), kept.kept_at);
        self.land(Landing::Kept(kept));
    }

    /// Lets those who wait go on their own: this answer is nobody else's.
    pub(crate) fn give_up(self) {
        self.land(Landing::Unkept);
    }

    /// Bytes of an answer that can be kept.
    fn bytes_max(&self) -> usize {
        let share = self.cache.settings.bytes_max / ANSWER_SHARE;
        usize::try_from(share.min(ANSWER_BYTES_MAX)).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
impl Kept {
    /// An answer of just now.
    fn of(form: Form, body: Bytes) -> Self {
        Self {
            form,
            body,
            target: String::new(),
            tokens: None,
            kept_at: Instant::now(),
        }
    }
}
