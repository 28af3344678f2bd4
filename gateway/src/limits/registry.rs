//! The meters of all limits, which outlive the tables that name them.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::snapshot::Per;
use serde::{Deserialize, Serialize};

use super::{
    Resource,
    meter::{Capacity, Meter, Renewal},
};
use crate::{
    leases::{Fleet, Pool, PoolId},
    people::Kind,
};

/// Meters of one limit from which on idle ones are forgotten.
const METERS_KEPT: usize = 1024;

/// What was spent of the budgets of this scope: by whom, since when. An empty account means all of it.
pub(crate) type Spent = dyn Fn(&Scope, Per, Timestamp) -> HashMap<String, u64> + Send + Sync;

/// Who has a limit.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Scope {
    /// The route `NAMESPACE/NAME`.
    Route(String),
    /// A target of a route, whoever asks.
    Target {
        /// The route, `NAMESPACE/NAME`.
        route: String,
        /// The target's name there.
        target: String,
    },
    /// Somebody who is accountable.
    Party {
        /// What it is.
        kind: Kind,
        /// Which one.
        id: String,
        /// The models that count, a name or a pattern, if not all.
        model: Option<String>,
    },
}

/// The meters of all limits in use.
pub(crate) struct Registry {
    meters: Mutex<Known>,
    spent: Box<Spent>,
    /// The replicas that share limits.
    fleet: Option<Arc<Fleet>>,
}

#[derive(Debug, Default)]
struct Known {
    by_id: HashMap<MeterId, Weak<Meters>>,
    /// How many there may be before those that nobody uses are forgotten.
    sweep_at: usize,
}

/// A limit: whose, its name, what it limits and when that comes back.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct MeterId {
    /// Whose it is.
    pub(crate) scope: Arc<Scope>,
    /// Its name there.
    pub(crate) name: String,
    /// What it limits.
    pub(crate) resource: Resource,
    /// Whose requests count together.
    pub(crate) per: Per,
    /// When it comes back.
    pub(crate) renewal: Renewal,
}

/// The meters of one limit, by account.
#[derive(Debug)]
pub(super) struct Meters {
    by_account: Mutex<HashMap<String, Arc<Meter>>>,
    capacity: Capacity,
    /// Which limit it is, for other replicas.
    shared: Option<(MeterId, Arc<Fleet>)>,
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
            fleet: None,
        }
    }

    /// The registry of a replica, which shares limits with others.
    pub(crate) fn of(spent: Box<Spent>, fleet: Arc<Fleet>) -> Self {
        Self {
            fleet: Some(fleet),
            ..Self::new(spent)
        }
    }

    /// The pool that other replicas ask about, with what the ledger here knows of it; blocks.
    pub(crate) fn open(&self, id: PoolId, capacity: Capacity) -> Option<Arc<Pool>> {
        let PoolId { limit, account } = id;
        let meters = self.meters(limit, capacity);
        let meter = meters.of(&account);
        meters.share(&meter, &account).cloned()
    }

    /// The meters of a limit: those that are there, as long as what is limited comes back alike.
    pub(super) fn meters(&self, id: MeterId, capacity: Capacity) -> Arc<Meters> {
        let mut known = self.meters.lock();
        if let Some(meters) = known.by_id.get(&id).and_then(Weak::upgrade) {
            return meters;
        }
        if known.sweep_at <= known.by_id.len() {
            known.by_id.retain(|_, meters| 0 < meters.strong_count());
            known.sweep_at = 2 * known.by_id.len().max(METERS_KEPT);
        }
        let now = Timestamp::now();
        let spent = match id.resource {
            Resource::Cost => capacity.window_start(now),
            Resource::Requests | Resource::Tokens | Resource::Concurrency => None,
        };
        let spent = spent
            .map(|start| (self.spent)(&id.scope, id.per, start))
            .unwrap_or_default();
        let meter = |(account, amount)| (account, Arc::new(Meter::with(amount, now)));
        let made = Arc::new(Meters {
            by_account: Mutex::new(spent.into_iter().map(meter).collect()),
            capacity,
            shared: self.fleet.clone().map(|fleet| (id.clone(), fleet)),
        });
        known.by_id.insert(id, Arc::downgrade(&made));
        made
    }
}

impl Meters {
    /// The meter of an account.
    pub(super) fn of(&self, account: &str) -> Arc<Meter> {
        let meter = self.known(account);
        if let Some((_, fleet)) = &self.shared
            && fleet.is_shared()
            && !meter.is_shared()
        {
            self.share(&meter, account);
        }
        meter
    }

    /// Shares the meter of an account with other replicas.
    fn share<'a>(&self, meter: &'a Meter, account: &str) -> Option<&'a Arc<Pool>> {
        let (limit, fleet) = self.shared.as_ref()?;
        let (limit, account) = (limit.clone(), account.to_owned());
        let id = PoolId { limit, account };
        let open = |begun| fleet.pool(&id, self.capacity, || begun);
        Some(meter.share(self.capacity, Timestamp::now(), open))
    }

    /// The meter of an account that has used something.
    pub(super) fn peek(&self, account: &str) -> Option<Arc<Meter>> {
        self.by_account.lock().get(account).cloned()
    }

    fn known(&self, account: &str) -> Arc<Meter> {
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
