//! The health of one endpoint, as a circuit breaker: ejected after failures in a row or too large a share of failures,
//! probed by one request, ejected longer each time; set aside while it says that it takes no requests; pure.

use std::time::{Duration, Instant};

/// Failures in a row that eject an endpoint.
const FAILURES_MAX: u32 = 3;
/// How long the first ejection lasts; the next one lasts twice as long.
const EJECTION_MIN: Duration = Duration::from_secs(1);
/// How long an ejection lasts at most.
const EJECTION_MAX: Duration = Duration::from_secs(30);
/// How long an endpoint must have been healthy for its next ejection to be a first one.
const RECOVERY: Duration = Duration::from_secs(60);
/// The time over which the share of failures is taken: this long at least, twice as long at most.
const WINDOW: Duration = Duration::from_secs(10);
/// Answers in that time below which their share says nothing.
const ANSWERS_MIN: u32 = 20;
/// Failures in a hundred answers that eject an endpoint.
const FAILURES_PERCENT: u32 = 50;

/// The health of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// In a row.
    failures: u32,
    /// In a row, without a long healthy time between them.
    ejections: u32,
    state: State,
    aside: Option<(Instant, Aside)>,
    window: Option<Window>,
    healed: Option<Instant>,
    cooled: Cooled,
}

/// How often an endpoint was left out since it is known, by why.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Cooled {
    /// After failures.
    pub(crate) failures: u64,
    /// Since it said that it takes no more requests for now.
    pub(crate) rate_limits: u64,
    /// Since it refused the credential.
    pub(crate) refusals: u64,
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

/// Why an endpoint is set aside though it is in good health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aside {
    /// It takes no more requests for now, as it says.
    RateLimit,
    /// It refuses the credential.
    Unauthorized,
}

/// How an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Requests may come.
    Usable,
    /// A probe decides.
    Probing,
    /// It is left out after failures.
    Ejected,
    /// It refuses the credential.
    Unauthorized,
    /// It takes no requests until then, as it says.
    RateLimited {
        /// When it may be asked again.
        until: Instant,
    },
}

/// Answers and failures of the last seconds.
#[derive(Debug, Clone, Copy)]
struct Window {
    begun: Instant,
    now: Counts,
    before: Counts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    answers: u32,
    failures: u32,
}

impl Window {
    fn new(begun: Instant) -> Self {
        Self {
            begun,
            now: Counts::default(),
            before: Counts::default(),
        }
    }

    fn count(&mut self, is_failure: bool, now: Instant) {
        let age = now.saturating_duration_since(self.begun);
        if WINDOW <= age {
            self.before = if age < WINDOW * 2 {
                self.now
            } else {
                Counts::default()
            };
            self.now = Counts::default();
            self.begun = now;
        }
        self.now.answers = self.now.answers.saturating_add(1);
        self.now.failures += u32::from(is_failure);
    }

    fn is_bad(&self) -> bool {
        let answers = self.now.answers.saturating_add(self.before.answers);
        let failures = self.now.failures.saturating_add(self.before.failures);
        let share = u64::from(failures) * 100;
        ANSWERS_MIN <= answers && u64::from(FAILURES_PERCENT) * u64::from(answers) <= share
    }
}

impl Health {
    /// How the endpoint stands.
    pub(super) fn standing(&self, now: Instant) -> Standing {
        match self.aside {
            Some((until, Aside::RateLimit)) if now < until => Standing::RateLimited { until },
            Some((until, Aside::Unauthorized)) if now < until => Standing::Unauthorized,
            _ => match self.state {
                State::Healthy => Standing::Usable,
                State::Ejected { until } | State::Probing { until } if until <= now => {
                    Standing::Usable
                }
                State::Ejected { .. } => Standing::Ejected,
                State::Probing { .. } => Standing::Probing,
            },
        }
    }

    /// Notes that a request is sent.
    pub(super) fn begin(&mut self, now: Instant) {
        if let State::Ejected { until } | State::Probing { until } = self.state
            && until <= now
        {
            self.state = State::Probing {
                until: now + EJECTION_MAX,
            };
        }
    }

    /// Notes an answer.
    pub(super) fn succeed(&mut self, now: Instant) {
        self.failures = 0;
        self.window
            .get_or_insert(Window::new(now))
            .count(false, now);
        if self.state != State::Healthy {
            self.state = State::Healthy;
            self.window = None;
            self.healed = Some(now);
        }
    }

    /// Notes a failure; whether it ejects the endpoint.
    pub(super) fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        let window = self.window.get_or_insert(Window::new(now));
        window.count(true, now);
        let ejects = match self.state {
            State::Healthy => FAILURES_MAX <= self.failures || window.is_bad(),
            State::Probing { .. } => true,
            // Requests that were under way when it was ejected say nothing new.
            State::Ejected { .. } => false,
        };
        if ejects {
            if self.healed.is_some_and(|healed| healed + RECOVERY <= now) {
                self.ejections = 0;
            }
            let length = EJECTION_MIN
                .saturating_mul(1 << self.ejections.min(16))
                .min(EJECTION_MAX);
            self.ejections = self.ejections.saturating_add(1);
            self.cooled.failures += 1;
            self.state = State::Ejected {
                until: now + length,
            };
        }
        ejects
    }

    /// Sets the endpoint aside until then.
    pub(super) fn set_aside(&mut self, until: Instant, why: Aside) {
        self.aside = Some((until, why));
        match why {
            Aside::RateLimit => self.cooled.rate_limits += 1,
            Aside::Unauthorized => self.cooled.refusals += 1,
        }
    }

    /// How often the endpoint was left out.
    pub(super) const fn cooled(&self) -> Cooled {
        self.cooled
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{
        ANSWERS_MIN, Aside, Cooled, EJECTION_MAX, EJECTION_MIN, FAILURES_MAX, Health, RECOVERY,
        Standing, WINDOW,
    };

    const MILLI: Duration = Duration::from_millis(1);

    fn ejected(now: Instant) -> Health {
        let mut health = Health::default();
        for count in 1..=FAILURES_MAX {
            assert_eq!(health.fail(now), count == FAILURES_MAX);
        }
        health
    }

    /// How long the endpoint is left out, from `now` on.
    fn left_out(health: &Health, now: Instant) -> Duration {
        let is_usable = |wait: &u32| health.standing(now + MILLI * *wait) == Standing::Usable;
        let wait = (0..=60_000).find(is_usable).unwrap();
        MILLI * wait
    }

    #[test]
    fn failures_in_a_row_eject_and_an_answer_in_between_does_not() {
        let now = Instant::now();
        let mut health = Health::default();
        for _ in 1..FAILURES_MAX {
            health.fail(now);
        }
        health.succeed(now);
        assert!(!health.fail(now) && health.standing(now) == Standing::Usable);
        assert_eq!(ejected(now).standing(now), Standing::Ejected);
    }

    #[test]
    fn too_large_a_share_of_failures_ejects() {
        let now = Instant::now();
        // Every second request fails, never two in a row.
        let check = |gap: Duration, expected: Option<u32>| {
            let mut health = Health::default();
            let ejects = |count: &u32| {
                let at = now + gap * *count;
                health.succeed(at);
                health.fail(at)
            };
            assert_eq!((1..=100).find(ejects), expected, "{gap:?}");
        };
        check(Duration::ZERO, Some(ANSWERS_MIN / 2));
        check(WINDOW / 20, Some(ANSWERS_MIN / 2));
        // So few that their share says nothing.
        check(WINDOW / 2, None);
    }

    #[test]
    fn one_probe_decides_about_an_ejected_endpoint() {
        let now = Instant::now();
        let mut health = ejected(now);
        let later = now + EJECTION_MIN;
        assert_eq!(left_out(&health, now), EJECTION_MIN);
        health.begin(later);
        assert_eq!(health.standing(later), Standing::Probing);
        // Another that finds no better place is no second probe.
        health.begin(later);
        assert!(health.fail(later));
        assert_eq!(left_out(&health, later), EJECTION_MIN * 2);
        health.begin(later + EJECTION_MIN * 2);
        health.succeed(later + EJECTION_MIN * 2);
        assert_eq!(health.standing(later), Standing::Usable);
    }

    #[test]
    fn ejections_grow_to_a_bound_until_the_endpoint_was_well_for_long() {
        let mut now = Instant::now();
        let mut health = Health::default();
        let mut eject_again = |wait: Duration| {
            now += wait;
            while !health.fail(now) {}
            let length = left_out(&health, now);
            now += length;
            health.begin(now);
            health.succeed(now);
            length
        };
        for power in 0..8 {
            let expected = (EJECTION_MIN * (1 << power)).min(EJECTION_MAX);
            assert_eq!(eject_again(MILLI), expected);
        }
        assert_eq!(eject_again(RECOVERY), EJECTION_MIN);
    }

    #[test]
    fn an_endpoint_is_set_aside_for_a_time_without_a_failure() {
        let now = Instant::now();
        let until = now + Duration::from_secs(7);
        for (why, standing) in [
            (Aside::RateLimit, Standing::RateLimited { until }),
            (Aside::Unauthorized, Standing::Unauthorized),
        ] {
            let mut health = Health::default();
            health.set_aside(until, why);
            health.succeed(now);
            assert_eq!(health.standing(now), standing);
            assert_eq!(health.standing(until), Standing::Usable);
            assert!(!health.fail(now));
        }
    }

    #[test]
    fn it_is_counted_how_often_an_endpoint_is_left_out() {
        let now = Instant::now();
        let mut health = ejected(now);
        // One that is ejected is not ejected again by requests that were under way.
        health.fail(now);
        health.set_aside(now, Aside::RateLimit);
        health.set_aside(now, Aside::RateLimit);
        health.set_aside(now, Aside::Unauthorized);
        let expected = Cooled {
            failures: 1,
            rate_limits: 2,
            refusals: 1,
        };
        assert_eq!(health.cooled(), expected);
    }
}
