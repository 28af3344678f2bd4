//! The index: which replicas were sent which prefix, in a table of fixed size that forgets what was not used for longest.
//!
//! It has no locks. All it holds are hints, so every access is a relaxed atomic one, and two writers that meet in one
//! entry leave at worst a wrong hint behind, which the next answer corrects. A lock for each of the thousand blocks of a
//! long prompt would cost more than the decision that the hints serve.
//!
//! Eight entries make a bucket of two cache lines; the entry of a bucket with the oldest age makes room (CLOCK with an age
//! in place of a bit). Ages count turnovers of the table, not time. A replica is forgotten by its generation: entries carry
//! the generation of the table in which they were written, and a seat's bit counts only in entries that are at least as
//! young as the seat.

use std::{
    hint::black_box,
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
};

/// Replicas that one index can tell apart.
pub(super) const SEATS_MAX: usize = 64;
/// Entries in a bucket.
const WAYS: usize = 8;
/// Buckets that are read ahead.
const FETCHED: usize = 16;
/// Steps of the age while as many entries are written as the table has.
const AGES_PER_TURNOVER: u64 = 32;
/// The last generation that fits into an entry.
const GENERATION_MAX: u32 = (1 << 24) - 1;

/// Which replicas were sent which prefix.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    /// The youngest generation of any seat.
    generation: AtomicU32,
    /// When each seat was taken last.
    born: [AtomicU32; SEATS_MAX],
    /// Entries written since the start; their number is the clock of the ages.
    written: AtomicU64,
}

/// Some entries: the labels in one cache line, the seats in the next. An entry without seats is empty.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Bucket {
    /// A [`Label`] each.
    labels: [AtomicU64; WAYS],
    /// A bit for each seat.
    seats: [AtomicU64; WAYS],
}

/// What tells an entry's prefix and how old it is: 32 bits of the hash, 24 of the generation, 8 of the age. Zero if the
/// entry is empty; a label that is zero by chance is one that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label(u64);

impl Label {
    fn new(tag: u32, generation: u32, age: u8) -> Self {
        Self(u64::from(tag) << 32 | u64::from(generation) << 8 | u64::from(age))
    }

    fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 8) as u32 & GENERATION_MAX
    }

    fn age(self) -> u8 {
        self.0 as u8
    }
}

impl Index {
    /// An empty index of so many entries, 16 bytes each, rounded up to whole buckets.
    pub(super) fn new(entries: usize) -> Self {
        let buckets = entries.div_ceil(WAYS).max(1);
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            generation: AtomicU32::new(0),
            born: [const { AtomicU32::new(0) }; SEATS_MAX],
            written: AtomicU64::new(0),
        }
    }

    /// Forgets all that a seat's replica was sent, at once however much it is; the seat's new generation.
    pub(super) fn forget(&self, seat: usize) -> u32 {
        if GENERATION_MAX <= self.generation.load(Relaxed) {
            self.start_over();
        }
        let generation = self.generation.fetch_add(1, Relaxed) + 1;
        self.born[seat].store(generation, Relaxed);
        generation
    }

    /// The generations are used up, after sixteen million restarts: empties the table.
    fn start_over(&self) {
        for bucket in &self.buckets {
            for way in bucket.labels.iter().chain(&bucket.seats) {
                way.store(0, Relaxed);
            }
        }
        for born in &self.born {
            born.store(0, Relaxed);
        }
        self.generation.store(0, Relaxed);
    }

    /// Notes that a seat's replica has these prefixes, and that they are in use.
    pub(super) fn insert(&self, hashes: &[u64], seat: usize) {
        let turnover = (self.buckets.len() * WAYS) as u64;
        let written = self.written.load(Relaxed);
        let age = (written * AGES_PER_TURNOVER / turnover) as u8;
        let generation = self.generation.load(Relaxed);
        let mut added = 0;
        for near in hashes.chunks(FETCHED) {
            self.fetch(near);
            for hash in near {
                let label = Label::new(tag(*hash), generation, age);
                added += u64::from(self.insert_one(*hash, label, 1 << seat));
            }
        }
        self.written.fetch_add(added, Relaxed);
    }

    /// Reads some buckets into the processor's cache all at once: one after the other, each would be waited for.
    fn fetch(&self, hashes: &[u64]) {
        let read = hashes.iter().map(|hash| {
            let bucket = self.bucket(*hash);
            bucket.labels[0].load(Relaxed) ^ bucket.seats[0].load(Relaxed)
        });
        black_box(read.fold(0, |all, one| all ^ one));
    }

    /// Whether an entry was made for it.
    fn insert_one(&self, hash: u64, label: Label, seat: u64) -> bool {
        let bucket = self.bucket(hash);
        if let Some((way, seats)) = self.find(bucket, label.tag()) {
            if seats | seat != bucket.seats[way].load(Relaxed) {
                bucket.seats[way].store(seats | seat, Relaxed);
            }
            if bucket.labels[way].load(Relaxed) != label.0 {
                bucket.labels[way].store(label.0, Relaxed);
            }
            return false;
        }
        let way = oldest(bucket, label.age());
        // Without seats in between, nobody takes the old prefix's seats for the new one's.
        bucket.seats[way].store(0, Relaxed);
        bucket.labels[way].store(label.0, Relaxed);
        bucket.seats[way].store(seat, Relaxed);
        true
    }

    /// Takes back that a seat's replica has these prefixes.
    pub(super) fn remove(&self, hashes: &[u64], seat: usize) {
        for hash in hashes {
            let bucket = self.bucket(*hash);
            if let Some((way, seats)) = self.find(bucket, tag(*hash)) {
                bucket.seats[way].fetch_and(!(1 << seat), Relaxed);
                if seats == 1 << seat {
                    bucket.labels[way].store(0, Relaxed);
                }
            }
        }
    }

    /// The seats whose replicas have this prefix.
    pub(super) fn seats(&self, hash: u64) -> u64 {
        let found = self.find(self.bucket(hash), tag(hash));
        found.map_or(0, |(_, seats)| seats)
    }

    fn bucket(&self, hash: u64) -> &Bucket {
        // The high bits choose the bucket, the low ones are the tag.
        let index = ((u128::from(hash) * self.buckets.len() as u128) >> 64) as usize;
        &self.buckets[index]
    }

    /// The entry with this tag, and its seats, of which there are some.
    fn find(&self, bucket: &Bucket, tag: u32) -> Option<(usize, u64)> {
        for (way, label) in bucket.labels.iter().enumerate() {
            let label = Label(label.load(Relaxed));
            if label.tag() == tag {
                let seats = self.living(bucket.seats[way].load(Relaxed), label.generation());
                if seats != 0 {
                    return Some((way, seats));
                }
            }
        }
        None
    }

    /// The seats that were not forgotten since this generation.
    fn living(&self, seats: u64, generation: u32) -> u64 {
        if self.generation.load(Relaxed) == generation {
            return seats;
        }
        let mut rest = seats;
        let mut living = seats;
        while rest != 0 {
            let bit = rest & rest.wrapping_neg();
            if generation < self.born[bit.trailing_zeros() as usize].load(Relaxed) {
                living &= !bit;
            }
            rest &= !bit;
        }
        living
    }
}

/// The entry that makes room: an empty one, or the oldest.
fn oldest(bucket: &Bucket, now: u8) -> usize {
    let mut oldest = (0, 0);
    for (way, label) in bucket.labels.iter().enumerate() {
        let label = Label(label.load(Relaxed));
        let age = match label.0 {
            0 => u16::MAX,
            _ => now.wrapping_sub(label.age()).into(),
        };
        if oldest.1 < age {
            oldest = (way, age);
        }
    }
    oldest.0
}

fn tag(hash: u64) -> u32 {
    hash as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::{GENERATION_MAX, Index};

    fn hashes(seed: u64, count: usize) -> Vec<u64> {
        let mut random = StdRng::seed_from_u64(seed);
        (0..count).map(|_| random.random()).collect()
    }

    fn held(index: &Index, hashes: &[u64], seat: usize) -> usize {
        hashes
            .iter()
            .filter(|hash| index.seats(**hash) >> seat & 1 == 1)
            .count()
    }

    #[test]
    fn memory_is_bounded_and_the_unused_goes_first() {
        let index = Index::new(1024);
        assert_eq!(size_of_val(&*index.buckets), 1024 * 16);
        let used = hashes(1, 200);
        index.insert(&used, 3);
        for round in 0..50 {
            index.insert(&hashes(100 + round, 100), 3);
            index.insert(&used, 3);
        }
        assert_eq!(held(&index, &used, 3), 200);
        assert_eq!(held(&index, &hashes(100, 100), 3), 0);
    }

    #[test]
    fn half_of_the_table_can_be_used_without_loss() {
        let index = Index::new(8192);
        let used = hashes(1, 4096);
        index.insert(&used, 0);
        assert!(4000 < held(&index, &used, 0));
    }

    #[test]
    fn writers_that_meet_lose_next_to_nothing() {
        let index = Index::new(1 << 16);
        let chains: Vec<Vec<u64>> = (0..4).map(|writer| hashes(writer, 2000)).collect();
        std::thread::scope(|scope| {
            for (seat, chain) in chains.iter().enumerate() {
                let index = &index;
                scope.spawn(move || {
                    index.insert(chain, seat);
                    index.insert(&chain[..100], 60);
                    index.forget(61);
                });
            }
        });
        for (seat, chain) in chains.iter().enumerate() {
            assert!(1980 <= held(&index, chain, seat));
            assert!(90 <= held(&index, &chain[..100], 60));
        }
    }

    #[test]
    fn a_forgotten_seat_knows_nothing_and_others_all() {
        let index = Index::new(4096);
        let [old, new] = [hashes(1, 100), hashes(2, 100)];
        index.insert(&old, 5);
        index.insert(&old, 63);
        index.forget(5);
        assert_eq!((held(&index, &old, 5), held(&index, &old, 63)), (0, 100));
        index.insert(&new, 5);
        index.insert(&old, 7);
        assert_eq!((held(&index, &old, 5), held(&index, &new, 5)), (0, 100));
        assert_eq!((held(&index, &old, 63), held(&index, &old, 7)), (100, 100));
    }

    #[test]
    fn generations_that_are_used_up_empty_the_table() {
        let index = Index::new(64);
        index.generation.store(GENERATION_MAX - 1, super::Relaxed);
        let old = hashes(1, 4);
        index.insert(&old, 1);
        assert_eq!(index.forget(2), GENERATION_MAX);
        assert_eq!(held(&index, &old, 1), 4);
        assert_eq!(index.forget(2), 1);
        assert_eq!(held(&index, &old, 1), 0);
        index.insert(&old, 1);
        assert_eq!(held(&index, &old, 1), 4);
    }

    #[derive(Debug, Clone)]
    enum Act {
        Insert(u64, usize),
        Remove(u64, usize),
        Forget(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        let (hash, seat) = (0..20_u64, 0..64_usize);
        prop_oneof![
            4 => (hash.clone(), seat.clone()).prop_map(|(hash, seat)| Act::Insert(hash, seat)),
            1 => (hash, seat.clone()).prop_map(|(hash, seat)| Act::Remove(hash, seat)),
            1 => seat.prop_map(Act::Forget),
        ]
    }

    proptest! {
        /// While nothing is pushed out, the table is a set of pairs.
        #[test]
        fn the_index_is_a_set(acts in vec(act(), 0..200), salt in any::<u64>()) {
            let index = Index::new(4096);
            let hashes = hashes(salt, 20);
            let mut model = HashSet::new();
            for act in acts {
                match act {
                    Act::Insert(hash, seat) => {
                        index.insert(&hashes[hash as usize..][..1], seat);
                        model.insert((hash, seat));
                    }
                    Act::Remove(hash, seat) => {
                        index.remove(&hashes[hash as usize..][..1], seat);
                        model.remove(&(hash, seat));
                    }
                    Act::Forget(seat) => {
                        index.forget(seat);
                        model.retain(|(_, other)| *other != seat);
                    }
                }
            }
            for (hash, at) in (0..).zip(&hashes) {
                let seats = (0..64).filter(|seat| model.contains(&(hash, *seat)));
                assert_eq!(index.seats(*at), seats.fold(0, |bits, seat| bits | 1 << seat));
            }
        }
    }
}
