//! The ways of picking that are compared.

use std::sync::Arc;

use rand::{SeedableRng, rngs::StdRng, seq::index};

use testkit::traffic::{Session, Turn};

use crate::prefix::{CHAT, ENTRIES_DEFAULT, Load, Picker, Prediction, Seat, Seed, chain};

/// A way of picking.
#[derive(Debug)]
pub(super) enum Policy {
    /// One after the other.
    RoundRobin(usize),
    /// Of two at random, the one with fewer requests in progress.
    LeastBusy(StdRng),
    /// Always the same one for the same first message.
    FirstMessage,
    /// Ours.
    PrefixAware {
        /// The picker.
        picker: Picker,
        /// A seat for each engine.
        seats: Vec<Arc<Seat>>,
        /// For ties.
        random: StdRng,
    },
}

impl Policy {
    /// Of two at random, the one with fewer requests in progress.
    pub(super) fn least_busy() -> Self {
        Self::LeastBusy(StdRng::seed_from_u64(9))
    }

    /// Ours.
    pub(super) fn prefix_aware(engines: usize) -> Self {
        let picker = Picker::new(ENTRIES_DEFAULT);
        let seats = (0..engines).filter_map(|engine| picker.seat(&engine.to_string()));
        Self::PrefixAware {
            seats: seats.collect(),
            picker,
            random: StdRng::seed_from_u64(9),
        }
    }

    /// Picks an engine.
    pub(super) fn pick(
        &mut self,
        session: &Session,
        turn: &Turn,
        in_flight: &[usize],
    ) -> (usize, Option<Prediction>) {
        let count = in_flight.len();
        match self {
            Self::RoundRobin(next) => {
                *next += 1;
                (*next % count, None)
            }
            Self::LeastBusy(random) => {
                let two = index::sample(random, count, 2).into_iter();
                let picked = two.min_by_key(|engine| in_flight[*engine]);
                (picked.unwrap_or_default(), None)
            }
            Self::FirstMessage => {
                let weight = |engine: &usize| {
                    (session.first_message() ^ *engine as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
                        >> 8
                };
                ((0..count).max_by_key(weight).unwrap_or_default(), None)
            }
            Self::PrefixAware {
                picker,
                seats,
                random,
            } => {
                let loads = seats.iter().zip(in_flight);
                let loads = loads.map(|(seat, in_flight)| Load {
                    seat,
                    in_flight: *in_flight,
                    is_usable: true,
                    seconds: 0.0,
                });
                let loads: Vec<Load<'_>> = loads.collect();
                let body = session.body(turn);
                let chain = chain(body.as_bytes(), CHAT, Seed::new("m", None, ""));
                let (picked, prediction) = picker.pick(chain, &loads, random).unwrap();
                (picked, Some(prediction))
            }
        }
    }
}
