//! The fleet: the replicas that share limits, who of them can be reached, and the pools that they share.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use protocol::snapshot::{OnPartition, Peer, Peers};
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, Semaphore};

use super::{
    message::{Answer, Letter, PoolId, Tale},
    pool::{Begun, Pool},
};
use crate::{
    admin::{AdminKey, InvalidAdminKey},
    limits::Capacity,
};

/// How long a replica that did not answer is not asked again.
const SUSPECTED_FOR: Duration = Duration::from_secs(1);
/// Pools from which on those of windows that are over are forgotten.
const POOLS_KEPT: usize = 4096;

/// Nobody answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unreachable;

/// What a replica needs of the world: its clock, and the way to its peers.
pub(crate) trait Outside: Send + Sync {
    /// The time.
    fn now(&self) -> Timestamp;

    /// Asks a peer; it answers within `limit`, or counts as unreachable.
    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        letter: &'a Letter,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>>;

    /// Waits for a random time, no longer than this.
    fn pause(&self, longest: Duration) -> BoxFuture<'_, ()>;

    /// Takes note of the token that peers show to each other.
    fn trust(&self, peers: &Peers);
}

/// The replicas that share limits.
pub(crate) struct Fleet {
    /// This replica's name.
    pub(super) me: String,
    /// When it started, in microseconds since 1970.
    incarnation: u64,
    pub(super) outside: Box<dyn Outside>,
    peers: RwLock<Arc<List>>,
    lists: AtomicU64,
    /// Whether there ever was another replica: what was shared once stays so.
    is_shared: AtomicBool,
    /// The token that all replicas have.
    key: RwLock<Option<AdminKey>>,
    suspects: Mutex<HashMap<String, Timestamp>>,
    /// Whether this replica knows what it knew before it started.
    pub(super) is_settled: AtomicBool,
    /// One try to settle at a time.
    pub(super) settling: Semaphore,
    /// What others know of pools that nobody has asked for here.
    tales: Mutex<HashMap<PoolId, Tale>>,
    /// Tells of new lists.
    changes: Notify,
    pools: Mutex<HashMap<PoolId, Entry>>,
}

/// The replicas of one snapshot.
#[derive(Debug, Default)]
pub(super) struct List {
    /// Counts the lists.
    pub(super) number: u64,
    pub(super) replicas: Vec<Peer>,
    pub(super) on_partition: OnPartition,
}

#[derive(Clone)]
struct Entry {
    pool: Arc<Pool>,
    capacity: Capacity,
}

impl fmt::Debug for Fleet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = formatter.debug_struct("Fleet");
        debug.field("me", &self.me).finish_non_exhaustive()
    }
}

impl Fleet {
    /// A replica that knows of no others yet.
    pub(crate) fn new(me: String, outside: Box<dyn Outside>) -> Self {
        let now = outside.now().as_microsecond();
        Self {
            me,
            incarnation: u64::try_from(now).unwrap_or(0),
            outside,
            peers: RwLock::default(),
            lists: AtomicU64::new(0),
            is_shared: AtomicBool::new(false),
            key: RwLock::default(),
            suspects: Mutex::default(),
            is_settled: AtomicBool::new(false),
            settling: Semaphore::new(1),
            tales: Mutex::default(),
            changes: Notify::new(),
            pools: Mutex::default(),
        }
    }

    /// Takes a list of replicas into use.
    ///
    /// # Errors
    /// The token is weak; the list in use stays.
    pub(crate) fn follow(&self, peers: Option<&Peers>) -> Result<(), InvalidAdminKey> {
        let key = peers.map(|peers| AdminKey::parse(peers.token.expose()));
        *self.key.write() = key.transpose()?;
        if let Some(peers) = peers {
            self.outside.trust(peers);
        }
        let (replicas, on_partition) = peers.map_or_else(Default::default, |peers| {
            (peers.replicas.clone(), peers.on_partition)
        });
        if replicas.iter().any(|peer| peer.name != self.me) {
            self.is_shared.store(true, Ordering::Relaxed);
        }
        let mut list = self.peers.write();
        if list.replicas != replicas || list.on_partition != on_partition {
            let number = self.lists.fetch_add(1, Ordering::Relaxed) + 1;
            *list = Arc::new(List {
                number,
                replicas,
                on_partition,
            });
            self.changes.notify_one();
        }
        Ok(())
    }

    /// Whether this is the token that all replicas have.
    pub(super) fn opens(&self, token: &str) -> bool {
        self.key.read().as_ref().is_some_and(|key| key.opens(token))
    }

    /// Whether limits are shared with other replicas.
    pub(crate) fn is_shared(&self) -> bool {
        self.is_shared.load(Ordering::Relaxed)
    }

    /// Waits for a new list of replicas.
    ///
    /// # Cancel safety
    /// A list that comes while nobody waits is told of at the next wait.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }

    /// This replica's name.
    pub(crate) fn name(&self) -> &str {
        &self.me
    }

    pub(super) fn list(&self) -> Arc<List> {
        Arc::clone(&self.peers.read())
    }

    /// The pool of this name, which begins with what was used and reserved so far.
    pub(crate) fn pool(
        &self,
        id: &PoolId,
        capacity: Capacity,
        begun: impl FnOnce() -> Begun,
    ) -> Arc<Pool> {
        let mut pools = self.pools.lock();
        if let Some(entry) = pools.get_mut(id) {
            entry.capacity = capacity;
            return Arc::clone(&entry.pool);
        }
        let now = self.outside.now();
        if POOLS_KEPT <= pools.len() && pools.len().is_power_of_two() {
            pools.retain(|_, Entry { pool, capacity }| {
                1 < Arc::strong_count(pool) || !pool.is_over(*capacity, now)
            });
        }
        let who = (self.me.as_str(), self.incarnation);
        let pool = Arc::new(Pool::new(id.clone(), who, capacity, begun(), now));
        if let Some(tale) = self.tales.lock().remove(id) {
            pool.hear_of(&tale);
        }
        let entry = Entry {
            pool: Arc::clone(&pool),
            capacity,
        };
        pools.insert(id.clone(), entry);
        pool
    }

    /// Takes over what another replica knows of a pool.
    pub(super) fn hear_of(&self, tale: Tale) {
        let pools = self.pools.lock();
        if let Some(entry) = pools.get(&tale.pool) {
            return entry.pool.hear_of(&tale);
        }
        let mut tales = self.tales.lock();
        match tales.get_mut(&tale.pool) {
            Some(known) => known.add(tale),
            None => drop(tales.insert(tale.pool.clone(), tale)),
        }
    }

    /// What is known here of all pools.
    pub(super) fn tales(&self) -> Vec<Tale> {
        let pools = self.pools.lock();
        let known = pools.values();
        let known = known.map(|Entry { pool, capacity }| pool.tell(*capacity));
        known.chain(self.tales.lock().values().cloned()).collect()
    }

    /// The pool of this name, if it is known here.
    pub(super) fn find(&self, id: &PoolId) -> Option<Arc<Pool>> {
        self.pools
            .lock()
            .get(id)
            .map(|entry| Arc::clone(&entry.pool))
    }

    /// All pools, each with how much there is.
    pub(super) fn pools(&self) -> Vec<(Arc<Pool>, Capacity)> {
        let pools = self.pools.lock();
        let entries = pools
            .values()
            .map(|entry| (Arc::clone(&entry.pool), entry.capacity));
        entries.collect()
    }

    /// The replicas, whoever owns the pool first, then who takes its place. Who did not answer lately is left out.
    pub(super) fn ranking(&self, id: &PoolId) -> Vec<Peer> {
        let list = self.list();
        let now = self.outside.now();
        let name = serde_json::to_vec(id).unwrap_or_default();
        let mut ranked: Vec<_> = {
            let suspects = self.suspects.lock();
            let is_there =
                |peer: &&Peer| suspects.get(&peer.name).is_none_or(|until| *until <= now);
            let candidates = list.replicas.iter().filter(is_there);
            let weigh = |peer: &Peer| Sha256::new().chain_update(&name).chain_update(&peer.name);
            candidates
                .map(|peer| (weigh(peer).finalize(), peer.clone()))
                .collect()
        };
        ranked.sort_by(|(left, _), (right, _)| right.cmp(left));
        let mut ranked: Vec<Peer> = ranked.into_iter().map(|(_, peer)| peer).collect();
        if list.replicas.is_empty() {
            ranked.push(self.myself());
        }
        ranked
    }

    /// The other replicas that can be reached.
    pub(crate) fn others(&self) -> Vec<Peer> {
        let (list, now) = (self.list(), self.outside.now());
        let suspects = self.suspects.lock();
        let is_there = |peer: &&Peer| {
            peer.name != self.me && suspects.get(&peer.name).is_none_or(|until| *until <= now)
        };
        list.replicas.iter().filter(is_there).cloned().collect()
    }

    /// How many replicas must know of something, this one counted, so that any later owner finds it.
    pub(super) fn majority(&self) -> usize {
        self.list().replicas.len() / 2 + 1
    }

    /// Whether a replica is on the list.
    pub(super) fn is_listed(&self, name: &str) -> bool {
        let list = self.list();
        let mut replicas = list.replicas.iter();
        replicas.any(|peer| peer.name == name) || list.replicas.is_empty() && name == self.me
    }

    /// Asks another replica; one that does not answer is left alone for a while.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn call(
        &self,
        peer: &Peer,
        letter: &Letter,
        limit: Duration,
    ) -> Result<Answer, Unreachable> {
        let answer = self.outside.call(peer, letter, limit).await;
        let mut suspects = self.suspects.lock();
        if answer.is_ok() {
            suspects.remove(&peer.name);
        } else {
            let now = self.outside.now();
            let until = now.checked_add(SUSPECTED_FOR).unwrap_or(now);
            let known = suspects.insert(peer.name.clone(), until);
            if known.is_none() {
                tracing::warn!(peer = peer.name, "a replica of the gateway does not answer");
            }
        }
        answer
    }

    fn myself(&self) -> Peer {
        Peer {
            name: self.me.clone(),
            url: String::new(),
        }
    }
}
