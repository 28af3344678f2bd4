//! Demand: which Models are wanted that have replicas only while they are, and telling the operator so.
//!
//! A request that finds no replica is told of at once; those that are answered are told of every few seconds, so that
//! the operator knows that nobody needs the replicas any more once nothing is told. What could not be told stays noted.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use protocol::{
    demand::{PERIOD, Teller},
    snapshot::Strategy,
};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    gateway::Gateway,
    table::{Route, Table},
};

/// How long what is wanted at once is gathered before it is told.
const GATHER: Duration = Duration::from_millis(20);
/// The least time between two reports.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest time between two tries to tell the operator.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// A Model that has replicas only while it is wanted; outlives the tables that name it.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Whether a request came since the last report.
    is_used: AtomicBool,
    /// Whether one of them found no replica.
    is_urgent: AtomicBool,
    /// Requests that wait for a replica.
    held: AtomicUsize,
    urgency: Arc<Notify>,
}

/// A request that waits for a replica of some Models; it does so no longer when dropped.
#[derive(Debug)]
pub(crate) struct Held(Vec<Arc<Wanted>>);

impl Drop for Held {
    fn drop(&mut self) {
        for wanted in &self.0 {
            wanted.held.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Wanted {
    /// Notes a request that a replica answers.
    pub(crate) fn note_use(&self) {
        // Looked at first, so that requests on many cores do not write to the same place.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
    }

    /// Notes a request that finds no replica, and has it told of.
    fn ask(&self) {
        self.note_use();
        if !self.is_urgent.swap(true, Ordering::Relaxed) {
            self.urgency.notify_one();
        }
    }

    /// Whether anybody wanted it since the last call.
    fn take(&self) -> bool {
        self.is_urgent.store(false, Ordering::Relaxed);
        let was_used = self.is_used.swap(false, Ordering::Relaxed);
        was_used || 0 < self.held.load(Ordering::Relaxed)
    }
}

/// All Models that have replicas only while they are wanted, by `NAMESPACE/NAME`.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    known: Mutex<HashMap<String, Weak<Wanted>>>,
    urgency: Arc<Notify>,
}

impl Registry {
    /// The Model of this name.
    pub(crate) fn wanted(&self, model: &str) -> Arc<Wanted> {
        let mut known = self.known.lock();
        if let Some(wanted) = known.get(model).and_then(Weak::upgrade) {
            return wanted;
        }
        let wanted = Arc::new(Wanted {
            is_used: AtomicBool::new(false),
            is_urgent: AtomicBool::new(false),
            held: AtomicUsize::new(0),
            urgency: Arc::clone(&self.urgency),
        });
        known.insert(model.to_owned(), Arc::downgrade(&wanted));
        wanted
    }

    /// Forgets the Models that no table names any more.
    pub(crate) fn sweep(&self) {
        let mut known = self.known.lock();
        known.retain(|_, wanted| 0 < wanted.strong_count());
    }

    /// The names of those that were wanted since the last call, in order.
    pub(crate) fn take(&self) -> Vec<String> {
        let known = self.known.lock();
        let wanted = known.iter().filter(|(_, wanted)| {
            let wanted = wanted.upgrade();
            wanted.is_some_and(|wanted| wanted.take())
        });
        let mut names: Vec<String> = wanted.map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Notes those that could not be told of.
    fn put_back(&self, models: &[String]) {
        let known = self.known.lock();
        let wanted = models
            .iter()
            .filter_map(|model| known.get(model)?.upgrade());
        wanted.for_each(|wanted| wanted.note_use());
    }
}

impl Route {
    /// Asks for replicas of those targets that would be asked if they had any.
    pub(crate) fn ask_for_replicas(&self, barred: &[usize]) {
        let open = self.targets.iter().enumerate();
        let open = open.filter(|(place, _)| !barred.contains(place));
        let open = open.map(|(_, target)| target);
        let warm = open.clone().filter(|target| !target.is_cold());
        let best = warm.map(|target| target.priority).min();
        for target in open.filter(|target| target.is_cold()) {
            let is_next = match self.strategy {
                Strategy::Failover => best.is_none_or(|best| target.priority < best),
                Strategy::Weighted
                | Strategy::LeastBusy
                | Strategy::Latency
                | Strategy::Cost
                | Strategy::Headroom => best.is_none() || 0 < target.weight,
            };
            if let Some(wanted) = target.wanted.as_ref().filter(|_| is_next) {
                wanted.ask();
            }
        }
    }

    /// Notes that a request waits for a replica.
    pub(crate) fn hold(&self) -> Held {
        let cold = self.targets.iter().filter(|target| target.is_cold());
        let wanted: Vec<_> = cold.filter_map(|target| target.wanted.clone()).collect();
        for wanted in &wanted {
            wanted.held.fetch_add(1, Ordering::Relaxed);
        }
        Held(wanted)
    }
}

impl Table {
    /// Notes the requests in progress as use of their Models.
    fn note_in_progress(&self) {
        for target in self.routes.iter().flat_map(|route| &route.targets) {
            if let Some(wanted) = &target.wanted
                && target.endpoints.iter().any(|each| 0 < each.in_flight())
            {
                wanted.note_use();
            }
        }
    }
}

/// Tells the operator until shutdown what is wanted.
pub(crate) async fn tell(gateway: Arc<Gateway>, teller: Teller, shutdown: CancellationToken) {
    let telling = async {
        loop {
            let urgency = &gateway.demands().urgency;
            tokio::select! {
                () = urgency.notified() => sleep(GATHER).await,
                () = sleep(PERIOD) => {}
            }
            tell_once(&gateway, &teller).await;
            sleep(PAUSE).await;
        }
    };
    tokio::select! {
        () = telling => {}
        () = shutdown.cancelled() => {}
    }
}

/// Tells what is wanted now; tries until it is told, with what is wanted by then.
async fn tell_once(gateway: &Gateway, teller: &Teller) {
    let mut pause = PAUSE;
    loop {
        if let Ok(table) = gateway.table() {
            table.note_in_progress();
        }
        let models = gateway.demands().take();
        if models.is_empty() {
            return;
        }
        match teller.tell(&models).await {
            Ok(()) => {
                debug!(models = models.len(), "the operator knows what is wanted");
                return;
            }
            Err(error) => {
                warn!(error = %chain(&error), ?pause, "the operator was not told what is wanted");
                gateway.demands().put_back(&models);
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
