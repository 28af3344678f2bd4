//! Scores: what sending a request to a replica gains and costs, in one unit: seconds of reading prompts. Pure.

use rand::{Rng, seq::IndexedRandom};

/// How far above the mean a replica's tokens in progress may be, as in consistent hashing with bounded loads
/// (Mirrokni, Thorup, Zadimoghaddam 2016, arXiv 1608.01350).
const LOAD_BOUND: f64 = 1.5;
/// The part of the request's own prompt by which it may be further above: where few long prompts are in progress, the
/// mean is less than one of them, and nobody could stay where he is.
const LOAD_SLACK: f64 = 1.0;
/// Replicas whose scores differ by less than this share of reading the whole prompt are as good as each other.
const TIE_SHARE: f64 = 0.05;
/// Tokens that even a small cache holds.
const WRITTEN_FREE: f64 = 65_536.0;
/// What a token costs that takes the place of another in a cache, in tokens that are read: who misses it reads it again,
/// and the rest of his prompt behind it.
const EVICTION: f64 = 2.0;

/// What is known of a replica when a request comes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// Whether a request can be sent there now.
    pub(super) is_usable: bool,
    /// Tokens of the prompt that it should have cached, at most all.
    pub(super) matched_tokens: f64,
    /// Tokens that it has yet to read for others.
    pub(super) queued_tokens: f64,
    /// Tokens of all prompts in progress there.
    pub(super) load_tokens: f64,
    /// Tokens that it wrote into its cache lately.
    pub(super) written_tokens: f64,
    /// Seconds that the request waits for something else than reading.
    pub(super) seconds: f64,
}

/// The request, and what its tokens cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Work {
    /// Tokens of the prompt.
    pub(super) prompt_tokens: f64,
    /// Seconds to read one.
    pub(super) seconds_per_token: f64,
}

impl Standing {
    /// The reading that the cache saves, less the reading that the request waits for. What is cached counts twice, once
    /// on either side: it shortens this wait, and that of whoever comes next. What is not takes the place of something
    /// else there, which is the more likely to be missed the more was written there lately.
    fn score(&self, work: Work, mean_written: f64) -> f64 {
        let missed_tokens = work.prompt_tokens - self.matched_tokens;
        let pressure = (self.written_tokens + WRITTEN_FREE) / (mean_written + WRITTEN_FREE);
        let lost_tokens = EVICTION * missed_tokens * pressure;
        let read = self.matched_tokens - missed_tokens - self.queued_tokens - lost_tokens;
        read * work.seconds_per_token - self.seconds
    }
}

/// Chooses a replica, as an index of `standings`: the best score among those that can be used and whose load is within
/// the bound, the less loaded of two at random among those that are as good. Those that cannot be used are taken only if
/// there is no other.
pub(super) fn choose(standings: &[Standing], work: Work, random: &mut impl Rng) -> Option<usize> {
    let all = || (0..standings.len()).filter(|index| standings[*index].is_usable);
    let mut pool: Vec<usize> = all().collect();
    if pool.is_empty() {
        pool.extend(0..standings.len());
    }
    let load: f64 = pool.iter().map(|index| standings[*index].load_tokens).sum();
    let mean = (load + work.prompt_tokens) / pool.len() as f64;
    let written: f64 = pool
        .iter()
        .map(|index| standings[*index].written_tokens)
        .sum();
    let mean_written = written / pool.len() as f64;
    let bound = LOAD_BOUND * mean + LOAD_SLACK * work.prompt_tokens;
    pool.retain(|index| standings[*index].load_tokens <= bound);
    let score = |index: &usize| standings[*index].score(work, mean_written);
    let best = pool.iter().map(score).max_by(f64::total_cmp)?;
    let tie = TIE_SHARE * work.prompt_tokens * work.seconds_per_token;
    pool.retain(|index| best - tie <= score(index));
    let load_of = |index: &&usize| standings[**index].load_tokens;
    let two = pool.choose_multiple(random, 2);
    two.min_by(|left, right| load_of(left).total_cmp(&load_of(right)))
        .copied()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::{Standing, Work, choose};

    /// Replicas as matched, queued and loaded tokens; which of them are chosen for a prompt of 1,000 tokens.
    #[track_caller]
    fn check(replicas: &[(f64, f64, f64)], expected: &[usize]) {
        let standings = replicas.iter().map(|(matched, queued, load)| Standing {
            is_usable: true,
            matched_tokens: *matched,
            queued_tokens: *queued,
            load_tokens: *load,
            written_tokens: 0.0,
            seconds: 0.0,
        });
        check_standings(&standings.collect::<Vec<_>>(), expected);
    }

    #[track_caller]
    fn check_standings(standings: &[Standing], expected: &[usize]) {
        let work = Work {
            prompt_tokens: 1000.0,
            seconds_per_token: 1e-4,
        };
        let mut random = StdRng::seed_from_u64(7);
        let mut chosen: Vec<usize> = (0..100)
            .filter_map(|_| choose(standings, work, &mut random))
            .collect();
        chosen.sort_unstable();
        chosen.dedup();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn what_is_cached_is_weighed_against_what_waits() {
        check(&[], &[]);
        check(&[(0.0, 0.0, 0.0), (0.0, 0.0, 0.0)], &[0, 1]);
        check(&[(0.0, 0.0, 0.0), (900.0, 0.0, 0.0)], &[1]);
        // 900 cached tokens outweigh 3,600 that wait, not more: they are not read, and nothing gives way to them.
        check(&[(0.0, 0.0, 0.0), (900.0, 3500.0, 0.0)], &[1]);
        check(&[(0.0, 0.0, 0.0), (900.0, 3700.0, 0.0)], &[0]);
    }

    #[test]
    fn of_replicas_that_are_as_good_the_less_loaded_is_chosen() {
        check(&[(500.0, 0.0, 100.0), (490.0, 0.0, 50.0)], &[1]);
        check(&[(500.0, 0.0, 100.0), (400.0, 0.0, 50.0)], &[0]);
        // Two of three at random: the most loaded never, the least often.
        check(
            &[(0.0, 0.0, 3.0), (0.0, 0.0, 2.0), (0.0, 0.0, 1.0)],
            &[1, 2],
        );
    }

    #[test]
    fn no_replica_far_above_the_mean_is_chosen() {
        // Means with the request: 4,000 and 4,050; the bounds 7,000 and 7,075.
        check(&[(900.0, 0.0, 7000.0), (0.0, 0.0, 0.0)], &[0]);
        check(&[(900.0, 0.0, 7100.0), (0.0, 0.0, 0.0)], &[1]);
    }

    #[test]
    fn waiting_for_an_adapter_is_weighed_against_reading() {
        // Reading 900 tokens again takes 0.09 s, and counts four times.
        let replica = |matched_tokens, seconds| Standing {
            is_usable: true,
            matched_tokens,
            queued_tokens: 0.0,
            load_tokens: 0.0,
            written_tokens: 0.0,
            seconds,
        };
        check_standings(&[replica(900.0, 0.3), replica(0.0, 0.0)], &[0]);
        check_standings(&[replica(900.0, 2.0), replica(0.0, 0.0)], &[1]);
    }

    #[test]
    fn new_prompts_go_where_the_least_was_written() {
        let replica = |matched_tokens, written_tokens| Standing {
            is_usable: true,
            matched_tokens,
            queued_tokens: 0.0,
            load_tokens: 0.0,
            written_tokens,
            seconds: 0.0,
        };
        check_standings(&[replica(0.0, 300_000.0), replica(0.0, 200_000.0)], &[1]);
        // Nothing gives way to what is there already.
        check_standings(&[replica(900.0, 300_000.0), replica(0.0, 200_000.0)], &[0]);
        // Caches are not full yet.
        check_standings(&[replica(0.0, 1_000.0), replica(0.0, 0.0)], &[0, 1]);
    }

    #[test]
    fn unusable_replicas_are_the_last_resort() {
        let [mut best, mut other] = [900.0, 0.0].map(|matched_tokens| Standing {
            is_usable: false,
            matched_tokens,
            queued_tokens: 0.0,
            load_tokens: 0.0,
            written_tokens: 0.0,
            seconds: 0.0,
        });
        check_standings(&[best, other], &[0]);
        other.is_usable = true;
        check_standings(&[best, other], &[1]);
        best.is_usable = true;
        check_standings(&[best, other], &[0]);
    }
}
