//! Hedging: when a second replica is asked beside a first one that is late, and how often that may happen.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use protocol::routing;

use crate::retry::Budget;

/// Bounds of the times that are told apart: each a quarter longer than the one before, from a millisecond to 20 minutes.
const BUCKETS: usize = 64;
const SHORTEST: f64 = 0.001;
const GROWTH: f64 = 1.25;
/// Answers below which their times say nothing.
const ANSWERS_MIN: u32 = 20;
/// Answers after which older ones count for half.
const ANSWERS_MAX: u32 = 1000;
/// In how many of a hundred requests a first token comes before the second replica is asked.
const PERCENTILE: u32 = 95;

/// The hedging of one route; outlives the tables that name it.
#[derive(Debug)]
pub(crate) struct Hedging {
    after: Option<Duration>,
    /// What is left for second requests.
    pub(crate) budget: Budget,
    times: Times,
}

impl Hedging {
    /// Hedging that has learned nothing.
    pub(crate) fn new(settings: routing::Hedging) -> Self {
        Self {
            after: settings.after_millis.map(Duration::from_millis),
            budget: Budget::of_permille(settings.permille),
            times: Times::default(),
        }
    }

    /// How late a first token must be; `None` while that is not known.
    pub(crate) fn after(&self) -> Option<Duration> {
        self.after.or_else(|| self.times.percentile())
    }

    /// Notes how long a first token took.
    pub(crate) fn note(&self, took: Duration) {
        if self.after.is_none() {
            self.times.note(took);
        }
    }
}

/// How often each time came.
#[derive(Debug)]
struct Times {
    counts: [AtomicU32; BUCKETS],
    total: AtomicU32,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU32::new(0) }; BUCKETS],
            total: AtomicU32::new(0),
        }
    }
}

impl Times {
    fn note(&self, took: Duration) {
        let place = (took.as_secs_f64() / SHORTEST).max(1.0).log(GROWTH).ceil() as usize;
        if let Some(count) = self.counts.get(place.min(BUCKETS - 1)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if ANSWERS_MAX <= self.total.fetch_add(1, Ordering::Relaxed) {
            let mut total = 0;
            for count in &self.counts {
                let half = count.load(Ordering::Relaxed) / 2;
                count.store(half, Ordering::Relaxed);
                total += half;
            }
            self.total.store(total, Ordering::Relaxed);
        }
    }

    fn percentile(&self) -> Option<Duration> {
        let total = self.total.load(Ordering::Relaxed);
        if total < ANSWERS_MIN {
            return None;
        }
        let wanted = u64::from(total) * u64::from(PERCENTILE);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += u64::from(count.load(Ordering::Relaxed)) * 100;
            wanted <= seen
        });
        let place = i32::try_from(place?).ok()?;
        Some(Duration::from_secs_f64(SHORTEST * GROWTH.powi(place)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::routing;

    use super::{ANSWERS_MAX, Hedging};

    fn hedging(after_millis: Option<u64>) -> Hedging {
        Hedging::new(routing::Hedging {
            after_millis,
            permille: 20,
        })
    }

    /// So many answers of each time, in milliseconds: the 95th percentile is between the two.
    #[track_caller]
    fn check(times: &[(u64, u32)], expected: Option<(u64, u64)>) {
        let hedging = hedging(None);
        for (millis, count) in times {
            (0..*count).for_each(|_| hedging.note(Duration::from_millis(*millis)));
        }
        match (hedging.after(), expected) {
            (None, None) => {}
            (Some(after), Some((least, most))) => {
                let is_between = (least..=most).contains(&(after.as_millis() as u64));
                assert!(is_between, "{after:?} of {times:?}");
            }
            (after, _) => panic!("{after:?} of {times:?}"),
        }
    }

    #[test]
    fn a_second_request_waits_for_the_95th_percentile() {
        check(&[(10, 19)], None);
        check(&[(10, 20)], Some((10, 12)));
        check(&[(10, 96), (1000, 4)], Some((10, 12)));
        check(&[(10, 94), (1000, 6)], Some((1000, 1250)));
        check(&[(0, 100)], Some((1, 1)));
        check(&[(100_000_000, 100)], Some((1_000_000, 2_000_000)));
        // Older times are forgotten.
        check(
            &[(1000, ANSWERS_MAX), (10, ANSWERS_MAX * 8)],
            Some((10, 12)),
        );
        assert_eq!(hedging(Some(7)).after(), Some(Duration::from_millis(7)));
    }

    #[test]
    fn second_requests_are_few() {
        let hedging = hedging(Some(7));
        let is_hedged = |_: &u32| {
            hedging.budget.deposit();
            hedging.budget.withdraw()
        };
        assert_eq!((0..1000).filter(is_hedged).count(), 20);
    }
}
