//! Weighted: at random by weight; the others are fallbacks, drawn the same way.

use rand::Rng;

use super::Candidate;

/// Draws usable targets first, without replacement; a weight of 0 is only ever a fallback.
pub(super) fn order(candidates: &[Candidate], random: &mut impl Rng) -> Vec<usize> {
    let mut left: Vec<usize> = (0..candidates.len()).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let has_usable = left.iter().any(|index| candidates[*index].is_usable);
        let weight_of = |index: usize| {
            let candidate = candidates[index];
            if candidate.is_usable || !has_usable {
                u64::from(candidate.weight)
            } else {
                0
            }
        };
        let total: u64 = left.iter().map(|index| weight_of(*index)).sum();
        let position = if total == 0 {
            left.iter()
                .position(|index| candidates[*index].is_usable)
                .unwrap_or(0)
        } else {
            let mut drawn = random.random_range(0..total);
            let hit = left.iter().position(|index| {
                let weight = weight_of(*index);
                let is_hit = drawn < weight;
                drawn = drawn.saturating_sub(weight);
                is_hit
            });
            hit.unwrap_or(0)
        };
        order.push(left.remove(position));
    }
    order
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::{Candidate, order};

    /// How often each target comes first in 10,000 draws, in percent.
    fn shares(candidates: &[(u32, bool)]) -> Vec<usize> {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|(weight, is_usable)| Candidate {
                weight: *weight,
                priority: 0,
                is_usable: *is_usable,
                ..Candidate::default()
            })
            .collect();
        let mut random = StdRng::seed_from_u64(7);
        let mut firsts = vec![0; candidates.len()];
        for _ in 0..10_000 {
            let order = order(&candidates, &mut random);
            assert_eq!(order.len(), candidates.len());
            firsts[order[0]] += 1;
        }
        firsts
            .into_iter()
            .map(|count: usize| (count + 50) / 100)
            .collect()
    }

    #[track_caller]
    fn check(candidates: &[(u32, bool)], expected: &[usize]) {
        for (share, expected) in shares(candidates).into_iter().zip(expected) {
            assert!(
                share.abs_diff(*expected) <= 2,
                "{share} is not about {expected}"
            );
        }
    }

    #[test]
    fn traffic_follows_weights_among_usable_targets() {
        check(&[(1, true), (3, true)], &[25, 75]);
        check(&[(1, false), (1, true), (1, true)], &[0, 50, 50]);
        check(&[(0, true), (1, true)], &[0, 100]);
        check(&[(0, true), (1, false)], &[100, 0]);
        check(&[(1, false), (1, false)], &[50, 50]);
        check(&[(0, true)], &[100]);
    }
}
