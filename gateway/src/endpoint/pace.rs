//! Pace: how long an endpoint takes to its first token or its whole answer, as a moving average; and what it says that
//! is left of its rate limits.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;

/// How much an answer weighs against all before it.
const NEWEST_WEIGHT: f64 = 0.2;
/// After so long without an answer nothing is known any more.
const STALE: Duration = Duration::from_secs(30);
/// How long what was said of a rate limit counts: most are per minute.
const HEADROOM_STALE: Duration = Duration::from_secs(60);

/// What was learned of an endpoint.
#[derive(Debug)]
pub(crate) struct Pace {
    since: Instant,
    /// Seconds, as the bits of a float; 0 while nothing is known.
    seconds: AtomicU64,
    /// When it was learned, in milliseconds since `since`.
    learned_millis: AtomicU64,
    headroom: Mutex<Option<(Instant, f64)>>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            seconds: AtomicU64::new(0),
            learned_millis: AtomicU64::new(0),
            headroom: Mutex::default(),
        }
    }
}

impl Pace {
    /// Notes how long an answer, or its first token, took.
    pub(crate) fn note(&self, took: Duration, now: Instant) {
        let newest = took.as_secs_f64().max(f64::MIN_POSITIVE);
        let is_known = self.seconds(now).is_some();
        let mix = |bits: u64| {
            let before = f64::from_bits(bits);
            let mixed = before + (newest - before) * NEWEST_WEIGHT;
            Some(if is_known { mixed } else { newest }.to_bits())
        };
        // The closure always gives a value.
        let _ = self
            .seconds
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, mix);
        let millis = now.saturating_duration_since(self.since).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX);
        self.learned_millis.store(millis, Ordering::Relaxed);
    }

    /// The average in seconds; `None` while nothing, or nothing new, is known.
    pub(crate) fn seconds(&self, now: Instant) -> Option<f64> {
        let seconds = f64::from_bits(self.seconds.load(Ordering::Relaxed));
        let learned = Duration::from_millis(self.learned_millis.load(Ordering::Relaxed));
        let age = now.saturating_duration_since(self.since + learned);
        (0.0 < seconds && age < STALE).then_some(seconds)
    }

    /// Notes what an answer's headers say of rate limits.
    pub(crate) fn note_headroom(&self, headers: &HeaderMap, now: Instant) {
        if let Some(share) = headroom(headers) {
            *self.headroom.lock() = Some((now, share));
        }
    }

    /// The share of its rate limits that is left, from 0 to 1; `None` if it does not say.
    pub(crate) fn headroom(&self, now: Instant) -> Option<f64> {
        let (learned, share) = (*self.headroom.lock())?;
        (now.saturating_duration_since(learned) < HEADROOM_STALE).then_some(share)
    }
}

/// Limits and what remains of them, by the names of OpenAI's API and of Anthropic's.
const LIMITS: [(&str, &str); 6] = [
    (
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
    ),
    ("x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens"),
    (
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
    ),
    (
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
    ),
    (
        "anthropic-ratelimit-input-tokens-limit",
        "anthropic-ratelimit-input-tokens-remaining",
    ),
    (
        "anthropic-ratelimit-output-tokens-limit",
        "anthropic-ratelimit-output-tokens-remaining",
    ),
];

/// The smallest share that is left of any limit that headers tell.
fn headroom(headers: &HeaderMap) -> Option<f64> {
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<f64>().ok();
    let shares = LIMITS.iter().filter_map(|(limit, remaining)| {
        let limit = number(limit).filter(|limit| 0.0 < *limit)?;
        Some((number(remaining)? / limit).clamp(0.0, 1.0))
    });
    shares.min_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use http::{HeaderMap, HeaderValue};

    use super::{HEADROOM_STALE, Pace, STALE, headroom};

    #[test]
    fn newer_answers_count_for_more_and_old_ones_are_forgotten() {
        let pace = Pace::default();
        let now = Instant::now();
        assert_eq!(pace.seconds(now), None);
        pace.note(Duration::from_secs(1), now);
        assert_eq!(pace.seconds(now), Some(1.0));
        pace.note(Duration::from_secs(2), now);
        assert_eq!(pace.seconds(now), Some(1.2));
        let later = now + STALE + Duration::from_secs(1);
        assert_eq!(pace.seconds(later), None);
        pace.note(Duration::from_secs(9), later);
        assert_eq!(pace.seconds(later), Some(9.0));
    }

    #[track_caller]
    fn check(given: &[(&'static str, &'static str)], expected: Option<f64>) {
        let pairs = given.iter().map(|(name, value)| {
            let name: http::HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_static(value))
        });
        let headers: HeaderMap = pairs.collect();
        assert_eq!(headroom(&headers), expected, "{given:?}");
        let (pace, now) = (Pace::default(), Instant::now());
        pace.note_headroom(&headers, now);
        assert_eq!(pace.headroom(now), expected);
        assert_eq!(pace.headroom(now + HEADROOM_STALE), None);
    }

    #[test]
    fn headroom_is_the_smallest_share_that_headers_tell() {
        check(&[], None);
        check(&[("x-ratelimit-remaining-requests", "5")], None);
        check(
            &[
                ("x-ratelimit-limit-requests", "100"),
                ("x-ratelimit-remaining-requests", "50"),
                ("x-ratelimit-limit-tokens", "1000"),
                ("x-ratelimit-remaining-tokens", "250"),
            ],
            Some(0.25),
        );
        check(
            &[
                ("anthropic-ratelimit-output-tokens-limit", "8000"),
                ("anthropic-ratelimit-output-tokens-remaining", "8000"),
            ],
            Some(1.0),
        );
        check(
            &[
                ("x-ratelimit-limit-requests", "0"),
                ("x-ratelimit-remaining-requests", "0"),
            ],
            None,
        );
    }
}
