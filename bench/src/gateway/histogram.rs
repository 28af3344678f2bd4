//! Latencies by size: 32 buckets for each doubling, so that a quantile is off by 3 % at most.

use std::time::Duration;

/// Buckets of a doubling, as a power of two.
const BUCKET_BITS: u32 = 5;
const BUCKETS_PER_DOUBLING: usize = 1 << BUCKET_BITS;
/// Up to 2^36 microseconds, 19 hours.
const BUCKETS: usize = 32 * BUCKETS_PER_DOUBLING;

/// How often each latency was seen.
#[derive(Debug, Clone)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

impl Histogram {
    /// Counts a latency.
    pub(super) fn add(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros).min(BUCKETS - 1)] += 1;
        self.total += 1;
    }

    /// Counts what another has counted.
    pub(super) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many latencies were counted.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// The latency that this share of all does not exceed, in microseconds: the middle of its bucket.
    pub(super) fn quantile_micros(&self, share: f64) -> f64 {
        let rank = (share * self.total as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (number, count) in self.counts.iter().enumerate() {
            seen += count;
            if rank <= seen {
                return f64::midpoint(lowest(number) as f64, lowest(number + 1) as f64);
            }
        }
        f64::NAN
    }
}

/// The bucket of a number of microseconds.
fn bucket(micros: u64) -> usize {
    let doublings = (u64::BITS - micros.leading_zeros()).saturating_sub(BUCKET_BITS + 1);
    let inside = usize::try_from(micros >> doublings).unwrap_or(usize::MAX);
    doublings as usize * BUCKETS_PER_DOUBLING + inside
}

/// The least number of microseconds in a bucket.
const fn lowest(bucket: usize) -> u64 {
    if bucket < 2 * BUCKETS_PER_DOUBLING {
        return bucket as u64;
    }
    let doublings = bucket / BUCKETS_PER_DOUBLING - 1;
    ((bucket % BUCKETS_PER_DOUBLING + BUCKETS_PER_DOUBLING) as u64) << doublings
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Histogram, bucket, lowest};

    #[test]
    fn buckets_follow_each_other_and_begin_at_their_lowest_number() {
        for number in 0..1023 {
            assert_eq!(bucket(lowest(number)), number);
            assert_eq!(bucket(lowest(number + 1) - 1), number);
        }
    }

    #[track_caller]
    fn check(share: f64, expected_micros: f64) {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        for micros in 1..=10_000 {
            let half = if micros <= 5_000 { &mut low } else { &mut high };
            half.add(Duration::from_micros(micros));
        }
        low.merge(&high);
        let seen = low.quantile_micros(share);
        let error = (seen - expected_micros).abs() / expected_micros;
        assert!(error < 0.03, "{seen} is not {expected_micros}");
    }

    #[test]
    fn a_quantile_is_off_by_three_percent_at_most() {
        check(0.5, 5_000.0);
        check(0.99, 9_900.0);
        check(1.0, 10_000.0);
        assert!(Histogram::default().quantile_micros(0.5).is_nan());
    }
}
