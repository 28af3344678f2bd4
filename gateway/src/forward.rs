//! Forward: sends a request to a target, and to the next one while nothing has been answered yet.

mod attempt;
mod candidates;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::body::Incoming;
use protocol::openai::ErrorKind;
use rand::Rng;
use tracing::{debug, warn};

use self::candidates::Candidates;
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
}

/// Why an attempt gave no answer that the client can have.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection, or it broke before the answer was complete.
    Broken(String),
    /// No answer in time.
    Timeout(&'static str, Duration),
    /// An answer over the limit.
    TooLong,
    /// An error of the upstream's.
    Status(UpstreamError),
    /// The upstream was not asked, since it does not speak of this.
    Unsendable(Unsendable),
}

/// An upstream's own words.
#[derive(Debug)]
pub(crate) struct UpstreamError {
    /// The status, 400 or above.
    pub(crate) status: StatusCode,
    /// The content type.
    pub(crate) content_type: HeaderValue,
    /// When the upstream wants to be asked again.
    pub(crate) retry_after: Option<HeaderValue>,
    /// The body, up to a limit.
    pub(crate) body: Bytes,
}

impl Failure {
    /// Whether another try may do better.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout(..) | Self::Unsendable(Unsendable::Unspoken) => true,
            Self::TooLong => false,
            // 529 is Anthropic's word for overload.
            Self::Status(error) => {
                matches!(
                    error.status.as_u16(),
                    408 | 429 | 500 | 502 | 503 | 504 | 529
                )
            }
        }
    }

    /// Whether it speaks against the endpoint's health: being busy does not.
    fn is_harmful(&self) -> bool {
        match self {
            Self::Broken(_) | Self::Timeout(..) => true,
            Self::TooLong | Self::Unsendable(_) => false,
            Self::Status(error) => error.status.is_server_error(),
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Broken(reason) => reason.clone(),
            Self::Timeout(what, limit) => format!("no {what} within {limit:?}"),
            Self::TooLong => "the answer is over the limit".to_owned(),
            Self::Status(error) => format!("status {}", error.status),
            Self::Unsendable(Unsendable::Unspoken) => "the target has no such API".to_owned(),
        }
    }
}

/// How a request ended that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The target that was tried last; `None` if there was none to try.
    pub(crate) target: Option<usize>,
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
            if candidate.is_repeat
                && matches!(failure, Failure::Timeout(..) | Failure::Unsendable(_))
            {
                // Everybody was asked once. Who was too slow would be slower, and who has no such API will have none.
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
                let is_final = !failure.is_retryable() || deadline <= Instant::now();
                last = Some((candidate.target, failure));
                if is_final {
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
            refusal: Refusal::Fault(Fault::new(ErrorKind::Unavailable, message)),
        };
    };
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
        Failure::Status(error) if matches!(error.status.as_u16(), 401 | 403) => {
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
        refusal,
    }
}
