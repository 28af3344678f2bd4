//! Forward: sends a request to a target, and to the next one while nothing has been answered yet.

mod attempt;
mod candidates;
mod failure;
mod recognise;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use protocol::{openai::ErrorKind, routing::FailureClass};
use rand::Rng;
use tracing::{debug, warn};

pub(crate) use self::failure::UpstreamError;
use self::{candidates::Candidates, failure::Failure};
use crate::{
    call::Call, decode::Decoded, endpoint::Lease, fault::Fault, metrics::Metrics,
    prefix::Prediction, provider::Unsendable, retry, table::Route, upstream::Upstream,
};

/// What one request is forwarded with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forward<'a> {
    /// The client.
    pub(crate) upstream: &'a Upstream,
    /// Where to count.
    pub(crate) metrics: &'a Metrics,
    /// The route.
    pub(crate) route: &'a Route,
    /// The call.
    pub(crate) call: &'a Call,
    /// The request.
    pub(crate) decoded: &'a Decoded,
    /// The request's headers, of which providers may see a few.
    pub(crate) headers: &'a HeaderMap,
}

/// An answer, and which of the route's targets gave it.
#[derive(Debug)]
pub(crate) struct Answered {
    /// The target's place in the route.
    pub(crate) target: usize,
    /// The answer.
    pub(crate) answer: Answer,
    /// What was expected of the replica's cache, and when the request was sent.
    pub(crate) prediction: Option<(Prediction, Instant)>,
}

/// What an upstream answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// All of it.
    Whole {
        /// The status.
        status: StatusCode,
        /// The content type.
        content_type: HeaderValue,
        /// The body.
        body: Bytes,
    },
    /// The beginning of a stream.
    Stream {
        /// The bytes that came first.
        first: Bytes,
        /// The rest.
        rest: Incoming,
        /// The place at the endpoint, held until the stream ends.
        lease: Lease,
    },
    /// The beginning of sounds, which are played as they come.
    Raw {
        /// The content type.
        content_type: HeaderValue,
        /// The bytes that came first.
        first: Bytes,
        /// The rest.
        rest: Incoming,
        /// The place at the endpoint, held until the answer ends.
        lease: Lease,
    },
}

/// How a request ended that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The target that was tried last; `None` if there was none to try.
    pub(crate) target: Option<usize>,
    /// What kind of failure it was; `None` for what nobody else would answer better either.
    pub(crate) class: Option<FailureClass>,
    /// What the client is told.
    pub(crate) refusal: Refusal,
}

/// What a client is told in place of an answer.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// A fault of ours or on the way.
    Fault(Fault),
    /// The upstream's own words.
    Upstream(UpstreamError),
}

/// Sends the request until somebody answers, tries run out, or the time is over.
///
/// # Errors
/// The last failure, in words for the client.
pub(crate) async fn forward(forward: Forward<'_>) -> Result<Answered, Failed> {
    let Forward { route, call, .. } = forward;
    route.budget.deposit();
    let deadline = call.started + Duration::from_millis(route.timeouts.request_millis);
    let mut candidates = Candidates::new(route, forward.decoded, &mut rand::rng());
    let tries_max = route.retries_max.saturating_add(1);
    let mut repeats = 0;
    let mut last: Option<(usize, Failure)> = None;
    for tries_left in (1..=tries_max).rev() {
        let next = candidates.next(tries_left, Instant::now(), &mut rand::rng());
        let Some(candidate) = next else { break };
        if let Some((_, failure)) = &last {
            if candidate.is_repeat && !failure.may_pass() {
                // Everybody was asked once, and asking again would not help.
                break;
            }
            if !route.budget.withdraw() {
                debug!(
                    request_id = call.id,
                    route = route.id,
                    "the route's retry budget is spent"
                );
                break;
            }
            forward.metrics.count_retry(&route.id);
        }
        if candidate.is_repeat {
            let wait = retry::backoff(route.backoff, repeats, rand::rng().random());
            repeats += 1;
            if deadline <= Instant::now() + wait {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        let target = &route.targets[candidate.target];
        let sent = Instant::now();
        let outgoing = target
            .provider
            .encode_request(call, forward.decoded, &target.model);
        let outcome = match outgoing {
            Ok(outgoing) => {
                attempt::attempt(&forward, target, &candidate.endpoint, outgoing, deadline).await
            }
            Err(unsendable) => Err(Failure::Unsendable(unsendable)),
        };
        match outcome {
            Ok(answer) => {
                candidate.endpoint.note_success();
                return Ok(Answered {
                    target: candidate.target,
                    answer,
                    prediction: candidate.prediction.map(|prediction| (prediction, sent)),
                });
            }
            Err(failure) => {
                note(&forward, candidate.target, &candidate.endpoint, &failure);
                let class = failure.class();
                let tries_next = class.is_some_and(|class| route.fallbacks.tries_next(class));
                if failure.is_of_target() {
                    candidates.leave_target();
                }
                last = Some((candidate.target, failure));
                if !tries_next || deadline <= Instant::now() {
                    break;
                }
            }
        }
    }
    Err(refuse(route, last))
}

fn note(
    forward: &Forward<'_>,
    target: usize,
    endpoint: &Arc<crate::endpoint::Endpoint>,
    failure: &Failure,
) {
    if matches!(failure, Failure::Unsendable(_)) {
        // Nobody was asked: that says nothing of the endpoint.
        return;
    }
    let route = &forward.route.id;
    let name = &forward.route.targets[target].name;
    let upstream = endpoint.url();
    let error = failure.describe();
    let request_id = &forward.call.id;
    if failure.is_harmful() {
        warn!(
            request_id,
            route,
            target = name,
            upstream,
            error,
            "an upstream failed"
        );
        if endpoint.note_failure(Instant::now()) {
            if let Some(caches) = &forward.route.targets[target].caches {
                // Who was gone for a while may have been started again.
                caches.forget(endpoint);
            }
            forward.metrics.count_ejection(route);
            warn!(
                route,
                target = name,
                upstream,
                "an upstream is left out for a while"
            );
        }
    } else {
        debug!(
            request_id,
            route,
            target = name,
            upstream,
            error,
            "an upstream refused"
        );
        endpoint.note_success();
    }
}

fn refuse(route: &Route, last: Option<(usize, Failure)>) -> Failed {
    let Some((target, failure)) = last else {
        let message = "No replica of this model is ready. Try again later.";
        return Failed {
            target: None,
            class: Some(FailureClass::ColdStart),
            refusal: Refusal::Fault(Fault::new(ErrorKind::Unavailable, message)),
        };
    };
    let class = failure.class();
    let name = &route.targets[target].name;
    let refusal = match failure {
        Failure::Broken(_) => Refusal::Fault(Fault::new(
            ErrorKind::UpstreamFailed,
            format!("The target `{name}` could not be reached."),
        )),
        Failure::Timeout(what, limit) => {
            let message = format!("The target `{name}` sent no {what} within {limit:?}.");
            Refusal::Fault(Fault::new(ErrorKind::Timeout, message))
        }
        Failure::TooLong => {
            let message = format!("The answer of the target `{name}` is too large.");
            Refusal::Fault(Fault::new(ErrorKind::UpstreamFailed, message))
        }
        // The client's key was fine: what the upstream refused is the gateway's.
        Failure::Status(error)
            if error.is_unauthorized() && class != Some(FailureClass::ContentPolicy) =>
        {
            let message = format!("The target `{name}` refused the gateway's credential.");
            Refusal::Fault(Fault::new(ErrorKind::UpstreamFailed, message))
        }
        Failure::Status(error) => Refusal::Upstream(error),
        Failure::Unsendable(Unsendable::Unspoken) => {
            let message = format!("The target `{name}` has no API that could answer this.");
            Refusal::Fault(Fault::new(ErrorKind::InvalidRequest, message))
        }
    };
    Failed {
        target: Some(target),
        class,
        refusal,
    }
}
