//! Least busy: of two replicas at random, the one with fewer requests in progress.

use std::{sync::Arc, time::Instant};

use rand::{Rng, seq::IndexedRandom};

use crate::endpoint::{Endpoint, Standing};

/// The seconds that a replica is taken to need of which nothing is known.
const UNKNOWN_PACE: f64 = 0.05;

/// Picks a replica that was not `tried` and does not say that it takes no requests; ejected ones only if there is no
/// other, since a guess about all of them must not close the door. Two random choices spread load
/// almost as well as looking at all, and do not stampede onto one that has just become free.
pub(crate) fn pick(
    endpoints: &[Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
    busy: impl Fn(&Endpoint) -> f64,
    random: &mut impl Rng,
) -> Option<Arc<Endpoint>> {
    let pool = pool(endpoints, tried, now);
    let two = pool.choose_multiple(random, 2);
    two.min_by(|left, right| busy(left).total_cmp(&busy(right)))
        .map(|endpoint| Arc::clone(endpoint))
}

/// Picks the replica whose cost is least of all that [`pick`] may pick from, of several at random; those of no cost are
/// the last resort.
pub(crate) fn cheapest(
    endpoints: &[Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
    cost: impl Fn(&Endpoint) -> Option<f64>,
    random: &mut impl Rng,
) -> Option<Arc<Endpoint>> {
    let pool = pool(endpoints, tried, now).into_iter();
    let costs = pool.map(|endpoint| (cost(endpoint).unwrap_or(f64::MAX), endpoint));
    let mut costs: Vec<(f64, &Arc<Endpoint>)> = costs.collect();
    let least = costs.iter().map(|(cost, _)| *cost).min_by(f64::total_cmp)?;
    costs.retain(|(cost, _)| *cost <= least);
    costs
        .choose(random)
        .map(|(_, endpoint)| Arc::clone(endpoint))
}

/// The replicas that may be picked.
fn pool<'a>(
    endpoints: &'a [Arc<Endpoint>],
    tried: &[Arc<Endpoint>],
    now: Instant,
) -> Vec<&'a Arc<Endpoint>> {
    let is_tried = |endpoint| tried.iter().any(|other| Arc::ptr_eq(other, endpoint));
    let untried = endpoints.iter().filter(|endpoint| !is_tried(endpoint));
    let (mut usable, mut others) = (Vec::new(), Vec::new());
    for endpoint in untried {
        match endpoint.standing(now) {
            Standing::Usable => usable.push(endpoint),
            Standing::RateLimited { .. } => {}
            Standing::Probing | Standing::Ejected | Standing::Unauthorized => others.push(endpoint),
        }
    }
    if usable.is_empty() { others } else { usable }
}

/// How busy a replica is: requests in progress.
pub(crate) fn by_load(endpoint: &Endpoint) -> f64 {
    endpoint.in_flight() as f64
}

/// How busy a replica is: the time that its requests will take, this one included. One of which nothing is known is
/// taken for a fast one, so that it is tried, and for no more than that, so that it is not buried.
pub(crate) fn by_pace(endpoint: &Endpoint, now: Instant) -> f64 {
    (endpoint.in_flight() + 1) as f64 * endpoint.pace.seconds(now).unwrap_or(UNKNOWN_PACE)
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Instant};

    use rand::{SeedableRng, rngs::StdRng};

    use super::{by_load, pick};
    use crate::endpoint::{Endpoint, Endpoints};

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        let registry = Endpoints::default();
        (1..=count)
            .map(|port| {
                registry
                    .get(&format!("http://127.0.0.1:{port}/v1"), "m", None)
                    .unwrap()
            })
            .collect()
    }

    #[test]
    fn the_less_busy_of_two_takes_the_request() {
        let endpoints = endpoints(2);
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(7);
        let _lease = endpoints[0].begin(now);
        for _ in 0..20 {
            assert!(Arc::ptr_eq(
                &pick(&endpoints, &[], now, by_load, &mut random).unwrap(),
                &endpoints[1]
            ));
        }
    }

    #[test]
    fn tried_and_ejected_replicas_are_passed_over_while_there_is_another() {
        let endpoints = endpoints(3);
        let now = Instant::now();
        let mut random = StdRng::seed_from_u64(7);
        while !endpoints[0].note_failure(now) {}
        let tried = [Arc::clone(&endpoints[1])];
        assert!(Arc::ptr_eq(
            &pick(&endpoints, &tried, now, by_load, &mut random).unwrap(),
            &endpoints[2]
        ));
        let tried = [Arc::clone(&endpoints[1]), Arc::clone(&endpoints[2])];
        assert!(Arc::ptr_eq(
            &pick(&endpoints, &tried, now, by_load, &mut random).unwrap(),
            &endpoints[0]
        ));
        assert!(pick(&endpoints, &endpoints, now, by_load, &mut random).is_none());
    }
}
