//! Failover: the lowest priority number that is usable, then the next.

use std::cmp::Reverse;

use super::Candidate;

/// Usable targets first, each by priority; among equals the heavier one.
pub(super) fn order(candidates: &[Candidate]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|index| {
        let candidate = candidates[*index];
        (
            !candidate.is_usable,
            candidate.priority,
            Reverse(candidate.weight),
        )
    });
    order
}

#[cfg(test)]
mod tests {
    use super::{Candidate, order};

    #[track_caller]
    fn check(candidates: &[(u32, bool)], expected: &[usize]) {
        let candidates: Vec<Candidate> = candidates
            .iter()
            .map(|(priority, is_usable)| Candidate {
                weight: 1,
                priority: *priority,
                is_usable: *is_usable,
                ..Candidate::default()
            })
            .collect();
        assert_eq!(order(&candidates), expected);
    }

    #[test]
    fn the_lowest_usable_priority_comes_first() {
        check(&[(1, true), (0, true)], &[1, 0]);
        check(&[(0, false), (1, true), (2, true)], &[1, 2, 0]);
        check(&[(0, true), (0, true)], &[0, 1]);
    }
}
