//! Policies: in which order a route's targets are tried, and which replica of a target takes a request.

mod failover;
mod least_busy;
mod measured;
mod session;
mod weighted;

use protocol::snapshot::Strategy;
use rand::Rng;

pub(crate) use self::{
    least_busy::{by_load, by_pace, cheapest, pick},
    session::{Session, pick as pick_for_session},
};

/// What a policy knows of a target.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Candidate {
    /// Its share of the traffic.
    pub(crate) weight: u32,
    /// Its place in the order of failover.
    pub(crate) priority: u32,
    /// Whether a replica of it can take a request now.
    pub(crate) is_usable: bool,
    /// Requests in progress at one of its replicas, on average.
    pub(crate) load: f64,
    /// Seconds that its answers take, or their first tokens, if known.
    pub(crate) pace: Option<f64>,
    /// Nano-dollars that the request is guessed to cost there.
    pub(crate) cost: u64,
    /// The share of its rate limits that is left, if it says so.
    pub(crate) headroom: Option<f64>,
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
        Strategy::LeastBusy => measured::least_busy(candidates, random),
        Strategy::Latency => measured::latency(candidates, random),
        Strategy::Cost => measured::cost(candidates),
        Strategy::Headroom => measured::headroom(candidates, random),
    }
}

/// The order in which targets are tried for a session, by their names.
pub(crate) fn order_for_session<'a>(
    session: Session,
    candidates: &[Candidate],
    name: impl Fn(usize) -> &'a str,
) -> Vec<usize> {
    session::order(session, candidates, name)
}
