//! How long a crashing container waits before it is started again.

use std::time::Duration;

/// The delays between restarts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// The delay before the second restart; the first is immediate.
    pub initial: Duration,
    /// The longest delay.
    pub max: Duration,
    /// A run this long makes earlier crashes forgotten.
    pub reset_after: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(10),
            max: Duration::from_secs(300),
            reset_after: Duration::from_secs(600),
        }
    }
}

impl Backoff {
    /// The delay after the `crashes`-th end in a row.
    pub(crate) fn after_crash(&self, crashes: u32) -> Duration {
        match crashes {
            0 | 1 => Duration::ZERO,
            many => self.doubled(many - 2),
        }
    }

    /// The delay after the `refusals`-th failure in a row to start at all.
    pub(crate) fn after_refusal(&self, refusals: u32) -> Duration {
        self.doubled(refusals.saturating_sub(1))
    }

    fn doubled(&self, times: u32) -> Duration {
        let factor = 1_u32.checked_shl(times.min(20)).unwrap_or(u32::MAX);
        self.initial.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(crashes: u32, expected_seconds: u64) {
        assert_eq!(
            Backoff::default().after_crash(crashes),
            Duration::from_secs(expected_seconds),
            "{crashes}"
        );
    }

    #[test]
    fn restarts_wait_twice_as_long_each_time_up_to_five_minutes() {
        check(0, 0);
        check(1, 0);
        check(2, 10);
        check(3, 20);
        check(6, 160);
        check(7, 300);
        check(4_000_000, 300);
    }
}
