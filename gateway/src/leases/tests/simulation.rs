//! A simulation: replicas with ledgers on a network that is not to be trusted.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures::future::{BoxFuture, join_all};
use jiff::Timestamp;
use parking_lot::Mutex;
use protocol::{
    secret::SecretString,
    snapshot::{OnPartition, Peer, Peers, Per},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::sync::oneshot;

use super::clock::Clock;
use crate::{
    leases::{
        Begun, Fleet, Pool, PoolId, Refusal,
        fleet::{Outside, Unreachable},
        message::{Answer, Letter},
    },
    limits::{Capacity, MeterId, Piece, Resource, Scope},
};

/// What may go wrong.
#[derive(Debug, Clone, Copy)]
pub(super) struct Faults {
    /// The share of messages, and of answers, that are lost.
    lost: f64,
    doubled: f64,
    /// The share that comes seconds late.
    late: f64,
    /// Whether ways between replicas are cut.
    cuts: bool,
    /// Whether replicas die, one at a time.
    deaths: bool,
}

impl Faults {
    pub(super) fn none() -> Self {
        Self {
            lost: 0.0,
            doubled: 0.0,
            late: 0.0,
            cuts: false,
            deaths: false,
        }
    }

    pub(super) fn network() -> Self {
        Self {
            lost: 0.03,
            doubled: 0.1,
            late: 0.05,
            cuts: true,
            deaths: false,
        }
    }

    pub(super) fn all() -> Self {
        Self {
            deaths: true,
            ..Self::network()
        }
    }
}

/// What is asked of the replicas.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    pub(super) callers: usize,
    pub(super) amount_max: u64,
    pub(super) lasts: Duration,
}

/// All replicas, their ledgers, and the network.
pub(super) struct World {
    this: Weak<Self>,
    capacity: Capacity,
    id: PoolId,
    policy: OnPartition,
    clock: Clock,
    state: Mutex<State>,
}

struct State {
    random: StdRng,
    faults: Faults,
    alive: BTreeMap<String, Arc<Fleet>>,
    /// Starts so far.
    starts: usize,
    /// Which start of a replica is alive.
    started: BTreeMap<String, usize>,
    names: Vec<String>,
    /// Who is on the operator's list.
    listed: BTreeSet<String>,
    /// What each has written down, by window.
    ledgers: HashMap<String, BTreeMap<i64, u64>>,
    cut: BTreeSet<(String, String)>,
    messages: usize,
}

/// What a request holds.
pub(super) struct Held {
    fleet: Arc<Fleet>,
    pool: Arc<Pool>,
    piece: Piece,
}

struct Way {
    me: String,
    /// The start that it belongs to: a replica that was killed says nothing any more.
    start: usize,
    world: Weak<World>,
}

impl Outside for Way {
    fn now(&self) -> Timestamp {
        self.world
            .upgrade()
            .map_or(Timestamp::UNIX_EPOCH, |world| world.now())
    }

    fn call<'a>(
        &'a self,
        peer: &'a Peer,
        letter: &'a Letter,
        limit: Duration,
    ) -> BoxFuture<'a, Result<Answer, Unreachable>> {
        Box::pin(async move {
            let world = self.world.upgrade().ok_or(Unreachable)?;
            if world.state.lock().started.get(&self.me) != Some(&self.start) {
                return Err(Unreachable);
            }
            let (reply, answer) = oneshot::channel();
            world.send(&self.me, &peer.name, letter.clone(), Some(reply));
            match world.clock.within(limit, answer).await {
                Some(Ok(answer)) => Ok(answer),
                Some(Err(_)) | None => Err(Unreachable),
            }
        })
    }

    fn pause(&self, longest: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(world) = self.world.upgrade() {
                let longest = u64::try_from(longest.as_micros()).unwrap();
                world.sleep(0, longest).await;
            }
        })
    }

    fn trust(&self, _: &Peers) {}
}

impl World {
    pub(super) fn new(
        clock: &Clock,
        seed: u64,
        names: &[&str],
        capacity: Capacity,
        policy: OnPartition,
    ) -> Arc<Self> {
        let limit = MeterId {
            scope: Arc::new(Scope::Route("ns/r".to_owned())),
            name: "l".to_owned(),
            resource: Resource::Cost,
            per: Per::Route,
            renewal: capacity.renewal(),
        };
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let world = Arc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            capacity,
            id: PoolId {
                limit,
                account: String::new(),
            },
            policy,
            clock: clock.clone(),
            state: Mutex::new(State {
                random: StdRng::seed_from_u64(seed),
                faults: Faults::none(),
                alive: BTreeMap::new(),
                starts: 0,
                started: BTreeMap::new(),
                listed: names.iter().cloned().collect(),
                names: names.clone(),
                ledgers: HashMap::new(),
                cut: BTreeSet::new(),
                messages: 0,
            }),
        });
        for name in &names {
            world.restart(name);
        }
        world
    }

    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        start.checked_add(self.clock.now()).unwrap()
    }

    fn chance(&self, share: f64) -> bool {
        self.state.lock().random.random_bool(share)
    }

    fn pick(&self, least: u64, most: u64) -> u64 {
        self.state.lock().random.random_range(least..=most)
    }

    /// Waits for some microseconds.
    async fn sleep(&self, least: u64, most: u64) {
        let time = Duration::from_micros(self.pick(least, most));
        self.clock.sleep(time).await;
    }

    /// Starts a replica, which knows what its ledger says.
    pub(super) fn restart(&self, name: &str) {
        let start = {
            let mut state = self.state.lock();
            state.starts += 1;
            let start = state.starts;
            state.started.insert(name.to_owned(), start);
            start
        };
        let way = Way {
            me: name.to_owned(),
            start,
            world: Weak::clone(&self.this),
        };
        let fleet = Arc::new(Fleet::new(name.to_owned(), Box::new(way)));
        fleet.follow(Some(&self.peers())).unwrap();
        self.state.lock().alive.insert(name.to_owned(), fleet);
    }

    /// Ends a replica, with all that it has in progress.
    pub(super) fn kill(&self, name: &str) {
        let mut state = self.state.lock();
        state.alive.remove(name);
        state.started.remove(name);
    }

    /// Cuts all ways of a replica.
    pub(super) fn isolate(&self, name: &str) {
        let mut state = self.state.lock();
        for other in state.names.clone() {
            state.cut.insert((name.to_owned(), other.clone()));
            state.cut.insert((other, name.to_owned()));
        }
    }

    /// Frees all ways.
    pub(super) fn heal(&self) {
        let mut state = self.state.lock();
        state.cut.clear();
        state.faults = Faults::none();
    }

    /// Lets all replicas report, twice: what was used just now is not reported at once.
    pub(super) async fn report(&self) {
        for _ in 0..2 {
            let alive: Vec<_> = self.state.lock().alive.values().cloned().collect();
            for fleet in alive {
                fleet.report(false).await;
            }
        }
    }

    /// Lets all replicas learn that there was nothing before.
    pub(super) async fn settle_all(&self) {
        let alive: Vec<_> = self.state.lock().alive.values().cloned().collect();
        for fleet in alive {
            assert!(fleet.settle().await);
        }
    }

    pub(super) fn messages(&self) -> usize {
        self.state.lock().messages
    }

    /// What all have written down, by window.
    pub(super) fn spent(&self) -> BTreeMap<i64, u128> {
        let mut sums: BTreeMap<i64, u128> = BTreeMap::new();
        for ledger in self.state.lock().ledgers.values() {
            for (window, spent) in ledger {
                *sums.entry(*window).or_default() += u128::from(*spent);
            }
        }
        sums
    }

    fn peers(&self) -> Peers {
        let listed = self.state.lock().listed.clone();
        Peers {
            token: SecretString::new("8c1f0a9be7d2463f95ab0c4de6f71823".to_owned()),
            on_partition: self.policy,
            replicas: listed
                .into_iter()
                .map(|name| Peer {
                    url: format!("http://{name}"),
                    name,
                })
                .collect(),
        }
    }

    fn pool(&self, fleet: &Arc<Fleet>) -> Arc<Pool> {
        let window = self.capacity.window_number(self.now());
        fleet.pool(&self.id, self.capacity, || {
            let state = self.state.lock();
            let ledger = state.ledgers.get(&fleet.me);
            let spent = ledger.and_then(|ledger| ledger.get(&window));
            Begun {
                spent: spent.copied().unwrap_or(0),
                reserved: 0,
            }
        })
    }

    /// Brings a message to a replica, or does not.
    fn send(&self, from: &str, to: &str, letter: Letter, reply: Option<oneshot::Sender<Answer>>) {
        let faults = {
            let mut state = self.state.lock();
            state.messages += 1;
            state.faults
        };
        let is_cut = |world: &Self| {
            let state = world.state.lock();
            state.cut.contains(&(from.to_owned(), to.to_owned()))
        };
        if is_cut(self) || self.chance(faults.lost) {
            return self.forget(reply);
        }
        if reply.is_some() && self.chance(faults.doubled) {
            self.send(from, to, letter.clone(), None);
        }
        let (there, back) = (self.delay(faults), self.delay(faults));
        let is_answered = !self.chance(faults.lost);
        let (world, from, to) = (Weak::clone(&self.this), from.to_owned(), to.to_owned());
        let clock = self.clock.clone();
        self.clock.spawn(async move {
            clock.sleep(there).await;
            let Some(world) = world.upgrade() else { return };
            let fleet = world.state.lock().alive.get(&to).cloned();
            let Some(fleet) = fleet else { return };
            let answer = match letter {
                Letter::About(message) => fleet.answer(&world.pool(&fleet), &message).await,
                Letter::Tell => fleet.told(),
                Letter::Changes { .. } | Letter::Look { .. } => Answer::Looked,
            };
            clock.sleep(back).await;
            let is_free = !world.state.lock().cut.contains(&(to.clone(), from));
            let is_alive = world.lives(&fleet);
            if let Some(reply) = reply {
                match is_answered && is_free && is_alive {
                    true => drop(reply.send(answer)),
                    false => world.forget(Some(reply)),
                }
            }
        });
    }

    /// Half of those who get no answer find that out at once.
    fn forget(&self, reply: Option<oneshot::Sender<Answer>>) {
        if self.chance(0.5) {
            let late = self.clock.sleep(Duration::from_secs(20));
            self.clock.spawn(async move {
                late.await;
                drop(reply);
            });
        }
    }

    fn delay(&self, faults: Faults) -> Duration {
        let is_late = self.chance(faults.late);
        Duration::from_micros(match is_late {
            true => self.pick(500_000, 6_000_000),
            false => self.pick(100, 3000),
        })
    }

    fn lives(&self, fleet: &Arc<Fleet>) -> bool {
        let state = self.state.lock();
        let alive = state.alive.get(&fleet.me);
        alive.is_some_and(|alive| Arc::ptr_eq(alive, fleet))
    }

    /// Reserves at a replica.
    pub(super) async fn reserve(&self, name: &str, amount: u64) -> Option<Held> {
        let fleet = self.state.lock().alive.get(name).cloned()?;
        let pool = self.pool(&fleet);
        for _ in 0..crate::limits::SHORTAGES_MAX {
            match pool.reserve(self.capacity, amount, self.now()) {
                Ok((piece, _)) => {
                    return Some(Held { fleet, pool, piece });
                }
                Err(Refusal::Wait(_)) => return None,
                Err(Refusal::Short) => fleet.fill(&pool, self.capacity, amount).await,
            }
            if !self.lives(&fleet) {
                return None;
            }
        }
        None
    }

    /// Ends a request and writes it down, unless its replica is dead.
    pub(super) fn settle(&self, held: Held, used: u64) {
        let Held { fleet, pool, piece } = held;
        if !self.lives(&fleet) {
            return;
        }
        let now = self.now();
        pool.settle(self.capacity, piece, used, now);
        let mut state = self.state.lock();
        let ledger = state.ledgers.entry(fleet.me.clone()).or_default();
        *ledger.entry(piece.window).or_default() += used;
    }

    /// One request from its beginning to its end; whether it was let in.
    pub(super) async fn request(&self, name: &str, amount: u64, used: u64) -> bool {
        let Some(held) = self.reserve(name, amount).await else {
            return false;
        };
        self.settle(held, used);
        true
    }

    /// Lets callers work, and things go wrong, for a while.
    pub(super) async fn run(&self, work: Work, faults: Faults) {
        self.state.lock().faults = faults;
        let end = self.clock.now() + work.lasts;
        let names = self.state.lock().names.clone();
        let callers = (0..work.callers).map(|place| self.call(place, work, end));
        let lookers = names.iter().map(|name| self.look(name, end));
        let trouble = async {
            while self.clock.now() < end {
                self.sleep(100_000, 1_500_000).await;
                self.trouble(faults).await;
            }
        };
        futures::join!(join_all(callers), join_all(lookers), trouble);
    }

    async fn call(&self, place: usize, work: Work, end: Duration) {
        let names = self.state.lock().names.clone();
        let name = &names[place % names.len()];
        while self.clock.now() < end {
            let amount = self.pick(1, work.amount_max);
            if let Some(held) = self.reserve(name, amount).await {
                self.sleep(0, 300_000).await;
                let used = self.pick(0, amount);
                self.settle(held, used);
            }
            self.sleep(1000, 100_000).await;
        }
    }

    async fn look(&self, name: &str, end: Duration) {
        while self.clock.now() < end {
            self.sleep(500_000, 500_000).await;
            let fleet = self.state.lock().alive.get(name).cloned();
            if let Some(fleet) = fleet {
                fleet.report(false).await;
            }
        }
    }

    /// Something goes wrong, or is mended.
    async fn trouble(&self, faults: Faults) {
        let names = self.state.lock().names.clone();
        let (one, other) = (self.pick(0, 2), self.pick(0, 2));
        let name = |place: u64| names[usize::try_from(place).unwrap() % names.len()].clone();
        let (one, other) = (name(one), name(other));
        match self.pick(0, 3) {
            0 if faults.cuts => drop(self.state.lock().cut.insert((one, other))),
            1 => self.state.lock().cut.clear(),
            2 if faults.deaths => {
                let dead = {
                    let state = self.state.lock();
                    let mut dead = names.iter();
                    dead.find(|name| !state.alive.contains_key(*name)).cloned()
                };
                match dead {
                    Some(dead) => {
                        self.state.lock().listed.insert(dead.clone());
                        self.restart(&dead);
                    }
                    // Of two that die before the first has heard from the others, nobody knows what they used.
                    None if !self.are_settled() => {}
                    None => {
                        self.kill(&one);
                        if self.chance(0.5) {
                            self.state.lock().listed.remove(&one);
                        }
                    }
                }
                self.publish().await;
            }
            _ => {}
        }
    }

    /// Whether all know what they knew before they started.
    fn are_settled(&self) -> bool {
        let state = self.state.lock();
        let mut alive = state.alive.values();
        alive.all(|fleet| fleet.is_settled.load(Ordering::Acquire))
    }

    /// The operator's list reaches the replicas one after the other.
    async fn publish(&self) {
        let alive: Vec<_> = self.state.lock().alive.values().cloned().collect();
        for fleet in alive {
            self.sleep(0, 300_000).await;
            fleet.follow(Some(&self.peers())).unwrap();
        }
    }
}
