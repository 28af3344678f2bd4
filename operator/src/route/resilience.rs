//! What a Route does when a backend gives no answer, as the gateway takes it.

use std::panic::catch_unwind;

use crds::route::{self, SessionSource};
use protocol::routing::{FailureClass, Fairness, Fallback, Hedging, Queue, Session};

use super::validate::InvalidRoute;
use crate::quantities::duration;

/// The name of the Route's own 95th percentile.
const P95: &str = "p95";
/// In how many of a hundred requests a second replica is asked, if a Route does not say.
const HEDGED_PERCENT: u32 = 2;
/// Requests that wait, if a Route does not say.
const QUEUE_LENGTH: u32 = 1000;
/// How long they wait, if a Route does not say.
const QUEUE_TIMEOUT: &str = "30s";

pub(super) fn fallbacks(fallbacks: &[route::Fallback]) -> Vec<Fallback> {
    let fallbacks = fallbacks.iter().map(|fallback| Fallback {
        on: fallback.on.iter().copied().map(class).collect(),
        model: fallback.model.clone(),
    });
    fallbacks.collect()
}

fn class(class: route::FailureClass) -> FailureClass {
    match class {
        route::FailureClass::Error => FailureClass::Error,
        route::FailureClass::Timeout => FailureClass::Timeout,
        route::FailureClass::RateLimit => FailureClass::RateLimit,
        route::FailureClass::ContextWindow => FailureClass::ContextWindow,
        route::FailureClass::ContentPolicy => FailureClass::ContentPolicy,
        route::FailureClass::ColdStart => FailureClass::ColdStart,
    }
}

/// How second replicas are asked.
pub(super) fn hedging(wanted: Option<&route::Hedging>) -> Result<Option<Hedging>, InvalidRoute> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let after = wanted.after.as_deref().filter(|after| *after != P95);
    let after = after.map(|after| millis("spec.retries.hedging.after", after));
    Ok(Some(Hedging {
        after_millis: after.transpose()?,
        permille: wanted.percent.unwrap_or(HEDGED_PERCENT) * 10,
    }))
}

/// What names the session of a request.
pub(super) fn session(wanted: Option<&route::Session>) -> Option<Session> {
    let wanted = wanted?;
    let name = || wanted.name.clone().unwrap_or_default();
    Some(match wanted.by {
        SessionSource::Header => Session::Header(name().to_ascii_lowercase()),
        SessionSource::Cookie => Session::Cookie(name()),
        SessionSource::User => Session::User,
        SessionSource::PromptCacheKey => Session::PromptCacheKey,
        SessionSource::Key => Session::Key,
    })
}

/// Checks a condition.
pub(super) fn condition(
    path: impl Fn() -> String,
    source: Option<&String>,
) -> Result<Option<String>, InvalidRoute> {
    let Some(source) = source else {
        return Ok(None);
    };
    // The parser comes from outside and is fed by users: a panic in it is a bad expression, not our end.
    let reason = match catch_unwind(|| cel::Program::compile(source)) {
        Ok(Ok(_)) => return Ok(Some(source.clone())),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the parser gave up".to_owned(),
    };
    let reason: Vec<&str> = reason.split_whitespace().collect();
    Err(InvalidRoute::Condition {
        path: path(),
        value: source.clone(),
        reason: reason.join(" "),
    })
}

/// Where requests wait for their turn.
pub(super) fn queue(wanted: Option<&route::Queue>) -> Result<Option<Queue>, InvalidRoute> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let timeout = wanted.timeout.as_deref().unwrap_or(QUEUE_TIMEOUT);
    Ok(Some(Queue {
        concurrency: wanted.concurrency,
        length: wanted.length.unwrap_or(QUEUE_LENGTH),
        timeout_millis: millis("spec.queue.timeout", timeout)?,
        fairness: match wanted.fairness {
            None | Some(route::Fairness::Key) => Fairness::Key,
            Some(route::Fairness::Team) => Fairness::Team,
            Some(route::Fairness::None) => Fairness::None,
        },
        priority_header: wanted.priority_header.clone(),
    }))
}

/// How long requests wait for a first replica, in milliseconds.
pub(super) fn cold_start(wanted: Option<&route::ColdStart>) -> Result<Option<u64>, InvalidRoute> {
    let timeout = wanted.map(|wanted| millis("spec.coldStart.timeout", &wanted.timeout));
    timeout.transpose()
}

fn millis(path: &'static str, value: &str) -> Result<u64, InvalidRoute> {
    let length = duration(value).and_then(|length| u64::try_from(length.as_millis()).ok());
    length.ok_or_else(|| InvalidRoute::Duration {
        path,
        value: value.to_owned(),
    })
}
