//! Which replica of a data plane has which edition, and so whether an object is programmed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crds::condition::Reason;
use protocol::snapshot::Ack;

use super::Edition;
use crate::{conditions::Verdict, queue::Key};

/// Editions that are remembered for late acknowledgements.
const HISTORY_MAX: usize = 64;
/// Replicas of one plane.
const REPLICAS_MAX: usize = 1024;

/// What is known of a plane's replicas.
#[derive(Debug, Default)]
pub(crate) struct Replicas {
    history: VecDeque<Arc<Edition>>,
    by_name: BTreeMap<String, Replica>,
}

#[derive(Debug, Default)]
struct Replica {
    connections: usize,
    acked: Option<String>,
    refused: Option<String>,
}

/// Whether an object is programmed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programmed {
    /// The newest edition, if it holds the object's generation.
    pub(crate) version: Option<String>,
    pub(crate) verdict: Verdict,
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
        if REPLICAS_MAX <= self.by_name.len() && !self.by_name.contains_key(node) {
            return false;
        }
        self.by_name.entry(node.to_owned()).or_default().connections += 1;
        true
    }

    pub(crate) fn disconnected(&mut self, node: &str) {
        if let Some(replica) = self.by_name.get_mut(node) {
            replica.connections = replica.connections.saturating_sub(1);
            if replica.connections == 0 {
                self.by_name.remove(node);
            }
        }
    }

    /// Takes an acknowledgement; false if the replica has no stream, or says nothing new.
    pub(crate) fn acknowledged(&mut self, ack: Ack) -> bool {
        let Ack {
            node,
            version,
            error,
        } = ack;
        let Some(replica) = self.by_name.get_mut(&node) else {
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

    pub(crate) fn connections(&self) -> usize {
        self.by_name.len()
    }

    /// Whether every replica that matters has this generation: those connected and those whose Pods are ready.
    pub(crate) fn programmed(
        &self,
        plane: &str,
        key: &Key,
        generation: i64,
        ready: &[String],
    ) -> Programmed {
        let newest = self
            .history
            .back()
            .filter(|edition| edition.holds.get(key) == Some(&generation));
        let version = newest.map(|edition| edition.version.clone());
        let verdict = self.verdict(plane, key, generation, ready);
        Programmed { version, verdict }
    }

    fn verdict(&self, plane: &str, key: &Key, generation: i64, ready: &[String]) -> Verdict {
        let expected: BTreeSet<&String> = ready.iter().chain(self.by_name.keys()).collect();
        if expected.is_empty() {
            return Verdict::waits(
                Reason::Pending,
                format!("no replica of the {plane} is connected"),
            );
        }
        let has = |node: &String| {
            let acked = self
                .by_name
                .get(node)
                .and_then(|replica| replica.acked.as_ref());
            let edition = acked.and_then(|version| {
                self.history
                    .iter()
                    .rev()
                    .find(|edition| edition.version == *version)
            });
            edition.is_some_and(|edition| edition.holds.get(key) == Some(&generation))
        };
        let missing: Vec<&String> = expected.iter().copied().filter(|node| !has(node)).collect();
        let counts = format!(
            "{} of {} replicas of the {plane}",
            expected.len() - missing.len(),
            expected.len()
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
            None if missing.len() < expected.len() => Verdict::waits(
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

    use super::{Edition, Replicas};
    use crate::queue::Key;

    fn key() -> Key {
        Key::new("n", "r")
    }

    fn edition(version: &str, generation: i64) -> Arc<Edition> {
        Arc::new(Edition {
            version: version.to_owned(),
            line: Bytes::new(),
            holds: BTreeMap::from([(key(), generation)]),
        })
    }

    fn ack(node: &str, version: &str, error: Option<&str>) -> Ack {
        Ack {
            node: node.to_owned(),
            version: version.to_owned(),
            error: error.map(str::to_owned),
        }
    }

    #[track_caller]
    fn check(replicas: &Replicas, generation: i64, ready: &[&str], expected: Reason) {
        let ready: Vec<String> = ready.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(
            replicas
                .programmed("gateway", &key(), generation, &ready)
                .verdict
                .reason,
            expected
        );
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
