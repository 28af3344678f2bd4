//! The ways of picking that are compared.

use std::{collections::HashSet, sync::Arc};

use rand::{SeedableRng, rngs::StdRng, seq::index};

use testkit::traffic::{Session, Turn};

use crate::prefix::{CHAT, ENTRIES_DEFAULT, Load, Picker, Prediction, Seat, Seed, chain};

/// The share of a prompt that must be known for it to follow, as of smg's and vllm-router's `cache_aware`.
const KNOWN_SHARE: f64 = 0.3;

/// A way of picking.
#[derive(Debug)]
pub(super) enum Policy {
    /// One after the other.
    RoundRobin(usize),
    /// Of two at random, the one with fewer requests in progress.
    LeastBusy(StdRng),
    /// Always the same one for the same first message.
    FirstMessage,
    /// Where most of the prompt was sent before, whatever waits there; a prompt that is mostly new goes where the fewest
    /// blocks were sent. As routers do that look at the prompt first and at the load only when it is far out of balance.
    Stickiest(Vec<HashSet<u64>>),
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

    /// Where most of the prompt was sent before.
    pub(super) fn stickiest(engines: usize) -> Self {
        Self::Stickiest(vec![HashSet::new(); engines])
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
            Self::Stickiest(sent) => {
                let blocks = session.blocks(turn);
                let matched = |sent: &HashSet<u64>| {
                    let known = blocks.iter().take_while(|block| sent.contains(block));
                    known.count()
                };
                let most = (0..count).max_by_key(|engine| matched(&sent[*engine]));
                let known = most.filter(|engine| {
                    KNOWN_SHARE * (blocks.len() as f64) < matched(&sent[*engine]) as f64
                });
                let fewest = || (0..count).min_by_key(|engine| sent[*engine].len());
                let picked = known.or_else(fewest).unwrap_or_default();
                sent[picked].extend(blocks);
                (picked, None)
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
