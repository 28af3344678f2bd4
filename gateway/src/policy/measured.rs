//! Measured: targets in the order of what is known of them: how busy, how fast, how dear, how far from their limits.

use rand::{Rng, seq::IndexedRandom};

use super::{Candidate, weighted};

/// In how many of 100 requests a target is tried first of whose pace nothing is known.
const EXPLORED_PERCENT: u32 = 10;
/// Paces that differ by less than this share are equal.
const NEAR: f64 = 1.1;
/// The share of its rate limits that a target is taken to have left that does not say.
const NEUTRAL: f64 = 0.5;
/// Parts into which a weight is cut for the share of headroom.
const PARTS: f64 = 1000.0;

/// Of two usable targets at random the less busy one first: requests in progress at a replica, times its pace.
pub(super) fn least_busy(candidates: &[Candidate], random: &mut impl Rng) -> Vec<usize> {
    let paces = candidates.iter().filter_map(|candidate| candidate.pace);
    let known: Vec<f64> = paces.collect();
    let usual = if known.is_empty() {
        1.0
    } else {
        known.iter().sum::<f64>() / known.len() as f64
    };
    let busy = |index: &usize| {
        let candidate = &candidates[*index];
        (candidate.load + 1.0) * candidate.pace.unwrap_or(usual)
    };
    let mut order = by(candidates, busy);
    let usable = usable(candidates);
    let two = usable.choose_multiple(random, 2).copied();
    let first = two.min_by(|left, right| busy(left).total_cmp(&busy(right)));
    put_first(&mut order, first);
    order
}

/// The fastest first; among equals at random, and now and then one of which nothing is known.
pub(super) fn latency(candidates: &[Candidate], random: &mut impl Rng) -> Vec<usize> {
    let pace = |index: &usize| candidates[*index].pace.unwrap_or(f64::MAX);
    let mut order = by(candidates, pace);
    let (known, unknown): (Vec<usize>, Vec<usize>) = usable(candidates)
        .into_iter()
        .partition(|index| candidates[*index].pace.is_some());
    let explores = known.is_empty() || random.random_ratio(EXPLORED_PERCENT, 100);
    let first = if explores && !unknown.is_empty() {
        unknown.choose(random).copied()
    } else {
        let best = known.iter().map(pace).fold(f64::MAX, f64::min);
        let near = known.into_iter().filter(|index| pace(index) <= best * NEAR);
        near.collect::<Vec<_>>().choose(random).copied()
    };
    put_first(&mut order, first);
    order
}

/// The cheapest for this request first; among equals the fastest.
pub(super) fn cost(candidates: &[Candidate]) -> Vec<usize> {
    let mut order = by(candidates, |index| {
        candidates[*index].pace.unwrap_or(f64::MAX)
    });
    order.sort_by_key(|index| (!candidates[*index].is_usable, candidates[*index].cost));
    order
}

/// At random by weight and by what is left of the targets' rate limits.
pub(super) fn headroom(candidates: &[Candidate], random: &mut impl Rng) -> Vec<usize> {
    let scaled = candidates.iter().map(|candidate| {
        let share = candidate.headroom.unwrap_or(NEUTRAL);
        let weight = f64::from(candidate.weight) * share * PARTS;
        Candidate {
            weight: weight as u32,
            ..*candidate
        }
    });
    weighted::order(&scaled.collect::<Vec<_>>(), random)
}

/// Usable targets first, each kind in the order of a number.
fn by(candidates: &[Candidate], number: impl Fn(&usize) -> f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by(|left, right| {
        let is_unusable = |index: &usize| !candidates[*index].is_usable;
        is_unusable(left)
            .cmp(&is_unusable(right))
            .then_with(|| number(left).total_cmp(&number(right)))
    });
    order
}

fn usable(candidates: &[Candidate]) -> Vec<usize> {
    let all = 0..candidates.len();
    all.filter(|index| candidates[*index].is_usable).collect()
}

fn put_first(order: &mut [usize], first: Option<usize>) {
    let place = order.iter().position(|index| Some(*index) == first);
    if let Some(place) = place {
        order[..=place].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::{Candidate, cost, headroom, latency, least_busy};

    const PLAIN: Candidate = Candidate {
        weight: 1,
        priority: 0,
        is_usable: true,
        load: 0.0,
        pace: None,
        cost: 0,
        headroom: None,
    };

    /// How often each target comes first in 10,000 draws, in percent.
    #[track_caller]
    fn check(order: impl Fn(&mut StdRng) -> Vec<usize>, expected: &[usize]) {
        let mut random = StdRng::seed_from_u64(7);
        let mut firsts = vec![0; expected.len()];
        for _ in 0..10_000 {
            let mut order = order(&mut random);
            firsts[order[0]] += 1;
            order.sort_unstable();
            assert!(order.into_iter().eq(0..expected.len()));
        }
        for (first, expected) in firsts.iter().zip(expected) {
            let percent: usize = (first + 50) / 100;
            assert!(
                percent.abs_diff(*expected) <= 3,
                "{firsts:?} is not {expected}"
            );
        }
    }

    #[test]
    fn the_less_busy_of_two_comes_first() {
        let busy = |load: f64, pace: Option<f64>, is_usable| Candidate {
            load,
            pace,
            is_usable,
            ..PLAIN
        };
        let run = |candidates: Vec<Candidate>, expected: &[usize]| {
            check(|random| least_busy(&candidates, random), expected);
        };
        run(
            vec![busy(1.0, None, true), busy(0.0, None, true)],
            &[0, 100],
        );
        run(
            vec![busy(1.0, None, true), busy(0.0, None, false)],
            &[100, 0],
        );
        // Twice as busy, but five times as fast.
        let fast = vec![busy(1.0, Some(0.1), true), busy(0.0, Some(0.5), true)];
        run(fast, &[100, 0]);
        // The busiest of three is never the better one of two.
        let three = [2.0, 1.0, 0.0].map(|load| busy(load, None, true));
        run(three.to_vec(), &[0, 33, 67]);
    }

    #[test]
    fn the_fastest_comes_first_and_the_unknown_now_and_then() {
        let paced = |paces: &[Option<f64>]| -> Vec<Candidate> {
            let candidate = |pace: &Option<f64>| Candidate {
                pace: *pace,
                ..PLAIN
            };
            paces.iter().map(candidate).collect()
        };
        let run = |paces: &[Option<f64>], expected: &[usize]| {
            let candidates = paced(paces);
            check(|random| latency(&candidates, random), expected);
        };
        run(&[Some(1.0), Some(2.0)], &[100, 0]);
        run(&[Some(1.0), Some(1.05), Some(2.0)], &[50, 50, 0]);
        run(&[Some(1.0), None], &[90, 10]);
        run(&[None, None], &[50, 50]);
    }

    #[test]
    fn the_cheapest_comes_first_and_the_faster_of_two_as_cheap() {
        let priced = |cost: u64, pace: Option<f64>, is_usable| Candidate {
            cost,
            pace,
            is_usable,
            ..PLAIN
        };
        let order = cost(&[
            priced(1, Some(0.1), false),
            priced(3, Some(0.1), true),
            priced(2, Some(0.9), true),
            priced(2, Some(0.2), true),
            priced(2, None, true),
        ]);
        assert_eq!(order, [3, 2, 4, 1, 0]);
    }

    #[test]
    fn who_has_more_left_gets_more() {
        let left = |headroom: Option<f64>| Candidate { headroom, ..PLAIN };
        let run = |shares: &[Option<f64>], expected: &[usize]| {
            let candidates: Vec<Candidate> = shares.iter().copied().map(left).collect();
            check(|random| headroom(&candidates, random), expected);
        };
        run(&[Some(0.75), Some(0.25)], &[75, 25]);
        run(&[Some(1.0), Some(0.0)], &[100, 0]);
        run(&[Some(0.75), Some(0.25), None], &[50, 17, 33]);
        run(&[None, None], &[50, 50]);
    }
}
