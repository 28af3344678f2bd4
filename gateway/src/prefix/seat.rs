//! Seats: a replica's place in the index, what it has to do, and how far it can be trusted.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use parking_lot::Mutex;

use crate::prefix::{
    index::{Index, SEATS_MAX},
    learned::Trust,
    residents::Residents,
};

/// A replica's seat. It is free again when nobody holds it.
#[derive(Debug)]
pub(crate) struct Seat {
    name: String,
    place: usize,
    /// The generation of its entries in the index; predictions of an older one are about a process that has ended.
    generation: AtomicU32,
    requests: AtomicUsize,
    /// Tokens of the prompts in progress.
    load_tokens: AtomicU64,
    /// Tokens of them that are yet to be read.
    queued_tokens: AtomicU64,
    /// Tokens that it wrote into its cache, those of long ago for less.
    written_tokens: AtomicU64,
    /// How much of its cache is there.
    pub(super) trust: Trust,
    /// The blocks that it says that it holds.
    pub(super) residents: Residents,
}

impl Seat {
    /// The replica's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Something that the replica said was missed: which of its blocks are which prefixes is not known any more.
    pub(crate) fn lose_track(&self) {
        self.residents.clear();
    }

    /// The bit in the index.
    pub(super) fn place(&self) -> usize {
        self.place
    }

    /// The generation of its entries.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Relaxed)
    }

    /// Begins a generation: the replica was started again, with an empty cache.
    pub(super) fn renew(&self, generation: u32) {
        self.generation.store(generation, Relaxed);
        self.written_tokens.store(0, Relaxed);
    }

    /// Requests that were picked for it and have not ended.
    pub(super) fn requests(&self) -> usize {
        self.requests.load(Relaxed)
    }

    /// Tokens of the prompts in progress.
    pub(super) fn load_tokens(&self) -> u64 {
        self.load_tokens.load(Relaxed)
    }

    /// Tokens of them that are yet to be read.
    pub(super) fn queued_tokens(&self) -> u64 {
        self.queued_tokens.load(Relaxed)
    }

    /// Tokens that it wrote into its cache, those of long ago for less.
    pub(super) fn written_tokens(&self) -> u64 {
        self.written_tokens.load(Relaxed)
    }

    /// Takes on a request.
    pub(super) fn begin(&self, prompt_tokens: u64, missed_tokens: u64) {
        self.requests.fetch_add(1, Relaxed);
        self.load_tokens.fetch_add(prompt_tokens, Relaxed);
        self.queued_tokens.fetch_add(missed_tokens, Relaxed);
        self.written_tokens.fetch_add(missed_tokens, Relaxed);
    }

    /// What it wrote so far counts half from now on.
    pub(super) fn fade(&self) {
        let written = self.written_tokens();
        self.written_tokens.fetch_sub(written / 2, Relaxed);
    }

    /// A request's prompt was read.
    pub(super) fn note_read(&self, missed_tokens: u64) {
        self.queued_tokens.fetch_sub(missed_tokens, Relaxed);
    }

    /// A request ended.
    pub(super) fn end(&self, prompt_tokens: u64) {
        self.requests.fetch_sub(1, Relaxed);
        self.load_tokens.fetch_sub(prompt_tokens, Relaxed);
    }
}

/// All seats of an index.
#[derive(Debug)]
pub(super) struct Seats {
    by_place: Mutex<[Weak<Seat>; SEATS_MAX]>,
}

impl Default for Seats {
    fn default() -> Self {
        Self {
            by_place: Mutex::new([const { Weak::new() }; SEATS_MAX]),
        }
    }
}

impl Seats {
    /// The seat of the replica with this name, or a free one that remembers nothing; `None` if all are taken.
    pub(super) fn take(&self, name: &str, index: &Index) -> Option<Arc<Seat>> {
        let mut by_place = self.by_place.lock();
        let mut taken = by_place.iter().filter_map(Weak::upgrade);
        if let Some(seat) = taken.find(|seat| seat.name == name) {
            return Some(seat);
        }
        let place = by_place.iter().position(|seat| seat.strong_count() == 0)?;
        let seat = Arc::new(Seat {
            name: name.to_owned(),
            place,
            generation: AtomicU32::new(index.forget(place)),
            requests: AtomicUsize::new(0),
            load_tokens: AtomicU64::new(0),
            queued_tokens: AtomicU64::new(0),
            written_tokens: AtomicU64::new(0),
            trust: Trust::default(),
            residents: Residents::default(),
        });
        by_place[place] = Arc::downgrade(&seat);
        Some(seat)
    }
}
