//! What a controller did and has not seen yet: until it has, counting the cache would do it twice.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::cache::Key;

/// An expectation that was not met by then was lost with its event; the next list has told the truth since.
const EXPIRES_AFTER: Duration = Duration::from_secs(60);

/// A change of a child that the watch is going to show.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Expected {
    /// The child of this name appears.
    Created(Key),
    /// The child of this uid is gone or going.
    Deleted(String),
}

/// Expected changes by owner.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    open: Mutex<HashMap<Key, Open>>,
}

#[derive(Debug)]
struct Open {
    changes: HashSet<Expected>,
    since: Instant,
}

impl Expectations {
    /// Notes a change that is about to be asked for; call it before the request, as the event may outrun the answer.
    pub(crate) fn expect(&self, owner: &Key, change: Expected) {
        let mut open = self.open.lock();
        let entry = open.entry(owner.clone()).or_insert_with(|| Open {
            changes: HashSet::new(),
            since: Instant::now(),
        });
        entry.changes.insert(change);
        entry.since = Instant::now();
    }

    /// Notes that a change was seen, or that its request failed.
    pub(crate) fn meet(&self, owner: &Key, change: &Expected) {
        let mut open = self.open.lock();
        if let Some(entry) = open.get_mut(owner) {
            entry.changes.remove(change);
            if entry.changes.is_empty() {
                open.remove(owner);
            }
        }
    }

    /// How long the cache may still lag behind; `None` if it has caught up.
    pub(crate) fn wait(&self, owner: &Key, now: Instant) -> Option<Duration> {
        let mut open = self.open.lock();
        let left =
            EXPIRES_AFTER.saturating_sub(now.saturating_duration_since(open.get(owner)?.since));
        if left.is_zero() {
            open.remove(owner);
            return None;
        }
        Some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{EXPIRES_AFTER, Expectations, Expected};
    use crate::cache::Key;

    #[test]
    fn an_expectation_ends_when_it_is_met_or_expires() {
        let (owner, created) = (Key::new("n", "rs"), Expected::Created(Key::new("n", "pod")));
        let expectations = Expectations::default();
        let lags = |later: Duration| expectations.wait(&owner, Instant::now() + later).is_some();
        assert!(!lags(Duration::ZERO));
        expectations.expect(&owner, created.clone());
        assert!(lags(Duration::ZERO));
        expectations.meet(&owner, &created);
        assert!(!lags(Duration::ZERO));
        expectations.expect(&owner, Expected::Deleted("u".to_owned()));
        assert!(lags(EXPIRES_AFTER / 2));
        assert!(!lags(EXPIRES_AFTER + Duration::from_secs(1)));
    }
}
