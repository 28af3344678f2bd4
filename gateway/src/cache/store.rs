//! What is kept: answers up to a number of bytes, each for a time; the least recently given one goes first.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{Kept, Place};

/// Bytes that an answer costs besides its own.
const OVERHEAD_BYTES: u64 = 512;

/// Bytes of all stores together.
#[derive(Debug)]
pub(super) struct Room {
    used: AtomicU64,
    bytes_max: u64,
}

/// The answers of one cache.
#[derive(Debug)]
pub(super) struct Store {
    inner: Mutex<Inner>,
    room: Arc<Room>,
    ttl: Duration,
    bytes_max: u64,
}

#[derive(Debug, Default)]
struct Inner {
    slots: HashMap<Place, Slot>,
    /// Places by when they were given last, and by when they came; the numbers are the clock's.
    by_use: BTreeMap<u64, Place>,
    by_age: BTreeMap<u64, Place>,
    bytes: u64,
    clock: u64,
}

#[derive(Debug)]
struct Slot {
    kept: Arc<Kept>,
    came: u64,
    used: u64,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            bytes_max,
        }
    }
}

impl Store {
    /// A store without answers.
    pub(super) fn new(ttl: Duration, bytes_max: u64, room: Arc<Room>) -> Self {
        Self {
            inner: Mutex::default(),
            room,
            ttl,
            bytes_max,
        }
    }

    /// The answer at a place, if it is young enough.
    pub(super) fn get(&self, place: &Place, age_max: Duration, now: Instant) -> Option<Arc<Kept>> {
        let mut inner = self.inner.lock();
        let slot = inner.slots.get(place)?;
        let age = now.saturating_duration_since(slot.kept.kept_at);
        if self.ttl <= age {
            self.remove(&mut inner, place);
            return None;
        }
        if age_max < age {
            return None;
        }
        inner.clock += 1;
        let clock = inner.clock;
        let slot = inner.slots.get_mut(place)?;
        let (kept, before) = (Arc::clone(&slot.kept), slot.used);
        slot.used = clock;
        inner.by_use.remove(&before);
        inner.by_use.insert(clock, *place);
        Some(kept)
    }

    /// Keeps an answer, in place of what was there; one that does not fit is not kept.
    pub(super) fn insert(&self, place: Place, kept: Arc<Kept>, now: Instant) {
        let weight = weight(&kept);
        let mut inner = self.inner.lock();
        self.remove(&mut inner, &place);
        self.forget_old(&mut inner, now);
        if self.bytes_max < weight {
            return;
        }
        loop {
            let is_full = self.bytes_max < inner.bytes + weight;
            let used = self.room.used.load(Ordering::Relaxed);
            // Several stores may see the same room at once: it is over its limit by an answer of each at most.
            if !is_full && used + weight <= self.room.bytes_max {
                break;
            }
            let Some(oldest) = inner.by_use.values().next().copied() else {
                return;
            };
            self.remove(&mut inner, &oldest);
        }
        inner.clock += 1;
        let clock = inner.clock;
        inner.by_use.insert(clock, place);
        inner.by_age.insert(clock, place);
        inner.bytes += weight;
        self.room.used.fetch_add(weight, Ordering::Relaxed);
        let slot = Slot {
            kept,
            came: clock,
            used: clock,
        };
        inner.slots.insert(place, slot);
    }

    /// Answers that are over do not wait in memory until somebody asks for them.
    fn forget_old(&self, inner: &mut Inner, now: Instant) {
        while let Some(place) = inner.by_age.values().next().copied() {
            let kept_at = inner.slots.get(&place).map(|slot| slot.kept.kept_at);
            if kept_at.is_some_and(|at| now.saturating_duration_since(at) < self.ttl) {
                return;
            }
            self.remove(inner, &place);
        }
    }

    fn remove(&self, inner: &mut Inner, place: &Place) {
        let Some(slot) = inner.slots.remove(place) else {
            return;
        };
        inner.by_use.remove(&slot.used);
        inner.by_age.remove(&slot.came);
        inner.bytes -= weight(&slot.kept);
        self.room
            .used
            .fetch_sub(weight(&slot.kept), Ordering::Relaxed);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let bytes = self.inner.get_mut().bytes;
        self.room.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

fn weight(kept: &Kept) -> u64 {
    let bytes = u64::try_from(kept.body.len()).unwrap_or(u64::MAX);
    bytes.saturating_add(OVERHEAD_BYTES)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, atomic::Ordering},
        time::{Duration, Instant},
    };

    use bytes::Bytes;

    use super::{OVERHEAD_BYTES, Room, Store};
    use crate::cache::{Form, Kept, Place};

    const TTL: Duration = Duration::from_secs(60);
    const BODY: &[u8] = b"0123456789";
    const WEIGHT: u64 = BODY.len() as u64 + OVERHEAD_BYTES;

    fn place(number: u8) -> Place {
        Place {
            key: [number; 32],
            form: Form::Whole,
        }
    }

    fn insert(store: &Store, number: u8, at: Instant) {
        let kept = Kept {
            kept_at: at,
            ..Kept::of(Form::Whole, Bytes::from_static(BODY))
        };
        store.insert(place(number), Arc::new(kept), at);
    }

    #[track_caller]
    fn check(store: &Store, now: Instant, expected: &[u8]) {
        let there = |number: &u8| store.get(&place(*number), Duration::MAX, now).is_some();
        let found: Vec<u8> = (0..10).filter(there).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_least_recently_given_answer_goes_first() {
        let room = Arc::new(Room::new(u64::MAX));
        let store = Store::new(TTL, 3 * WEIGHT, Arc::clone(&room));
        let now = Instant::now();
        for number in [1, 2, 3] {
            insert(&store, number, now);
        }
        store.get(&place(1), Duration::MAX, now).unwrap();
        insert(&store, 4, now);
        check(&store, now, &[1, 3, 4]);
        // What is there again takes no second place.
        insert(&store, 3, now);
        check(&store, now, &[1, 3, 4]);
        assert_eq!(room.used.load(Ordering::Relaxed), 3 * WEIGHT);
        drop(store);
        assert_eq!(room.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn answers_are_over_after_their_time() {
        let store = Store::new(TTL, 100 * WEIGHT, Arc::new(Room::new(u64::MAX)));
        let begin = Instant::now();
        insert(&store, 1, begin);
        insert(&store, 2, begin + TTL / 2);
        let age = |max| store.get(&place(1), max, begin + TTL / 2).is_some();
        assert_eq!((age(TTL / 2), age(TTL / 4)), (true, false));
        insert(&store, 3, begin + TTL);
        assert_eq!(store.inner.lock().slots.len(), 2);
        check(&store, begin + TTL, &[2, 3]);
    }

    #[test]
    fn stores_share_a_room() {
        let room = Arc::new(Room::new(2 * WEIGHT));
        let stores = [(); 2].map(|()| Store::new(TTL, 100 * WEIGHT, Arc::clone(&room)));
        let now = Instant::now();
        insert(&stores[0], 1, now);
        insert(&stores[0], 2, now);
        // A store makes room of its own only.
        insert(&stores[1], 3, now);
        check(&stores[1], now, &[]);
        insert(&stores[0], 3, now);
        check(&stores[0], now, &[2, 3]);
        let small = Store::new(TTL, WEIGHT - 1, Arc::new(Room::new(u64::MAX)));
        insert(&small, 1, now);
        check(&small, now, &[]);
    }
}
