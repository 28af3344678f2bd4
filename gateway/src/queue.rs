//! Queues: requests over a route's concurrency wait for their turn, no longer than they may.

mod fair;

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use protocol::routing;
use tokio::sync::oneshot;

use self::fair::Fair;
pub(crate) use self::fair::Priority;

/// How much the newest request weighs in the average time that a turn takes.
const NEWEST_WEIGHT: f64 = 0.1;

/// The queue of one route; outlives the tables that name it.
#[derive(Debug)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    settings: routing::Queue,
    running: u32,
    waiting: Fair<oneshot::Sender<Turn>>,
    /// The seconds that a turn takes on average; 0 while nothing is known.
    usual: f64,
    id: u64,
}

/// Who asks for a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking<'a> {
    /// Who takes turns with others.
    pub(crate) tenant: &'a str,
    /// How urgent it is.
    pub(crate) priority: Priority,
    /// The tokens that the request may need.
    pub(crate) cost: u64,
}

/// What one who asks for a turn gets.
#[derive(Debug)]
pub(crate) enum Entry {
    /// The turn.
    Turn(Turn),
    /// A place in the queue.
    Wait(Waiting),
    /// Nothing: the queue is full, or the turn would come too late.
    Refused {
        /// When there may be a place again.
        retry_after: Duration,
    },
}

/// A turn; it is over when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    queue: Arc<Queue>,
    begun: Instant,
}

/// A place in a queue; given up when dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    queue: Arc<Queue>,
    id: u64,
    turn: oneshot::Receiver<Turn>,
    /// How long it may be waited.
    limit: Duration,
}

impl Queue {
    fn new(settings: routing::Queue) -> Self {
        Self {
            state: Mutex::new(State {
                settings,
                running: 0,
                waiting: Fair::default(),
                usual: 0.0,
                id: 0,
            }),
        }
    }

    /// How many wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Asks for a turn.
    pub(crate) fn enter(self: &Arc<Self>, asking: Asking<'_>, now: Instant) -> Entry {
        let mut state = self.state.lock();
        let settings = state.settings.clone();
        if state.running < settings.concurrency && state.waiting.len() == 0 {
            state.running += 1;
            return Entry::Turn(Turn {
                queue: Arc::clone(self),
                begun: now,
            });
        }
        let limit = Duration::from_millis(settings.timeout_millis);
        let ahead = state.waiting.len() + 1;
        let expected = state.usual * ahead as f64 / f64::from(settings.concurrency.max(1));
        let expected = Duration::try_from_secs_f64(expected).unwrap_or(Duration::MAX);
        if settings.length as usize <= state.waiting.len() || limit < expected {
            return Entry::Refused {
                retry_after: expected,
            };
        }
        let (sender, turn) = oneshot::channel();
        state.id += 1;
        let id = state.id;
        let Asking {
            tenant,
            priority,
            cost,
        } = asking;
        state.waiting.push(priority, tenant, id, cost, sender);
        Entry::Wait(Waiting {
            queue: Arc::clone(self),
            id,
            turn,
            limit,
        })
    }

    /// Gives free places to those who wait.
    fn advance(self: &Arc<Self>, now: Instant) {
        loop {
            let next = {
                let mut state = self.state.lock();
                if state.settings.concurrency <= state.running {
                    return;
                }
                let Some(next) = state.waiting.pop() else {
                    return;
                };
                state.running += 1;
                next
            };
            let turn = Turn {
                queue: Arc::clone(self),
                begun: now,
            };
            // Who went away in this moment gives it back by dropping it, and so to the next one.
            drop(next.send(turn));
        }
    }

    fn end(self: &Arc<Self>, begun: Instant, now: Instant) {
        {
            let mut state = self.state.lock();
            state.running = state.running.saturating_sub(1);
            let took = now.saturating_duration_since(begun).as_secs_f64();
            state.usual = if state.usual == 0.0 {
                took
            } else {
                state.usual + (took - state.usual) * NEWEST_WEIGHT
            };
        }
        self.advance(now);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.queue.end(self.begun, Instant::now());
    }
}

impl Waiting {
    /// How long it may be waited.
    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    /// The turn, once it comes.
    ///
    /// # Cancel safety
    /// A wait that is cancelled can go on; a turn that came meanwhile is kept.
    pub(crate) async fn turn(&mut self) -> Option<Turn> {
        (&mut self.turn).await.ok()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.queue.state.lock().waiting.remove(self.id);
    }
}

/// The queues of all routes, which outlive the tables that name them.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    queues: Mutex<HashMap<String, Weak<Queue>>>,
}

impl Registry {
    /// The queue of a route, with these settings from now on.
    pub(crate) fn queue(&self, route: &str, settings: &routing::Queue) -> Arc<Queue> {
        let mut queues = self.queues.lock();
        if let Some(queue) = queues.get(route).and_then(Weak::upgrade) {
            queue.state.lock().settings = settings.clone();
            queue.advance(Instant::now());
            return queue;
        }
        let queue = Arc::new(Queue::new(settings.clone()));
        queues.insert(route.to_owned(), Arc::downgrade(&queue));
        queue
    }

    /// Forgets the queues that no table names any more.
    pub(crate) fn sweep(&self) {
        let mut queues = self.queues.lock();
        queues.retain(|_, queue| 0 < queue.strong_count());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    use protocol::routing;

    use super::{Asking, Entry, Priority, Queue, Registry, Turn, Waiting};

    fn settings(concurrency: u32, length: u32) -> routing::Queue {
        routing::Queue {
            concurrency,
            length,
            timeout_millis: 10_000,
            fairness: routing::Fairness::Key,
            priority_header: None,
        }
    }

    fn asking(tenant: &str) -> Asking<'_> {
        Asking {
            tenant,
            priority: Priority::Normal,
            cost: 1024,
        }
    }

    fn turn(queue: &Arc<Queue>, tenant: &str) -> Turn {
        match queue.enter(asking(tenant), Instant::now()) {
            Entry::Turn(turn) => turn,
            other => panic!("{other:?} is no turn"),
        }
    }

    fn wait(queue: &Arc<Queue>, tenant: &str) -> Waiting {
        match queue.enter(asking(tenant), Instant::now()) {
            Entry::Wait(waiting) => waiting,
            other => panic!("{other:?} is no place"),
        }
    }

    #[tokio::test]
    async fn turns_go_to_those_who_wait_tenant_by_tenant() {
        let queue = Arc::new(Queue::new(settings(1, 9)));
        let first = turn(&queue, "a");
        let mut waits = ["a", "a", "b"].map(|tenant| wait(&queue, tenant));
        assert_eq!(queue.waiting(), 3);
        drop(first);
        let second = waits[0].turn().await.unwrap();
        drop(second);
        // The other tenant is before this one's second request.
        let third = waits[2].turn().await.unwrap();
        assert_eq!(queue.waiting(), 1);
        let [_, gone, _] = waits;
        drop(gone);
        assert_eq!(queue.waiting(), 0);
        drop(third);
        drop(turn(&queue, "c"));
    }

    #[tokio::test]
    async fn a_turn_of_somebody_who_went_away_goes_to_the_next() {
        let queue = Arc::new(Queue::new(settings(1, 9)));
        let first = turn(&queue, "a");
        let gone = wait(&queue, "a");
        let mut next = wait(&queue, "a");
        drop(gone);
        drop(first);
        assert!(next.turn().await.is_some());
        drop(next);
        drop(turn(&queue, "a"));
    }

    #[test]
    fn a_full_queue_and_a_turn_that_would_come_too_late_are_refused_at_once() {
        let queue = Arc::new(Queue::new(settings(1, 1)));
        let now = Instant::now();
        let first = turn(&queue, "a");
        let waiting = wait(&queue, "a");
        let full = queue.enter(asking("a"), now);
        assert!(matches!(full, Entry::Refused { .. }));
        drop(waiting);
        drop(first);
        // Turns take a minute on average, and ten seconds may be waited.
        queue.end(now, now + Duration::from_secs(600));
        let _first = turn(&queue, "a");
        match queue.enter(asking("a"), now) {
            Entry::Refused { retry_after } => assert!(Duration::from_secs(5) < retry_after),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_wider_queue_lets_those_in_who_wait() {
        let registry = Registry::default();
        let queue = registry.queue("ns/r", &settings(1, 9));
        let _first = turn(&queue, "a");
        let mut waiting = wait(&queue, "a");
        registry.queue("ns/r", &settings(2, 9));
        assert!(waiting.turn().await.is_some());
    }
}
