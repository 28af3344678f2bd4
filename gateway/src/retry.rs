//! What retries may cost: a share of the traffic, so that they cannot bury an upstream that is down.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a request adds to the budget, in thousandths of a retry.
const DEPOSIT: u64 = 200;
/// What a retry takes.
const COST: u64 = 1000;
/// The most that is saved up; also what a quiet route starts with.
const SAVED_MAX: u64 = 20 * COST;
/// The longest wait before a retry.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The retry budget of one route.
#[derive(Debug)]
pub(crate) struct Budget {
    saved: AtomicU64,
    /// What a request adds, in thousandths.
    deposit: u64,
    saved_max: u64,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            saved: AtomicU64::new(SAVED_MAX),
            deposit: DEPOSIT,
            saved_max: SAVED_MAX,
        }
    }
}

impl Budget {
    /// A budget of so many in a thousand requests, with nothing saved up.
    pub(crate) fn of_permille(permille: u32) -> Self {
        Self {
            saved: AtomicU64::new(0),
            deposit: permille.into(),
            // One at once: the next one is due when as many requests came again.
            saved_max: COST,
        }
    }

    /// Adds a request's share.
    pub(crate) fn deposit(&self) {
        self.update(|saved| Some((saved + self.deposit).min(self.saved_max)));
    }

    /// Takes a retry; whether there was enough.
    pub(crate) fn withdraw(&self) -> bool {
        self.update(|saved| saved.checked_sub(COST))
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, change)
            .is_ok()
    }
}

/// The wait before retry number `retry` (from 0); `share` between 0 and 1 spreads clients over half of it.
pub(crate) fn backoff(first: Duration, retry: u32, share: f64) -> Duration {
    let whole = first.saturating_mul(1 << retry.min(16)).min(BACKOFF_MAX);
    whole.mul_f64(0.5 + share.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BACKOFF_MAX, Budget, COST, DEPOSIT, SAVED_MAX, backoff};

    #[test]
    fn retries_are_a_share_of_the_requests() {
        let budget = Budget::default();
        let saved = SAVED_MAX / COST;
        assert_eq!(
            (0..saved * 2).filter(|_| budget.withdraw()).count(),
            usize::try_from(saved).unwrap()
        );
        for _ in 0..COST / DEPOSIT {
            assert!(!budget.withdraw());
            budget.deposit();
        }
        assert!(budget.withdraw() && !budget.withdraw());
    }

    #[test]
    fn backoff_doubles_and_spreads() {
        let first = Duration::from_millis(100);
        assert_eq!(backoff(first, 0, 1.0), first);
        assert_eq!(backoff(first, 0, 0.0), first / 2);
        assert_eq!(backoff(first, 2, 1.0), first * 4);
        assert_eq!(backoff(first, 40, 1.0), BACKOFF_MAX);
    }
}
