//! Room: what a request reserves at a target that may be sent only so much, before it is sent there.
//!
//! A target without room is left for the rest of the request, and the next one is taken at once: that is no try. What
//! goes out counts as a request of the target's whatever becomes of it; tokens and places come back from a try that
//! gave no answer.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use protocol::{openai::ErrorKind, routing::FailureClass};
use tracing::debug;

use super::{
    Forward,
    candidates::{Candidates, Next},
};
use crate::{
    cost::Cost,
    fault::Fault,
    limits::{Asker, Need, Reached, Refused, Reservation, SHORTAGES_MAX},
    table::Target,
};

/// When a request may come again that lost what other replicas hold to others, again and again.
const SHORT_RETRY: Duration = Duration::from_secs(1);

/// Why a target was not asked.
#[derive(Debug)]
pub(super) struct Full {
    /// When it may have room again.
    pub(super) retry_after: Duration,
    /// What the client is told if nobody else is left.
    pub(super) fault: Fault,
}

impl From<&Reached> for Full {
    fn from(reached: &Reached) -> Self {
        Self {
            retry_after: reached.retry_after(),
            fault: reached.fault(),
        }
    }
}

/// The next candidate whose target has room for the request, which is reserved. `full` becomes the target without room
/// that has some soonest.
pub(super) async fn next(
    forward: &Forward<'_>,
    candidates: &mut Candidates<'_>,
    tries_left: u32,
    full: &mut Option<Full>,
) -> Option<Next> {
    loop {
        let next = candidates.next(tries_left, Instant::now(), &mut rand::rng())?;
        let target = &forward.route.targets[next.target];
        if target.rules.is_empty() {
            return Some(next);
        }
        // Boxed, so that requests to targets without limits are no larger for it.
        let refused = match Box::pin(reserve(forward, target)).await {
            Ok(reservation) => {
                return Some(Next {
                    reservation: Some(reservation),
                    ..next
                });
            }
            Err(refused) => refused,
        };
        let (request_id, route) = (&forward.call.id, &forward.route.id);
        debug!(
            request_id,
            route,
            target = target.name,
            "a target has no room"
        );
        candidates.leave_full(&next);
        if full
            .as_ref()
            .is_none_or(|full| refused.retry_after < full.retry_after)
        {
            *full = Some(refused);
        }
        if !forward.route.fallbacks.tries_next(FailureClass::RateLimit) {
            return None;
        }
    }
}

/// Reserves room for a second request beside a first one, which does not wait for it: `None` if there is none at hand.
pub(super) fn beside(
    forward: &Forward<'_>,
    candidates: &mut Candidates<'_>,
    next: Next,
) -> Option<Next> {
    let target = &forward.route.targets[next.target];
    if target.rules.is_empty() {
        return Some(next);
    }
    if let Ok(reservation) = try_reserve(forward, target) {
        return Some(Next {
            reservation: Some(reservation),
            ..next
        });
    }
    candidates.put_back(&next);
    None
}

/// Reserves what a request may need of a target.
///
/// # Errors
/// The target has no room for it.
pub(super) async fn reserve(
    forward: &Forward<'_>,
    target: &Target,
) -> Result<Box<Reservation>, Full> {
    for _ in 0..SHORTAGES_MAX {
        match try_reserve(forward, target) {
            Ok(reservation) => return Ok(reservation),
            Err(Refused::Reached(reached)) => return Err(Full::from(&reached)),
            Err(Refused::Short(shortage)) => forward.fleet.relieve(shortage).await,
        }
    }
    let message = "Other requests are faster at what is left of a limit. Try again later.";
    Err(Full {
        retry_after: SHORT_RETRY,
        fault: Fault {
            retry_after: Some(SHORT_RETRY.as_secs()),
            ..Fault::new(ErrorKind::RateLimited, message)
        },
    })
}

fn try_reserve(forward: &Forward<'_>, target: &Target) -> Result<Box<Reservation>, Refused> {
    let need = Need {
        tokens: forward.wish.guess.total(),
        cost: Cost::default(),
    };
    let mut over = |reached: &Reached| forward.metrics.count_limit(&forward.route.id, reached);
    let mut reservation = Box::<Reservation>::default();
    let (nobody, now) = (Asker::default(), Timestamp::now());
    reservation.take(&target.rules, &nobody, need, now, &mut over)?;
    Ok(reservation)
}
