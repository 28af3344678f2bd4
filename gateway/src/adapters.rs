//! Adapters: which replicas hold which LoRA adapter, what it costs to use one where it is not, and loading it there.
//!
//! Engines tell what they hold when they are asked: `poll` asks each replica of targets with adapters now and then, and
//! nobody at all while there are none. `load` has an engine load what it lacks, where the target says from where. What is
//! known of a replica is a guess that may be some seconds old; a request that finds it wrong is tried again.

mod load;
mod poll;
mod report;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::RwLock;
use protocol::snapshot::Adapter;
use tokio::sync::Semaphore;

use self::report::Report;
pub(crate) use self::{load::ensure, poll::follow, report::Busyness};

/// Seconds that a request waits for an adapter that the engine has to load from a disk or farther away.
const LOAD_SECONDS: f64 = 2.0;
/// Seconds that a request waits for an adapter that the engine has, but not beside the running requests.
const SWAP_SECONDS: f64 = 0.05;
/// How long a replica is not asked again to load what it could not.
const REFUSAL: Duration = Duration::from_secs(10);

/// How a replica stands to an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holding {
    /// Nobody has asked it yet, or it did not say.
    Unknown,
    /// It does not have it.
    Absent,
    /// It could not load it a moment ago.
    Refused,
    /// It has it.
    Loaded,
    /// Requests run with it there.
    Active,
}

/// What a replica holds.
#[derive(Debug)]
pub(crate) struct Held {
    report: RwLock<Option<Report>>,
    refused: RwLock<HashMap<String, Instant>>,
    /// One load at a time; who waits finds it loaded.
    loading: Semaphore,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            report: RwLock::default(),
            refused: RwLock::default(),
            loading: Semaphore::new(1),
        }
    }
}

impl Held {
    /// How it stands to an adapter.
    pub(crate) fn holding(&self, name: &str, now: Instant) -> Holding {
        let known = match &*self.report.read() {
            None => Holding::Unknown,
            Some(report) if report.active.contains(name) => Holding::Active,
            Some(report) if report.loaded.contains(name) => Holding::Loaded,
            Some(_) => Holding::Absent,
        };
        let is_refused = || {
            let refused = self.refused.read();
            refused.get(name).is_some_and(|until| now < *until)
        };
        match known {
            Holding::Unknown | Holding::Absent if is_refused() => Holding::Refused,
            known => known,
        }
    }

    /// Seconds that a request for the adapter waits for it here; `None` if it would wait in vain.
    pub(crate) fn seconds(&self, adapter: &Adapter, now: Instant) -> Option<f64> {
        match (self.holding(&adapter.name, now), &adapter.path) {
            (Holding::Active, _) => Some(0.0),
            (Holding::Loaded | Holding::Unknown, _) => Some(SWAP_SECONDS),
            (Holding::Absent, Some(_)) => Some(LOAD_SECONDS),
            (Holding::Absent, None) | (Holding::Refused, _) => None,
        }
    }

    /// How busy the replica says that it is; nothing if it was not asked or did not say.
    pub(crate) fn busyness(&self) -> Option<Busyness> {
        Some(self.report.read().as_ref()?.busyness)
    }

    /// Notes what the replica says; nothing if it did not.
    fn note(&self, report: Option<Report>) {
        *self.report.write() = report;
    }

    /// Notes that it has loaded an adapter.
    fn note_loaded(&self, name: &str) {
        self.refused.write().remove(name);
        if let Some(report) = &mut *self.report.write() {
            report.loaded.insert(name.to_owned());
        }
    }

    /// Notes that it could not load an adapter.
    fn note_refused(&self, name: &str, now: Instant) {
        let mut refused = self.refused.write();
        refused.retain(|_, until| now < *until);
        refused.insert(name.to_owned(), now + REFUSAL);
    }

    /// Notes that it has an adapter no more.
    pub(crate) fn note_absent(&self, name: &str) {
        if let Some(report) = &mut *self.report.write() {
            report.loaded.remove(name);
            report.active.remove(name);
        }
    }
}

/// The adapter of these that a model's name asks for: alone, or behind a colon.
pub(crate) fn find<'a>(adapters: &'a [Adapter], model: &str) -> Option<&'a Adapter> {
    let behind = model.rsplit_once(':').map(|(_, name)| name);
    let mut adapters = adapters.iter();
    adapters.find(|adapter| adapter.name == model || Some(&*adapter.name) == behind)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use protocol::snapshot::Adapter;

    use super::{Held, Holding, LOAD_SECONDS, REFUSAL, SWAP_SECONDS, find, report::Report};

    fn adapter(name: &str, path: Option<&str>) -> Adapter {
        Adapter {
            name: name.to_owned(),
            model: name.to_owned(),
            path: path.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn an_adapter_is_named_alone_or_behind_a_colon() {
        let adapters = [adapter("pirate", None), adapter("poet", None)];
        let check = |model: &str, expected: Option<&str>| {
            let found = find(&adapters, model).map(|adapter| adapter.name.as_str());
            assert_eq!(found, expected, "{model}");
        };
        check("pirate", Some("pirate"));
        check("chat:poet", Some("poet"));
        check("a:b:poet", Some("poet"));
        check("chat", None);
        check("chat:7b", None);
        check("pirates", None);
    }

    #[test]
    fn what_a_replica_lacks_costs_what_loading_takes() {
        let held = Held::default();
        let now = Instant::now();
        let seconds = |name: &str, path| held.seconds(&adapter(name, path), now);
        assert_eq!(seconds("a", None), Some(SWAP_SECONDS));
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        held.note(Some(Report {
            loaded: names(&["a", "b"]),
            active: names(&["a"]),
            ..Report::default()
        }));
        assert_eq!(seconds("a", None), Some(0.0));
        assert_eq!(seconds("b", None), Some(SWAP_SECONDS));
        assert_eq!(seconds("c", None), None);
        assert_eq!(seconds("c", Some("/c")), Some(LOAD_SECONDS));
        held.note_refused("c", now);
        assert_eq!(seconds("c", Some("/c")), None);
        assert_eq!(held.holding("c", now + REFUSAL), Holding::Absent);
        held.note_loaded("c");
        assert_eq!(seconds("c", None), Some(SWAP_SECONDS));
        held.note_absent("a");
        assert_eq!(held.holding("a", now), Holding::Absent);
    }
}
