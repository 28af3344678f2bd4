//! How many engines a Model has now: all of them while requests come, fewer while none does. Pure.

use std::time::Duration;

use crds::Model;
use jiff::{SignedDuration, Timestamp};
use protocol::demand::PERIOD;

use super::validate::InvalidModel;
use crate::quantities::duration;

/// How long no request must have come, if a Model does not say.
const IDLE: &str = "10m";
/// The shortest such time: gateways report every [`PERIOD`] that a request is in progress, and may miss one report.
const IDLE_MIN: Duration = Duration::from_secs(2 * PERIOD.as_secs());
/// How long after this replica of the operator began to lead nobody is put to sleep: gateways report again meanwhile.
const SETTLING: Duration = Duration::from_secs(4 * PERIOD.as_secs());
/// The coarsest step in which it is noted when requests came last.
const GRAIN_MAX: Duration = Duration::from_secs(60);

/// A Model's engines while nobody asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ValidScaling {
    /// How many there are.
    pub(super) min: i32,
    /// How long no request must have come.
    idle: Duration,
}

/// What a decision is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    /// What the status says of when requests came last.
    pub(super) last_wanted: Option<&'a str>,
    /// Engines that the Deployment asks for now, if there is one.
    pub(super) running: Option<i32>,
    /// How long this replica of the operator has led.
    pub(super) led: Duration,
    /// The time.
    pub(super) now: Timestamp,
}

/// How many engines there are to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) replicas: i32,
    /// When requests came last, for the status.
    pub(super) last_wanted: Option<String>,
    /// When to decide again.
    pub(super) again: Option<Duration>,
}

impl ValidScaling {
    /// Checks what a Model asks for.
    pub(crate) fn of(model: &Model) -> Result<Option<Self>, InvalidModel> {
        let Some(scaling) = &model.spec.scaling else {
            return Ok(None);
        };
        let text = scaling.idle.as_deref().unwrap_or(IDLE);
        let idle = duration(text).filter(|idle| IDLE_MIN <= *idle);
        let idle = idle.ok_or_else(|| InvalidModel::Idle(text.to_owned()))?;
        Ok(Some(Self {
            min: scaling.min,
            idle,
        }))
    }

    /// The step in which it is noted when requests came last.
    fn grain(self) -> Duration {
        (self.idle / 8).min(GRAIN_MAX)
    }

    /// Whether a request that comes now is worth noting, since it is not noted that one came just before.
    pub(crate) fn is_worth_noting(self, last_wanted: Option<&str>, now: Timestamp) -> bool {
        let noted = last_wanted.and_then(|text| text.parse::<Timestamp>().ok());
        noted.is_none_or(|noted| now < noted || self.grain() <= since(noted, now))
    }

    /// Decides for a Model that has so many engines while requests come.
    pub(super) fn plan(self, replicas: i32, seen: Seen<'_>) -> Plan {
        let noted = seen.last_wanted.and_then(|text| text.parse().ok());
        let has_more = seen.running.is_some_and(|running| self.min < running);
        // One that ran already when it was first told to sleep has its full time.
        let begins = noted.is_none() && has_more;
        let noted = if begins { Some(seen.now) } else { noted };
        let last_wanted = if begins {
            Some(seen.now.to_string())
        } else {
            seen.last_wanted.map(str::to_owned)
        };
        let awake_for = noted.map(|noted| {
            let limit = self.idle + self.grain();
            limit.saturating_sub(since(noted, seen.now))
        });
        let settles_for = SETTLING.saturating_sub(seen.led);
        let again = match awake_for {
            Some(left) if !left.is_zero() => Some(left),
            _ => Some(settles_for).filter(|left| has_more && !left.is_zero()),
        };
        Plan {
            replicas: if again.is_some() { replicas } else { self.min },
            last_wanted,
            again,
        }
    }
}

/// The time from one to the other; none if it is the other way round.
fn since(then: Timestamp, now: Timestamp) -> Duration {
    let passed: SignedDuration = now.duration_since(then);
    Duration::try_from(passed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::{SignedDuration, Timestamp};

    use super::{Plan, Seen, ValidScaling};

    const SCALING: ValidScaling = ValidScaling {
        min: 0,
        idle: Duration::from_secs(80),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// Noted last and now, in seconds; engines that run; seconds that the operator has led: engines, seconds until it is
    /// decided again.
    #[track_caller]
    fn check(
        (noted, now): (Option<i64>, i64),
        running: Option<i32>,
        led: u64,
        (replicas, again): (i32, Option<u64>),
    ) {
        let noted = noted.map(|noted| at(noted).to_string());
        let plan = SCALING.plan(
            3,
            Seen {
                last_wanted: noted.as_deref(),
                running,
                led: Duration::from_secs(led),
                now: at(now),
            },
        );
        let begins = noted.is_none() && running.is_some_and(|running| 0 < running);
        let expected = Plan {
            replicas,
            last_wanted: noted.or_else(|| begins.then(|| at(now).to_string())),
            again: again.map(Duration::from_secs),
        };
        assert_eq!(plan, expected);
    }

    #[test]
    fn a_model_sleeps_until_somebody_asks_and_again_when_nobody_does() {
        // Nobody has ever asked.
        check((None, 1000), None, 600, (0, None));
        check((None, 1000), Some(0), 600, (0, None));
        // Asked now, and up to both sides of the limit: the idle time and a step of the noting.
        check((Some(1000), 1000), Some(0), 600, (3, Some(90)));
        check((Some(1000), 1089), Some(3), 600, (3, Some(1)));
        check((Some(1000), 1090), Some(3), 600, (0, None));
        check((Some(1000), 5000), Some(0), 600, (0, None));
        // A clock that is behind the one that noted it.
        check((Some(1000), 900), Some(0), 600, (3, Some(90)));
    }

    #[test]
    fn a_restart_of_the_operator_puts_nobody_to_sleep_before_gateways_have_reported() {
        check((Some(1000), 9000), Some(3), 5, (3, Some(15)));
        check((Some(1000), 9000), Some(3), 20, (0, None));
        // Who sleeps is not woken by it.
        check((Some(1000), 9000), Some(0), 5, (0, None));
    }

    #[test]
    fn a_model_that_ran_before_it_was_told_to_sleep_has_its_full_time() {
        check((None, 1000), Some(3), 600, (3, Some(90)));
    }

    #[test]
    fn what_was_noted_just_now_is_not_noted_again() {
        let noted = at(1000).to_string();
        for (now, expected) in [(1000, false), (1009, false), (1010, true), (999, true)] {
            let is_worth = SCALING.is_worth_noting(Some(&noted), at(now));
            assert_eq!(is_worth, expected, "{now}");
        }
        assert!(SCALING.is_worth_noting(None, at(1000)));
        assert!(SCALING.is_worth_noting(Some("yesterday"), at(1000)));
    }
}
