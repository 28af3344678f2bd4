//! Depths: how many blocks of a prompt each replica knows, found with a number of looks that grows with the logarithm of
//! the prompt's length.
//!
//! Who has a prefix has every shorter one, so the replicas along a chain only become fewer: gallop to where they end,
//! search each drop on the way by halves. The index may have lost an entry in the middle; a look therefore takes a few
//! neighbours together, for whoever has a longer prefix has the lost one too.

use crate::prefix::index::{Index, SEATS_MAX};

/// Neighbours that one look takes together: so many lost entries in a row, less one, go unnoticed.
const LOOK_BLOCKS: usize = 4;

/// How many blocks each seat's replica knows.
pub(super) type Depths = [usize; SEATS_MAX];

/// The depths of a chain.
pub(super) fn depths(index: &Index, chain: &[u64]) -> Depths {
    let mut search = Search {
        index,
        chain,
        depths: [0; SEATS_MAX],
    };
    search.gallop();
    search.depths
}

struct Search<'a> {
    index: &'a Index,
    chain: &'a [u64],
    depths: Depths,
}

impl Search<'_> {
    fn gallop(&mut self) {
        if self.chain.is_empty() {
            return;
        }
        let last = self.chain.len() - 1;
        let mut near = 0;
        let mut seats = self.look(near);
        while near < last && seats != 0 {
            let far = last.min(near * 2 + 1);
            let remaining = seats & self.look(far);
            self.halve(near, far, seats & !remaining);
            (near, seats) = (far, remaining);
        }
        self.settle(seats, near + 1);
    }

    /// Finds the depths of seats that are there at `near` and gone at `far`.
    fn halve(&mut self, near: usize, far: usize, seats: u64) {
        if seats == 0 {
            return;
        }
        if far <= near + 1 {
            return self.settle(seats, far);
        }
        let middle = near.midpoint(far);
        let remaining = seats & self.look(middle);
        self.halve(near, middle, seats & !remaining);
        self.halve(middle, far, remaining);
    }

    fn look(&self, at: usize) -> u64 {
        let taken = self.chain[at..].iter().take(LOOK_BLOCKS);
        taken.fold(0, |seats, hash| seats | self.index.seats(*hash))
    }

    fn settle(&mut self, mut seats: u64, depth: usize) {
        while seats != 0 {
            self.depths[seats.trailing_zeros() as usize] = depth;
            seats &= seats - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::proptest;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::depths;
    use crate::prefix::index::{Index, SEATS_MAX};

    fn chain(length: usize) -> Vec<u64> {
        let mut random = StdRng::seed_from_u64(7);
        (0..length).map(|_| random.random()).collect()
    }

    fn linear(index: &Index, chain: &[u64], seat: usize) -> usize {
        let known = chain
            .iter()
            .take_while(|hash| index.seats(**hash) >> seat & 1 == 1);
        known.count()
    }

    proptest! {
        #[test]
        fn galloping_finds_what_walking_finds(length in 0..1500_usize, known in vec((0..SEATS_MAX, 0..1500_usize), 0..20)) {
            let index = Index::new(1 << 15);
            let chain = chain(length);
            for (seat, depth) in known {
                index.insert(&chain[..depth.min(length)], seat);
            }
            let found = depths(&index, &chain);
            for (seat, depth) in found.iter().enumerate() {
                assert_eq!(*depth, linear(&index, &chain, seat));
            }
        }

        #[test]
        fn single_lost_entries_shorten_nothing(length in 8..1500_usize, lost in vec(0..1500_usize, 0..40)) {
            let index = Index::new(1 << 15);
            let chain = chain(length);
            index.insert(&chain, 9);
            let mut last_lost = None;
            let mut lost: Vec<usize> = lost.into_iter().filter(|at| at + 1 < length).collect();
            lost.sort_unstable();
            for at in lost {
                if last_lost.is_none_or(|last| last + 1 < at) {
                    index.remove(&chain[at..=at], 9);
                    last_lost = Some(at);
                }
            }
            assert_eq!(depths(&index, &chain)[9], length);
        }
    }
}
