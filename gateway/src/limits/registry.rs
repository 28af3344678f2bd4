//! The meters of all limits, which outlive the tables that name them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::Per;

use super::{
    Resource,
    meter::{Capacity, Meter},
};

/// Meters of one limit from which on idle ones are forgotten.
const METERS_KEPT: usize = 1024;

/// What was spent of a route's budgets: by whom, since when. An empty account means all of the route's.
pub(crate) type Spent = dyn Fn(&str, Per, Timestamp) -> HashMap<String, u64> + Send + Sync;

/// The meters of all limits in use.
pub(crate) struct Registry {
    meters: Mutex<HashMap<Id, Weak<Meters>>>,
    spent: Box<Spent>,
}

/// A limit: its route, its name, and what it limits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Id {
    route: String,
    name: String,
    resource: Resource,
    per: Per,
}

/// The meters of one limit, by account.
#[derive(Debug)]
pub(super) struct Meters {
    by_account: Mutex<HashMap<String, Arc<Meter>>>,
    capacity: Capacity,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Registry").finish_non_exhaustive()
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Box::new(|_, _, _| HashMap::new()))
    }
}

impl Registry {
    /// A registry that asks once for each budget what was spent before.
    pub(crate) fn new(spent: Box<Spent>) -> Self {
        Self {
            meters: Mutex::default(),
            spent,
        }
    }

    /// The meters of a limit: those that are there, as long as what is limited is the same.
    pub(super) fn meters(
        &self,
        route: &str,
        name: &str,
        resource: Resource,
        per: Per,
        capacity: Capacity,
    ) -> Arc<Meters> {
        let id = Id {
            route: route.to_owned(),
            name: name.to_owned(),
            resource,
            per,
        };
        let mut meters = self.meters.lock();
        meters.retain(|_, meters| 0 < meters.strong_count());
        let known = meters.get(&id).and_then(Weak::upgrade);
        if let Some(known) = known
            && known.capacity.is_renewed_as(capacity)
        {
            return known;
        }
        let now = Timestamp::now();
        let spent = capacity
            .window_start(now)
            .map(|start| (self.spent)(route, per, start))
            .unwrap_or_default();
        let meter = |(account, amount)| (account, Arc::new(Meter::with(amount, now)));
        let made = Arc::new(Meters {
            by_account: Mutex::new(spent.into_iter().map(meter).collect()),
            capacity,
        });
        meters.insert(id, Arc::downgrade(&made));
        made
    }
}

impl Meters {
    /// The meter of an account.
    pub(super) fn of(&self, account: &str) -> Arc<Meter> {
        let mut by_account = self.by_account.lock();
        if let Some(meter) = by_account.get(account) {
            return Arc::clone(meter);
        }
        if METERS_KEPT <= by_account.len() && by_account.len().is_power_of_two() {
            let now = Timestamp::now();
            by_account.retain(|_, meter| {
                1 < Arc::strong_count(meter) || !meter.is_idle(self.capacity, now)
            });
        }
        let meter = Arc::new(Meter::default());
        by_account.insert(account.to_owned(), Arc::clone(&meter));
        meter
    }
}
