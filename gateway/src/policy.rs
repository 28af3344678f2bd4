//! Policies: in which order a route's targets are tried, and which replica of a target takes a request.

mod failover;
mod least_busy;
mod weighted;

use protocol::snapshot::Strategy;
use rand::Rng;

pub(crate) use self::least_busy::pick;

/// What a policy knows of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// Its share of the traffic.
    pub(crate) weight: u32,
    /// Its place in the order of failover.
    pub(crate) priority: u32,
    /// Whether a replica of it can take a request now.
    pub(crate) is_usable: bool,
}

/// The order in which targets are tried, as indexes of `candidates`.
pub(crate) fn order(
    strategy: Strategy,
    candidates: &[Candidate],
    random: &mut impl Rng,
) -> Vec<usize> {
    match strategy {
        Strategy::Weighted => weighted::order(candidates, random),
        Strategy::Failover => failover::order(candidates),
    }
}
