//! The book: what is known of all replicas' parts of a pool.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::limits::Capacity;

/// How new a replica's word is: words of a later start, and later words of one start, replace others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// When the replica started, in microseconds since 1970.
    pub(super) incarnation: u64,
    /// Counts its words.
    pub(super) turn: u64,
}

/// One replica's part of a pool, in the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// How new this is.
    pub(super) stamp: Stamp,
    /// What it has used.
    pub(super) spent: u64,
    /// What its requests in progress may need.
    pub(super) reserved: u64,
    /// What it may use in all: never less than both together.
    pub(super) ceiling: u64,
}

/// What has come back of a rate since the pool began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Returned {
    amount: f64,
    /// Until when, in milliseconds since 1970; zero before the first look.
    at_millis: i64,
}

/// What is known of all parts. Books of several replicas merge to what the newest words say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Book {
    parts: BTreeMap<String, Part>,
    /// What earlier starts of replicas may have used of a rate, which no ledger remembers.
    gone: u64,
    returned: Returned,
}

impl Book {
    /// The parts, by the replicas' names.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&str, &Part)> {
        self.parts.iter().map(|(name, part)| (name.as_str(), part))
    }

    /// A replica's part.
    pub(super) fn part(&self, name: &str) -> Part {
        self.parts.get(name).copied().unwrap_or_default()
    }

    /// Takes a replica's word if it is newer than what is known; whether it was.
    pub(super) fn hear(&mut self, name: &str, part: Part, capacity: Capacity) -> bool {
        let known = self.part(name);
        if part.stamp <= known.stamp {
            return false;
        }
        if capacity.is_rate() && known.stamp.incarnation < part.stamp.incarnation {
            self.gone = self.gone.saturating_add(known.ceiling);
        }
        self.parts.insert(name.to_owned(), part);
        true
    }

    /// Raises what a replica may use.
    pub(super) fn raise(&mut self, name: &str, ceiling: u64) {
        let part = self.parts.entry(name.to_owned()).or_default();
        part.ceiling = part.ceiling.max(ceiling);
    }

    /// Takes over what another book knows better. Of equally new words the one that allows more is right: the owner
    /// has raised it.
    pub(super) fn merge(&mut self, other: &Self, capacity: Capacity) {
        for (name, part) in &other.parts {
            let known = self.part(name);
            if known.stamp == part.stamp {
                self.raise(name, part.ceiling);
            } else {
                self.hear(name, *part, capacity);
            }
        }
        self.gone = self.gone.max(other.gone);
        if self.returned.at_millis < other.returned.at_millis {
            self.returned = other.returned;
        }
    }

    /// Forgets who is not among the replicas: nothing of theirs is in progress any more.
    pub(super) fn retain(&mut self, is_there: impl Fn(&str) -> bool) {
        self.parts.retain(|name, _| is_there(name));
    }

    /// A new window begins: nothing of it is used, and what is in progress counts in the one before.
    pub(super) fn roll(&mut self) {
        for part in self.parts.values_mut() {
            (part.spent, part.reserved, part.ceiling) = (0, 0, 0);
        }
    }

    /// Lets come back what came back of a rate until now.
    pub(super) fn refill(&mut self, capacity: Capacity, now: Timestamp) {
        let Some(per_second) = capacity.per_second() else {
            return;
        };
        let now = now.as_millisecond();
        let passed = match self.returned.at_millis {
            0 => 0,
            at => (now - at).max(0),
        };
        self.returned.at_millis = self.returned.at_millis.max(now);
        let back = self.returned.amount + per_second * passed as f64 / 1000.0;
        // No more comes back than was given.
        self.returned.amount = back.min(self.given() as f64);
    }

    /// What may be given in all by now.
    pub(super) fn allowed(&self, capacity: Capacity) -> u128 {
        u128::from(capacity.limit()) + self.returned.amount as u128
    }

    /// What all but this replica may use.
    pub(super) fn others(&self, name: &str) -> u128 {
        let others = self.parts.iter().filter(|(other, _)| *other != name);
        let ceilings = others.map(|(_, part)| u128::from(part.ceiling));
        ceilings.sum::<u128>() + u128::from(self.gone)
    }

    /// What all have used, as far as it is known.
    pub(super) fn spent(&self) -> u128 {
        let spent = self.parts.values().map(|part| u128::from(part.spent));
        spent.sum::<u128>() + u128::from(self.gone)
    }

    fn given(&self) -> u128 {
        self.others("")
    }
}
