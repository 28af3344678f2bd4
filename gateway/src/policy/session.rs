//! Sessions: requests of one session go to the same target and the same replica, as far as both can take them.

use std::{sync::Arc, time::Instant};

use foldhash::fast::FixedState;

use super::Candidate;
use crate::endpoint::Endpoint;

/// How many times the average load a replica may have before a session moves on.
const LOAD_MAX: f64 = 1.25;

/// A session, as the hash of what names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Session(u64);

impl Session {
    /// The session of this name.
    pub(crate) fn new(name: &[u8]) -> Self {
        Self(hash(0, name))
    }

    /// A number in (0, 1) that this session and a name have in common, always the same.
    fn draw(self, name: &str) -> f64 {
        // 53 bits are what a float holds.
        let bits = hash(self.0, name.as_bytes()) >> 11;
        (bits as f64 + 0.5) / (1_u64 << 53) as f64
    }
}

fn hash(seed: u64, bytes: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = FixedState::with_seed(seed).build_hasher();
    hasher.write(bytes);
    hasher.finish()
}

/// The targets' order for a session: each comes first for its share of all sessions, and stays so while it is usable.
/// When one goes only its sessions move.
pub(super) fn order<'a>(
    session: Session,
    candidates: &[Candidate],
    name: impl Fn(usize) -> &'a str,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    // The time of the first of `weight` arrivals a second: weights are shares of who comes first.
    let time = |index: usize| -session.draw(name(index)).ln() / f64::from(candidates[index].weight);
    order.sort_by(|left, right| {
        let is_unusable = |index: usize| !candidates[index].is_usable;
        is_unusable(*left)
            .cmp(&is_unusable(*right))
            .then_with(|| time(*left).total_cmp(&time(*right)))
    });
    order
}

/// The session's replica that was not `tried` and is not too busy; `None` if all are.
pub(crate) fn pick(
    session: Session,
    endpoints: &[Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
) -> Option<Arc<Endpoint>> {
    let in_flight: usize = endpoints.iter().map(|endpoint| endpoint.in_flight()).sum();
    let average = (in_flight + 1) as f64 / endpoints.len() as f64;
    let bound = (average * LOAD_MAX).ceil() as usize;
    let is_free = |endpoint: &&Arc<Endpoint>| {
        endpoint.in_flight() < bound
            && endpoint.is_usable(now)
            && !tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    };
    let free = endpoints.iter().filter(is_free);
    let draw = |endpoint: &&Arc<Endpoint>| session.draw(endpoint.url());
    let best = free.max_by(|left, right| draw(left).total_cmp(&draw(right)));
    best.map(Arc::clone)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use super::{Session, order, pick};
    use crate::{
        endpoint::{Endpoint, Endpoints},
        policy::Candidate,
    };

    const NAMES: [&str; 3] = ["a", "b", "c"];

    fn candidates(weights: &[(u32, bool)]) -> Vec<Candidate> {
        let candidate = |(weight, is_usable): &(u32, bool)| Candidate {
            weight: *weight,
            is_usable: *is_usable,
            ..Candidate::default()
        };
        weights.iter().map(candidate).collect()
    }

    fn firsts(weights: &[(u32, bool)]) -> Vec<usize> {
        let candidates = candidates(weights);
        let first = |number: u32| {
            let session = Session::new(&number.to_be_bytes());
            order(session, &candidates, |index| NAMES[index])[0]
        };
        (0..10_000).map(first).collect()
    }

    #[track_caller]
    fn check(weights: &[(u32, bool)], expected: &[usize]) {
        let firsts = firsts(weights);
        for (target, expected) in expected.iter().enumerate() {
            let count = firsts.iter().filter(|first| **first == target).count();
            let percent = (count + 50) / 100;
            assert!(percent.abs_diff(*expected) <= 2, "{percent} of {target}");
        }
    }

    #[test]
    fn sessions_are_shared_by_weight() {
        check(&[(1, true), (1, true)], &[50, 50]);
        check(&[(9, true), (1, true)], &[90, 10]);
        check(&[(0, true), (1, true)], &[0, 100]);
        check(&[(0, true), (1, false)], &[100, 0]);
    }

    #[test]
    fn a_session_keeps_its_variant_and_moves_only_when_that_is_gone() {
        let before = firsts(&[(2, true), (1, true), (1, true)]);
        assert_eq!(before, firsts(&[(2, true), (1, true), (1, true)]));
        let after = firsts(&[(2, true), (1, false), (1, true)]);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == 1));
        assert!(0 < moved.count());
    }

    #[test]
    fn a_session_stays_at_its_replica_until_that_is_busier_than_others() {
        let registry = Endpoints::default();
        let endpoint = |port: u16| registry.get(&format!("http://127.0.0.1:{port}/v1"), "m", None);
        let endpoints: Vec<Arc<Endpoint>> = (1..=4).filter_map(endpoint).collect();
        let now = Instant::now();
        let session = Session::new(b"session");
        let first = pick(session, &endpoints, &[], now).unwrap();
        let lease = first.begin(now);
        let second = pick(session, &endpoints, &[], now).unwrap();
        assert!(!Arc::ptr_eq(&first, &second), "one more would be too many");
        drop(lease);
        assert!(Arc::ptr_eq(
            &first,
            &pick(session, &endpoints, &[], now).unwrap()
        ));
        let tried = [Arc::clone(&first)];
        let second = pick(session, &endpoints, &tried, now).unwrap();
        while !first.note_failure(now) {}
        assert!(Arc::ptr_eq(
            &second,
            &pick(session, &endpoints, &[], now).unwrap()
        ));
        assert!(pick(session, &endpoints, &endpoints, now).is_none());
    }
}
