//! One try, or two beside each other where the route hedges: the first answer wins, the other one is dropped at once.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{Either, select};
use http::StatusCode;
use protocol::snapshot::Adapter;

use super::{
    Answer, Failure, Forward, attempt,
    candidates::{Candidates, Next},
    note, room,
};
use crate::{adapters, call::Operation, endpoint::Endpoint, table::Target};

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
    let second = second.and_then(|second| room::beside(forward, candidates, second));
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
    // What it has reserved is for others now.
    drop(tried);
    let tried = other.await;
    metrics.count_hedge(&forward.route.id, !is_second && tried.outcome.is_ok());
    tried
}

async fn alone(forward: &Forward<'_>, mut candidate: Next, deadline: Instant) -> Tried {
    if let Some(reservation) = &mut candidate.reservation {
        reservation.note_sent(true);
    }
    let target = &forward.route.targets[candidate.target];
    let endpoint = &candidate.endpoint;
    let adapter = target.adapter(&forward.decoded.fields.model);
    let (sent, outcome) = match adapter {
        None => {
            let sent = Instant::now();
            (sent, send(forward, target, endpoint, deadline).await)
        }
        Some(adapter) => with_adapter(forward, target, endpoint, adapter, deadline).await,
    };
    if outcome.is_ok() {
        learn(forward, endpoint, sent.elapsed());
    }
    if let (Some(reservation), Err(failure)) = (&mut candidate.reservation, &outcome) {
        reservation.note_sent(!failure.is_unasked());
    }
    Tried {
        candidate,
        sent,
        outcome,
    }
}

async fn send(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Arc<Endpoint>,
    deadline: Instant,
) -> Result<Answer, Failure> {
    let adapter = target.adapter(&forward.decoded.fields.model);
    let model = match adapter {
        None => forward.model_at(target)?,
        Some(adapter) => Cow::Borrowed(adapter.model.as_str()),
    };
    let encoded = target
        .provider
        .encode_request(forward.call, forward.decoded, &model);
    match encoded {
        Ok(body) => attempt::attempt(forward, target, endpoint, body, deadline).await,
        Err(unsendable) => Err(Failure::Unsendable(unsendable)),
    }
}

/// Asks a replica with an adapter, once it has it; when it was asked, and what came of it.
async fn with_adapter(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Arc<Endpoint>,
    adapter: &Adapter,
    deadline: Instant,
) -> (Instant, Result<Answer, Failure>) {
    let (upstream, provider) = (forward.upstream, &target.provider);
    let ready = adapters::ensure(upstream, provider, endpoint, adapter, deadline).await;
    let sent = Instant::now();
    if let Err(reason) = ready {
        return (sent, Err(Failure::Adapter(reason)));
    }
    let outcome = send(forward, target, endpoint, deadline).await;
    let outcome = outcome.map_err(|failure| match failure {
        // It was there when the replica was asked last.
        Failure::Status(error) if error.status == StatusCode::NOT_FOUND => {
            endpoint.adapters.note_absent(&adapter.name);
            Failure::Adapter("the replica does not know it".to_owned())
        }
        failure => failure,
    });
    (sent, outcome)
}

/// Notes how long an answer took, where the route decides by it.
fn learn(forward: &Forward<'_>, endpoint: &Endpoint, took: Duration) {
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
