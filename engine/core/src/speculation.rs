//! Speculation by looking at what is there already: the tokens that followed the last time that the sequence said
//! the same are proposed to come again.
//!
//! Source: Saxena, "Prompt Lookup Decoding" (2023). Drafts cost a few more rows in a step that reads all weights
//! anyway; wrong ones cost nothing else, as the model checks each of them.

use std::collections::HashMap;

use crate::TokenId;

/// Earlier places that are looked at for the longest match.
const PLACES_MAX: usize = 16;

/// How drafts are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Speculation {
    /// Most tokens that are proposed at once.
    pub drafts_max: usize,
    /// Fewest last tokens that must have occurred before; at least 1.
    pub match_min: usize,
    /// Most last tokens that are compared.
    pub match_max: usize,
}

/// Where each run of `match_min` tokens of a sequence ends.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drafter {
    /// The last place that each run ends at.
    last: HashMap<Box<[TokenId]>, usize>,
    /// For each place, the place before that the same run ends at.
    before: Vec<Option<usize>>,
}

impl Drafter {
    /// Proposes up to `count` tokens behind `tokens`, which are those of the last call and more.
    pub(crate) fn propose(
        &mut self,
        tokens: &[TokenId],
        speculation: &Speculation,
        count: usize,
    ) -> Vec<TokenId> {
        self.index(tokens, speculation.match_min.max(1));
        let mut best: Option<(usize, usize)> = None;
        let mut place = self.before.last().copied().flatten();
        for _ in 0..PLACES_MAX {
            let Some(end) = place else { break };
            let length = common_end(&tokens[..end], tokens, speculation.match_max);
            if best.is_none_or(|(longest, _)| longest < length) {
                best = Some((length, end));
            }
            place = self.before[end];
        }
        let Some((_, end)) = best else {
            return Vec::new();
        };
        tokens[end..].iter().take(count).copied().collect()
    }

    /// Notes the runs that end at new places; place `n` is behind `n` tokens.
    fn index(&mut self, tokens: &[TokenId], run: usize) {
        for end in self.before.len()..=tokens.len() {
            let before = match end.checked_sub(run) {
                Some(start) => self.last.insert(tokens[start..end].into(), end),
                None => None,
            };
            self.before.push(before);
        }
    }
}

/// How many last tokens two runs share, up to a limit.
fn common_end(left: &[TokenId], right: &[TokenId], limit: usize) -> usize {
    let pairs = left.iter().rev().zip(right.iter().rev()).take(limit);
    pairs.take_while(|(left, right)| left == right).count()
}

#[cfg(test)]
mod tests {
    use super::{Drafter, Speculation};

    const SPECULATION: Speculation = Speculation {
        drafts_max: 3,
        match_min: 2,
        match_max: 4,
    };

    #[track_caller]
    fn check(tokens: &[u32], expected: &[u32]) {
        let mut drafter = Drafter::default();
        for end in 1..tokens.len() {
            drafter.propose(&tokens[..end], &SPECULATION, 3);
        }
        assert_eq!(
            drafter.propose(tokens, &SPECULATION, 3),
            expected,
            "step by step"
        );
        assert_eq!(
            Drafter::default().propose(tokens, &SPECULATION, 3),
            expected,
            "at once"
        );
    }

    #[test]
    fn what_followed_before_is_proposed_again() {
        check(&[], &[]);
        check(&[1], &[]);
        check(&[1, 2, 3, 4], &[]);
        check(&[1, 2, 3, 4, 5, 1, 2], &[3, 4, 5]);
        check(&[1, 2, 3, 9, 9, 2], &[]);
        check(&[7, 7, 7, 7], &[7]);
    }

    #[test]
    fn the_longest_match_wins_and_of_equals_the_last() {
        check(&[5, 1, 2, 8, 6, 1, 2, 9, 5, 1, 2], &[8, 6, 1]);
        check(&[1, 2, 8, 0, 1, 2, 9, 0, 3, 1, 2], &[9, 0, 3]);
    }
}
