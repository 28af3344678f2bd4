//! A work queue: each key at most once, later if asked, with back-off after failures.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

/// The first wait after a failure; it doubles with each.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest wait after a failure.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Keys that wait for their one worker.
#[derive(Debug)]
pub(crate) struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

#[derive(Debug)]
struct State<K> {
    ready: VecDeque<K>,
    queued: HashSet<K>,
    later: BTreeSet<(Instant, K)>,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Ord + Hash> Queue<K> {
    /// An empty queue.
    pub(crate) fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            later: BTreeSet::new(),
            failures: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            wake: Notify::new(),
        }
    }

    /// Adds a key, unless it waits already.
    pub(crate) fn add(&self, key: K) {
        self.state.lock().push(key);
        self.wake.notify_one();
    }

    /// Adds a key after a while.
    pub(crate) fn add_after(&self, key: K, delay: Duration) {
        self.state
            .lock()
            .later
            .insert((Instant::now() + delay, key));
        self.wake.notify_one();
    }

    /// Adds a key after its back-off, which this call lengthens.
    pub(crate) fn retry(&self, key: K) {
        let delay = {
            let mut state = self.state.lock();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            backoff(*failures)
        };
        self.add_after(key, delay);
    }

    /// Ends the back-off of a key.
    pub(crate) fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// Waits for the next key. Cancel safe: a key is taken only when this returns.
    pub(crate) async fn next(&self) -> K {
        loop {
            let wait = {
                let mut state = self.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.queued.remove(&key);
                    return key;
                }
                state.later.first().map(|(due, _)| *due)
            };
            match wait {
                Some(due) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due) => {}
                        () = self.wake.notified() => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }
}

impl<K: Clone + Ord + Hash> State<K> {
    fn push(&mut self, key: K) {
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    fn promote(&mut self, now: Instant) {
        while let Some((due, key)) = self.later.pop_first() {
            if now < due {
                self.later.insert((due, key));
                return;
            }
            self.push(key);
        }
    }
}

fn backoff(failures: u32) -> Duration {
    BACKOFF_MIN
        .saturating_mul(1 << failures.saturating_sub(1).min(16))
        .min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BACKOFF_MAX, BACKOFF_MIN, Queue, backoff};

    #[tokio::test]
    async fn a_key_waits_at_most_once_and_due_keys_come_after_ready_ones() {
        let queue = Queue::new();
        queue.add_after("later", Duration::from_millis(5));
        queue.add("a");
        queue.add("b");
        queue.add("a");
        assert_eq!(
            [queue.next().await, queue.next().await, queue.next().await],
            ["a", "b", "later"]
        );
    }

    #[test]
    fn backoff_doubles_up_to_its_limit() {
        assert_eq!(backoff(1), BACKOFF_MIN);
        assert_eq!(backoff(2), BACKOFF_MIN * 2);
        assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
    }
}
