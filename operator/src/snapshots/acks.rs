//! Which replica of a data plane has which edition, and so whether an object is programmed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use crds::condition::Reason;
use protocol::snapshot::Ack;

use super::{Edition, Held};
use crate::{conditions::Verdict, queue::Key};

/// Editions that are remembered for late acknowledgements.
const HISTORY_MAX: usize = 64;
/// Replicas of one plane.
const REPLICAS_MAX: usize = 1024;

/// How long after the operator's start replicas have time to connect and acknowledge again.
pub(crate) const SETTLING: Duration = Duration::from_secs(15);

/// What is known of a plane's replicas.
#[derive(Debug)]
pub(crate) struct Replicas {
    since: Instant,
    history: VecDeque<Arc<Edition>>,
    by_name: BTreeMap<String, Replica>,
}

#[derive(Debug, Default)]
struct Replica {
    connections: usize,
    /// Kept over a lost connection: the replica goes on with what it has.
    acked: Option<String>,
    refused: Option<String>,
}

/// An object whose programming is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked<'a> {
    pub(crate) key: &'a Key,
    pub(crate) wanted: Held,
    /// Whether this generation was programmed when the status was last written.
    pub(crate) was_programmed: bool,
    /// Names of the plane's ready Pods.
    pub(crate) ready: &'a [String],
}

/// Whether an object is programmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programmed {
    /// The newest edition, if it holds the object's generation.
    pub(crate) version: Option<String>,
    pub(crate) verdict: Verdict,
    /// Whether every replica has the object's newest entries, addresses included.
    pub(crate) is_current: bool,
    /// Whether the verdict holds only until replicas had time to connect again.
    pub(crate) is_settling: bool,
}

impl Default for Replicas {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            history: VecDeque::new(),
            by_name: BTreeMap::new(),
        }
    }
}

impl Replicas {
    pub(super) fn published(&mut self, edition: Arc<Edition>) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(edition);
    }

    /// A replica opened a stream; false if there are too many.
    pub(crate) fn connected(&mut self, node: &str) -> bool {
        if REPLICAS_MAX <= self.by_name.len() {
            self.by_name
                .retain(|name, replica| 0 < replica.connections || name == node);
        }
        if REPLICAS_MAX <= self.by_name.len() && !self.by_name.contains_key(node) {
            return false;
        }
        self.by_name.entry(node.to_owned()).or_default().connections += 1;
        true
    }

    pub(crate) fn disconnected(&mut self, node: &str) {
        if let Some(replica) = self.by_name.get_mut(node) {
            replica.connections = replica.connections.saturating_sub(1);
        }
    }

    /// Takes an acknowledgement; false if the replica has no stream, or says nothing new.
    pub(crate) fn acknowledged(&mut self, ack: Ack) -> bool {
        let Ack {
            node,
            version,
            error,
        } = ack;
        let Some(replica) = self
            .by_name
            .get_mut(&node)
            .filter(|replica| 0 < replica.connections)
        else {
            return false;
        };
        let acked = if error.is_none() {
            Some(version)
        } else {
            replica.acked.clone()
        };
        let is_news = replica.acked != acked || replica.refused != error;
        replica.acked = acked;
        replica.refused = error;
        is_news
    }

    /// Replicas with an open stream.
    pub(crate) fn connections(&self) -> usize {
        self.by_name
            .values()
            .filter(|replica| 0 < replica.connections)
            .count()
    }

    /// Whether every replica that matters has this generation: those connected and those whose Pods are ready.
    pub(crate) fn programmed(&self, plane: &str, asked: &Asked<'_>) -> Programmed {
        let generation = asked.wanted.generation;
        let newest = self.history.back().filter(|edition| {
            edition
                .holds
                .get(asked.key)
                .is_some_and(|held| held.generation == generation)
        });
        let expected = self.expected(asked.ready);
        let has = |node: &String, is_enough: &dyn Fn(&Held) -> bool| {
            self.acked(node)
                .and_then(|edition| edition.holds.get(asked.key))
                .is_some_and(is_enough)
        };
        let missing: Vec<&String> = expected
            .iter()
            .copied()
            .filter(|node| !has(node, &|held| held.generation == generation))
            .collect();
        let is_current = expected
            .iter()
            .all(|node| has(node, &|held| *held == asked.wanted));
        let verdict = self.verdict(plane, expected.len(), &missing);
        // A restart of the operator forgets who acknowledged; data planes do not forget what they have.
        let is_new = self.since.elapsed() < SETTLING;
        let is_settling = is_new
            && asked.was_programmed
            && !verdict.is_true()
            && verdict.reason != Reason::Rejected;
        let verdict = if is_settling {
            let message =
                format!("replicas of the {plane} acknowledged before the operator started");
            Verdict::holds(Reason::Programmed, message)
        } else {
            verdict
        };
        Programmed {
            version: newest.map(|edition| edition.version.clone()),
            verdict,
            is_current: is_current || is_settling,
            is_settling,
        }
    }

    fn expected<'a>(&'a self, ready: &'a [String]) -> BTreeSet<&'a String> {
        let connected = self
            .by_name
            .iter()
            .filter(|(_, replica)| 0 < replica.connections);
        ready
            .iter()
            .chain(connected.map(|(name, _)| name))
            .collect()
    }

    /// The edition that a replica acknowledged last.
    fn acked(&self, node: &str) -> Option<&Edition> {
        let version = self.by_name.get(node)?.acked.as_ref()?;
        let edition = self
            .history
            .iter()
            .rev()
            .find(|edition| edition.version == *version)?;
        Some(edition)
    }

    fn verdict(&self, plane: &str, expected: usize, missing: &[&String]) -> Verdict {
        if expected == 0 {
            return Verdict::waits(
                Reason::Pending,
                format!("no replica of the {plane} is connected"),
            );
        }
        let counts = format!(
            "{} of {expected} replicas of the {plane}",
            expected - missing.len()
        );
        if missing.is_empty() {
            return Verdict::holds(Reason::Programmed, format!("{counts} acknowledged"));
        }
        let refusal = missing
            .iter()
            .find_map(|node| Some((node, self.by_name.get(*node)?.refused.as_ref()?)));
        match refusal {
            Some((node, why)) => Verdict::waits(
                Reason::Rejected,
                format!("{node} refused the snapshot: {why}"),
            ),
            None if missing.len() < expected => Verdict::waits(
                Reason::PartiallyProgrammed,
                format!("{counts} acknowledged"),
            ),
            None => Verdict::waits(Reason::Pending, format!("{counts} acknowledged")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use bytes::Bytes;
    use crds::condition::Reason;
    use protocol::snapshot::Ack;

    use super::{Asked, Edition, Held, Replicas};
    use crate::queue::Key;

    fn key() -> Key {
        Key::new("n", "r")
    }

    fn held(generation: i64, content: &str) -> Held {
        Held {
            generation,
            content: content.to_owned(),
        }
    }

    fn edition(version: &str, generation: i64) -> Arc<Edition> {
        Arc::new(Edition {
            version: version.to_owned(),
            line: Bytes::new(),
            holds: BTreeMap::from([(key(), held(generation, version))]),
        })
    }

    fn ack(node: &str, version: &str, error: Option<&str>) -> Ack {
        Ack {
            node: node.to_owned(),
            version: version.to_owned(),
            error: error.map(str::to_owned),
        }
    }

    fn ask<'a>(
        key: &'a Key,
        generation: i64,
        ready: &'a [String],
        was_programmed: bool,
    ) -> Asked<'a> {
        Asked {
            key,
            wanted: held(generation, "v2"),
            was_programmed,
            ready,
        }
    }

    #[track_caller]
    fn check(replicas: &Replicas, generation: i64, ready: &[&str], expected: Reason) {
        let ready: Vec<String> = ready.iter().map(|name| (*name).to_owned()).collect();
        let programmed = replicas.programmed("gateway", &ask(&key(), generation, &ready, false));
        assert_eq!(programmed.verdict.reason, expected);
    }

    #[test]
    fn a_restart_of_the_operator_takes_nothing_back() {
        let mut replicas = Replicas::default();
        replicas.published(edition("v1", 1));
        let ready = ["a".to_owned()];
        let before = replicas.programmed("gateway", &ask(&key(), 1, &ready, true));
        assert!(before.is_settling && before.verdict.is_true());
        assert!(replicas.connected("a"));
        assert!(replicas.acknowledged(ack("a", "", Some("bad regex"))));
        let refused = replicas.programmed("gateway", &ask(&key(), 1, &ready, true));
        assert!(!refused.is_settling && !refused.verdict.is_true());
    }

    #[test]
    fn what_is_current_has_the_newest_addresses() {
        let mut replicas = Replicas::default();
        replicas.published(edition("v1", 1));
        replicas.published(edition("v2", 1));
        assert!(replicas.connected("a"));
        for (version, is_current) in [("v1", false), ("v2", true)] {
            assert!(replicas.acknowledged(ack("a", version, None)));
            let programmed = replicas.programmed("gateway", &ask(&key(), 1, &[], false));
            assert!(programmed.verdict.is_true());
            assert_eq!(programmed.is_current, is_current, "{version}");
        }
    }

    #[test]
    fn a_replica_that_lost_its_stream_keeps_what_it_has() {
        let mut replicas = Replicas::default();
        replicas.published(edition("v1", 1));
        assert!(replicas.connected("a"));
        assert!(replicas.acknowledged(ack("a", "v1", None)));
        replicas.disconnected("a");
        check(&replicas, 1, &["a"], Reason::Programmed);
        check(&replicas, 1, &[], Reason::Pending);
        assert_eq!(replicas.connections(), 0);
    }

    #[test]
    fn an_object_is_programmed_when_every_replica_has_its_generation() {
        let mut replicas = Replicas::default();
        replicas.published(edition("v1", 1));
        check(&replicas, 1, &[], Reason::Pending);
        assert!(replicas.connected("a") && replicas.connected("b"));
        assert!(replicas.acknowledged(ack("a", "v1", None)));
        check(&replicas, 1, &["a"], Reason::PartiallyProgrammed);
        assert!(replicas.acknowledged(ack("b", "v1", None)));
        check(&replicas, 1, &["a", "b"], Reason::Programmed);
        // A ready Pod that never connected counts.
        check(&replicas, 1, &["c"], Reason::PartiallyProgrammed);
        // A newer generation is not programmed by older acknowledgements, an edition with other changes keeps it.
        replicas.published(edition("v2", 2));
        check(&replicas, 2, &[], Reason::Pending);
        check(&replicas, 1, &[], Reason::Programmed);
        assert!(replicas.acknowledged(ack("a", "v2", Some("bad regex"))));
        check(&replicas, 2, &[], Reason::Rejected);
        replicas.disconnected("a");
        assert!(replicas.acknowledged(ack("b", "v2", None)));
        check(&replicas, 2, &[], Reason::Programmed);
    }

    #[test]
    fn an_acknowledgement_needs_a_stream_and_counts_once() {
        let mut replicas = Replicas::default();
        assert!(!replicas.acknowledged(ack("a", "v1", None)));
        replicas.connected("a");
        assert!(replicas.acknowledged(ack("a", "v1", None)));
        assert!(!replicas.acknowledged(ack("a", "v1", None)));
    }
}
