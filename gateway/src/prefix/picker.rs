//! The picker: decides which replica of a pool takes a request, and remembers that it did.

use std::{sync::Arc, time::Instant};

use rand::Rng;

use crate::prefix::{
    blocks::BLOCK_BYTES,
    chain::Chain,
    depths::depths,
    index::Index,
    learned::Learned,
    prediction::{Expected, Prediction},
    residents::Change,
    score::{Standing, Work, choose},
    seat::{Seat, Seats},
};

/// Entries of an index, 4 MiB in all: prefixes of 64 MiB of text, the caches of about sixteen data-centre accelerators.
pub(crate) const ENTRIES_DEFAULT: usize = 1 << 18;

/// Tokens that replicas wrote into their caches, in the mean, before older ones count for less: more than most hold.
const WRITTEN_MAX: f64 = 1_048_576.0;

/// Picks among the replicas of one model. Clones are the same picker.
#[derive(Debug, Clone)]
pub(crate) struct Picker {
    pool: Arc<Pool>,
}

/// What picks and answers share.
#[derive(Debug)]
pub(super) struct Pool {
    /// Who was sent what.
    pub(super) index: Index,
    /// What answers taught.
    pub(super) learned: Learned,
    seats: Seats,
}

/// A replica as its caller sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load<'a> {
    /// Its seat.
    pub(crate) seat: &'a Arc<Seat>,
    /// Requests in progress there, also those that this picker knows nothing of.
    pub(crate) in_flight: usize,
    /// Whether a request can be sent there now.
    pub(crate) is_usable: bool,
    /// Seconds that the request waits there for something else than reading, as for an adapter.
    pub(crate) seconds: f64,
}

impl Picker {
    /// A picker whose index has so many entries, 16 bytes each.
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            pool: Arc::new(Pool {
                index: Index::new(entries),
                learned: Learned::default(),
                seats: Seats::default(),
            }),
        }
    }

    /// The seat of the replica with this name, the same one for as long as anybody holds it; `None` if 64 others are
    /// taken.
    pub(crate) fn seat(&self, name: &str) -> Option<Arc<Seat>> {
        self.pool.seats.take(name, &self.pool.index)
    }

    /// Forgets what a replica has cached: it was started again.
    pub(crate) fn forget(&self, seat: &Seat) {
        seat.renew(self.pool.index.forget(seat.place()));
        seat.residents.clear();
    }

    /// Notes what a replica says has changed in its cache.
    pub(crate) fn note(&self, seat: &Seat, changes: &[Change], now: Instant) {
        for change in changes {
            match change {
                Change::Stored {
                    blocks,
                    parent,
                    block_tokens,
                    medium,
                } => seat
                    .residents
                    .store(blocks, *parent, (*block_tokens, *medium), now),
                Change::Removed { blocks, medium } => {
                    let ours = seat.residents.remove(blocks, *medium);
                    self.pool.index.remove(&ours, seat.place());
                }
                Change::Cleared => self.forget(seat),
            }
        }
    }

    /// Picks a replica for a prompt, as an index of `loads`, and notes at once that it will have the prompt, so that the
    /// next request with the same beginning follows. The prediction is to be finished when the answer ends; one that is
    /// dropped takes back what was noted. `None` if there is no replica.
    pub(crate) fn pick(
        &self,
        chain: Chain,
        loads: &[Load<'_>],
        random: &mut impl Rng,
    ) -> Option<(usize, Prediction)> {
        let depths = depths(&self.pool.index, chain.hashes());
        let learned = &self.pool.learned;
        let tokens_per_byte = learned.tokens_per_byte();
        let work = Work {
            prompt_tokens: chain.bytes() as f64 * tokens_per_byte,
            seconds_per_token: learned.seconds_per_token(),
        };
        let block_tokens = BLOCK_BYTES as f64 * tokens_per_byte;
        let standing = |load: &Load<'_>| {
            let seat = load.seat;
            // Requests of others count as usual ones that were not read yet.
            let unknown = load.in_flight.saturating_sub(seat.requests());
            let unknown_tokens = unknown as f64 * learned.tokens_per_prompt();
            let matched_tokens = depths[seat.place()] as f64 * block_tokens;
            Standing {
                is_usable: load.is_usable,
                seconds: load.seconds,
                matched_tokens: matched_tokens.min(work.prompt_tokens) * seat.trust.get(),
                queued_tokens: seat.queued_tokens() as f64 + unknown_tokens,
                load_tokens: seat.load_tokens() as f64 + unknown_tokens,
                written_tokens: seat.written_tokens() as f64,
            }
        };
        let standings: Vec<Standing> = loads.iter().map(standing).collect();
        let picked = choose(&standings, work, random)?;
        let written: f64 = standings
            .iter()
            .map(|standing| standing.written_tokens)
            .sum();
        if WRITTEN_MAX * (loads.len() as f64) < written {
            loads.iter().for_each(|load| load.seat.fade());
        }
        let seat = Arc::clone(loads[picked].seat);
        let expected = Expected {
            matched_blocks: depths[seat.place()],
            prompt_tokens: work.prompt_tokens as u64,
            matched_tokens: standings[picked].matched_tokens as u64,
            queued_tokens: standings[picked].queued_tokens as u64,
        };
        let prediction = Prediction::begin(Arc::clone(&self.pool), seat, chain, expected);
        Some((picked, prediction))
    }
}

#[cfg(test)]
mod tests;
