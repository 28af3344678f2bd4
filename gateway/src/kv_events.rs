//! Events of caches: what replicas say of their key-value caches while they are picked by them.
//!
//! One connection for each replica that says so, however many routes name it, and none without. What is heard goes to the
//! seats of the replica: a cache that was cleared, or a process that was started again, is forgotten at once; a block that
//! was removed takes along the prefix that it was learned to be. Who misses something forgets which block is which prefix
//! and goes on guessing.

mod http;
mod msgpack;
mod zmtp;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::snapshot::KvEvents;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    gateway::Gateway,
    metrics::Metrics,
    prefix::{Change, Picker, Seat},
    table::Table,
    upstream::Upstream,
};

/// The pause before a connection that broke is made again; it doubles with each, up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a replica may say nothing; then the connection is made anew, since it may be gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of what is said at once.
const BATCH_BYTES_MAX: usize = 16 << 20;

/// What is said at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    /// Counts up by one from batch to batch.
    sequence: u64,
    changes: Vec<Change>,
}

/// A replica, and how it says what changes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    url: String,
    settings: KvEvents,
}

/// A seat, and who picks by it.
type Place = (Arc<Picker>, Arc<Seat>);

/// The seats of one replica, in the pickers of all targets that name it.
type Places = Arc<Mutex<Vec<Place>>>;

/// A replica that is listened to.
#[derive(Debug)]
struct Followed {
    places: Places,
    task: AbortHandle,
}

/// Listens to the replicas of the table in use until shutdown.
pub(crate) async fn follow(gateway: Arc<Gateway>, shutdown: CancellationToken) {
    let mut changes = gateway.changes();
    let mut tasks = JoinSet::new();
    let mut followed: HashMap<Source, Followed> = HashMap::new();
    loop {
        changes.mark_unchanged();
        let mut wanted = gateway
            .table()
            .map(|table| wanted(&table))
            .unwrap_or_default();
        followed.retain(|source, followed| {
            let places = wanted.remove(source);
            if places.is_none() {
                followed.task.abort();
            }
            let is_wanted = places.is_some();
            *followed.places.lock() = places.unwrap_or_default();
            is_wanted
        });
        for (source, seats) in wanted {
            let places = Places::new(Mutex::new(seats));
            let listener = Listener {
                source: source.clone(),
                places: Arc::clone(&places),
                metrics: Arc::clone(&gateway.metrics),
                last: None,
            };
            let task = tasks.spawn(listener.listen(gateway.upstream().clone()));
            followed.insert(source, Followed { places, task });
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        // Those that were aborted.
        while tasks.try_join_next().is_some() {}
    }
}

/// The replicas that are picked by their caches and say what changes in them.
fn wanted(table: &Table) -> HashMap<Source, Vec<Place>> {
    let mut wanted: HashMap<Source, Vec<_>> = HashMap::new();
    for target in table.routes.iter().flat_map(|route| &route.targets) {
        let (Some(settings), Some(caches)) = (&target.kv_events, &target.caches) else {
            continue;
        };
        for (endpoint, seat) in target.endpoints.iter().zip(&caches.seats) {
            let source = Source {
                url: endpoint.url().to_owned(),
                settings: settings.clone(),
            };
            let place = (Arc::clone(&caches.picker), Arc::clone(seat));
            wanted.entry(source).or_default().push(place);
        }
    }
    wanted
}

/// Listens to one replica.
#[derive(Debug)]
struct Listener {
    source: Source,
    places: Places,
    metrics: Arc<Metrics>,
    last: Option<u64>,
}

impl Listener {
    /// Listens for ever.
    async fn listen(mut self, upstream: Upstream) {
        let mut pause = PAUSE_MIN;
        loop {
            let before = self.last;
            let (url, settings) = (self.source.url.clone(), self.source.settings.clone());
            let ended = match &settings {
                KvEvents::Http => http::listen(&upstream, &url, |batch| self.take(batch)).await,
                KvEvents::Zmq { port, topic } => {
                    zmtp::listen(&url, *port, topic, |batch| self.take(batch)).await
                }
            };
            pause = match before == self.last {
                true => PAUSE_MAX.min(2 * pause),
                false => PAUSE_MIN,
            };
            debug!(
                replica = url,
                reason = ended,
                ?pause,
                "events of a cache ended"
            );
            tokio::time::sleep(pause).await;
        }
    }

    /// Takes what was said to the replica's seats.
    fn take(&mut self, batch: Batch) {
        let Batch { sequence, changes } = batch;
        let places = self.places.lock().clone();
        let replica = &self.source.url;
        match self.last.replace(sequence) {
            Some(last) if sequence <= last => {
                info!(replica, "a replica was started again, its cache is empty");
                self.metrics.routing.count_kv_events("restarted", 1);
                places.iter().for_each(|(picker, seat)| picker.forget(seat));
            }
            Some(last) if last + 1 < sequence => {
                self.metrics
                    .routing
                    .count_kv_events("missed", sequence - last - 1);
                places.iter().for_each(|(_, seat)| seat.lose_track());
            }
            _ => {}
        }
        for change in &changes {
            let (word, count) = match change {
                Change::Stored { blocks, .. } => ("stored", blocks.len() as u64),
                Change::Removed { blocks, .. } => ("removed", blocks.len() as u64),
                Change::Cleared => ("cleared", 1),
            };
            self.metrics.routing.count_kv_events(word, count);
        }
        let now = Instant::now();
        for (picker, seat) in &places {
            picker.note(seat, &changes, now);
        }
    }
}
