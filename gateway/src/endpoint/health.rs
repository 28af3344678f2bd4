//! The health of one endpoint: ejected after failures in a row, probed by one request, ejected longer each time; pure.

use std::time::{Duration, Instant};

/// Failures in a row that eject an endpoint.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts; the next one lasts twice as long.
const EJECTION_MIN: Duration = Duration::from_secs(1);
/// How long an ejection lasts at most.
const EJECTION_MAX: Duration = Duration::from_secs(30);

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: u32,
    ejections: u32,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Requests may come.
    #[default]
    Healthy,
    /// No requests until then; after that, one as a probe.
    Ejected { until: Instant },
    /// A probe is under way; if it is never heard of again, the next one may go then.
    Probing { until: Instant },
}

impl Health {
    /// Whether a request may be sent now.
    pub(super) fn is_usable(&self, now: Instant) -> bool {
        match self.state {
            State::Healthy => true,
            State::Ejected { until } | State::Probing { until } => until <= now,
        }
    }

    /// Notes that a request is sent.
    pub(super) fn begin(&mut self, now: Instant) {
        if self.state != State::Healthy && self.is_usable(now) {
            self.state = State::Probing {
                until: now + EJECTION_MAX,
            };
        }
    }

    /// Notes an answer.
    pub(super) fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure; whether it ejects the endpoint.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let ejects = match self.state {
            State::Healthy => FAILURES_MAX <= self.failures,
            State::Probing { .. } => true,
            // Requests that were under way when it was ejected say nothing new.
            State::Ejected { .. } => false,
        };
        if ejects {
            let length = EJECTION_MIN
                .saturating_mul(1 << self.ejections.min(16))
                .min(EJECTION_MAX);
            self.ejections = self.ejections.saturating_add(1);
            self.state = State::Ejected {
                until: now + length,
            };
        }
        ejects
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{EJECTION_MIN, FAILURES_MAX, Health};

    fn ejected(now: Instant) -> Health {
        let mut health = Health::default();
        for count in 1..=FAILURES_MAX {
            assert_eq!(health.fail(now), count == FAILURES_MAX);
        }
        health
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_in_between_does_not() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 1..FAILURES_MAX {
            health.fail(now);
        }
        health.succeed();
        assert!(!health.fail(now) && health.is_usable(now));
        assert!(!ejected(now).is_usable(now));
    }

    #[test]
    fn one_probe_decides_about_an_ejected_endpoint() {
        let now = Instant::now();
        let mut health = ejected(now);
        let later = now + EJECTION_MIN;
        assert!(!health.is_usable(later - Duration::from_millis(1)) && health.is_usable(later));
        health.begin(later);
        assert!(!health.is_usable(later));
        assert!(health.fail(later));
        assert!(
            !health.is_usable(later + EJECTION_MIN) && health.is_usable(later + EJECTION_MIN * 2)
        );
        health.begin(later + EJECTION_MIN * 2);
        health.succeed();
        assert!(health.is_usable(later));
    }
}
