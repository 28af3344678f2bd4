//! One try, or two beside each other where the route hedges: the first answer wins, the other one is dropped at once.

use std::time::{Duration, Instant};

use futures::future::{Either, select};

use super::{
    Answer, Failure, Forward, attempt,
    candidates::{Candidates, Next},
    note,
};
use crate::call::Operation;

/// What came of a try, and of whom.
pub(super) struct Tried {
    /// Who answered, or failed last.
    pub(super) candidate: Next,
    /// When that one was asked.
    pub(super) sent: Instant,
    /// What came of it.
    pub(super) outcome: Result<Answer, Failure>,
}

/// Asks a candidate, and another one beside it when the first is late. A failure that does not end the race is noted
/// here.
pub(super) async fn ask(
    forward: &Forward<'_>,
    candidates: &mut Candidates<'_>,
    candidate: Next,
    deadline: Instant,
) -> Tried {
    let hedging = forward.route.hedging.as_ref();
    let after = hedging.filter(|_| is_repeatable(forward.call.operation));
    let Some((hedging, after)) = after.and_then(|hedging| Some((hedging, hedging.after()?))) else {
        return alone(forward, candidate, deadline).await;
    };
    let late = Box::pin(tokio::time::sleep(after));
    let first = Box::pin(alone(forward, candidate, deadline));
    let first = match select(first, late).await {
        Either::Left((tried, _)) => return tried,
        Either::Right(((), first)) => first,
    };
    // The last try counts: nothing but replicas that were not asked yet.
    let second = candidates.other(Instant::now(), &mut rand::rng());
    let Some(second) = second.filter(|_| hedging.budget.withdraw()) else {
        return first.await;
    };
    let metrics = &forward.metrics.routing;
    let second = Box::pin(alone(forward, second, deadline));
    let (tried, other, is_second) = match select(first, second).await {
        Either::Left((tried, second)) => (tried, second, false),
        Either::Right((tried, first)) => (tried, first, true),
    };
    let Err(failure) = &tried.outcome else {
        metrics.count_hedge(&forward.route.id, is_second);
        return tried;
    };
    let Next {
        target, endpoint, ..
    } = &tried.candidate;
    note(forward, *target, endpoint, failure);
    let tried = other.await;
    metrics.count_hedge(&forward.route.id, !is_second && tried.outcome.is_ok());
    tried
}

async fn alone(forward: &Forward<'_>, candidate: Next, deadline: Instant) -> Tried {
    let target = &forward.route.targets[candidate.target];
    let sent = Instant::now();
    let encoded = target
        .provider
        .encode_request(forward.call, forward.decoded, &target.model);
    let endpoint = &candidate.endpoint;
    let outcome = match encoded {
        Ok(body) => attempt::attempt(forward, target, endpoint, body, deadline).await,
        Err(unsendable) => Err(Failure::Unsendable(unsendable)),
    };
    if outcome.is_ok() {
        learn(forward, endpoint, sent.elapsed());
    }
    Tried {
        candidate,
        sent,
        outcome,
    }
}

/// Notes how long an answer took, where the route decides by it.
fn learn(forward: &Forward<'_>, endpoint: &crate::endpoint::Endpoint, took: Duration) {
    if forward.route.strategy.is_measured() {
        endpoint.pace.note(took, Instant::now());
    }
    if let Some(hedging) = &forward.route.hedging {
        hedging.note(took);
    }
}

/// Whether asking twice does nothing but compute twice.
pub(crate) const fn is_repeatable(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Chat
            | Operation::Completion
            | Operation::Message
            | Operation::Embedding
            | Operation::TokenCount
            | Operation::Rerank
            | Operation::Moderation
    )
}
