//! Forward: sends a request to a target, and to the next one while nothing has been answered yet.

mod attempt;
mod candidates;
mod failure;
mod opening;
mod pick;
mod race;
mod recognise;
pub(crate) mod retry_after;
mod room;
mod socket;

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use hyper::{body::Incoming, upgrade::Upgraded};
use protocol::{openai::ErrorKind, routing::FailureClass};
use rand::Rng;
use tracing::{debug, warn};

use self::{candidates::Candidates, failure::Failure, room::Full};
pub(crate) use self::{
    failure::UpstreamError,
    pick::{Chosen, pick},
    race::is_repeatable,
    retry_after::retry_after,
};
use crate::{
    call::Call,
    decode::{Decoded, Upload},
    endpoint::{Aside, Endpoint, Lease, Standing},
    fault::Fault,
    leases::Fleet,
    limits::Reservation,
    metrics::Metrics,
    prefix::Prediction,
    provider::{Tokens, Unsendable},
    retry,
    route::Wish,
    table::{Route, Target, Unnamable},
    upstream::{Uploads, Upstream},
    wire::Translation,
};

/// Bytes of a complete answer that are accepted.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;
/// How long an endpoint is left out that refused the gateway's credential.
const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(30);

/// What one request is forwarded with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forward<'a> {
    /// The client.
    pub(crate) upstream: &'a Upstream,
    /// The client for forms.
    pub(crate) uploads: &'a Uploads,
    /// The client for WebSockets.
    pub(crate) sockets: &'a Upstream,
    /// The replicas that share the limits of targets.
    pub(crate) fleet: &'a Fleet,
    /// Where to count.
    pub(crate) metrics: &'a Metrics,
    /// The route.
    pub(crate) route: &'a Route,
    /// The call.
    pub(crate) call: &'a Call,
    /// The request.
    pub(crate) decoded: &'a Decoded,
    /// The model's name by which the route was found: the request's, or that of a fallback.
    pub(crate) asked: &'a str,
    /// What of it decides where it goes.
    pub(crate) wish: Wish<'a>,
    /// The request's headers, of which providers may see a few.
    pub(crate) headers: &'a HeaderMap,
    /// The form that goes in the place of the request's body, if it is one.
    pub(crate) upload: Option<&'a Upload>,
    /// Bytes of a complete answer that are accepted.
    pub(crate) answer_bytes_max: usize,
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
    /// What the request has reserved at the target, if that has limits.
    pub(crate) reservation: Option<Box<Reservation>>,
    /// When, and by whom.
    pub(crate) timing: Timing,
}

/// How an answer came about.
#[derive(Debug)]
pub(crate) struct Timing {
    /// When the request was sent to the one that answered.
    pub(crate) sent: Instant,
    /// How long upstreams were waited for, the ones that failed included.
    pub(crate) waited: Duration,
    /// Who answered.
    pub(crate) endpoint: Arc<Endpoint>,
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
        /// What it used, if a translation has counted it already.
        tokens: Option<Tokens>,
    },
    /// The beginning of a stream.
    Stream(Begun),
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
    /// A conversation over a WebSocket.
    Talk {
        /// The upstream's socket.
        upstream: Upgraded,
        /// The place at the endpoint, held until the conversation ends.
        lease: Lease,
    },
}

/// A stream that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The bytes that came first, in the client's API.
    pub(crate) first: Bytes,
    /// The rest.
    pub(crate) rest: Incoming,
    /// What the rest is translated by, if the upstream speaks another API than the client.
    pub(crate) translation: Option<Box<Translation>>,
    /// The place at the endpoint, held until the stream ends.
    pub(crate) lease: Lease,
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
    Upstream(Box<UpstreamError>),
}

impl Forward<'_> {
    /// The model's name at a target.
    ///
    /// # Errors
    /// The name that was asked for makes none; nobody was asked then.
    fn model_at<'t>(&self, target: &'t Target) -> Result<Cow<'t, str>, Failure> {
        let model = target.model_for(&self.route.models, self.asked);
        model.map_err(|Unnamable| {
            let fault = Fault::model_not_found(self.asked);
            Failure::Unsendable(Unsendable::Untranslatable(fault))
        })
    }
}

/// Sends the request until somebody answers, tries run out, or the time is over.
///
/// # Errors
/// The last failure, in words for the client.
pub(crate) async fn forward(forward: Forward<'_>) -> Result<Answered, Failed> {
    let Forward { route, call, .. } = forward;
    route.budget.deposit();
    if let Some(hedging) = &route.hedging {
        hedging.budget.deposit();
    }
    let deadline = call.started + Duration::from_millis(route.timeouts.request_millis);
    let request = (forward.decoded, forward.asked);
    let mut candidates = Candidates::new(route, request, &forward.wish, &mut rand::rng());
    let tries_max = route.retries_max.saturating_add(1);
    let mut repeats = 0;
    let mut waited = Duration::ZERO;
    let mut last: Option<(usize, Failure)> = None;
    let mut full: Option<Full> = None;
    for tries_left in (1..=tries_max).rev() {
        let next = room::next(&forward, &mut candidates, tries_left, &mut full).await;
        let Some(candidate) = next else { break };
        if let Some((_, failure)) = &last {
            let is_spent = forward.upload.is_some_and(Upload::is_spent);
            // A form has passed, or everybody was asked once, and asking again would not help.
            if is_spent || (candidate.is_repeat && !failure.may_pass()) || !may_retry(&forward) {
                break;
            }
        }
        if candidate.is_repeat {
            let wait = retry::backoff(route.backoff, repeats, rand::rng().random());
            repeats += 1;
            if deadline <= Instant::now() + wait {
                break;
            }
            tokio::time::sleep(wait).await;
        }
        let asked = Instant::now();
        let tried = race::ask(&forward, &mut candidates, candidate, deadline).await;
        waited += asked.elapsed();
        let candidate = tried.candidate;
        match tried.outcome {
            Ok(answer) => {
                candidate.endpoint.note_success(Instant::now());
                let sent = tried.sent;
                return Ok(Answered {
                    target: candidate.target,
                    answer,
                    prediction: candidate.prediction.map(|prediction| (prediction, sent)),
                    reservation: candidate.reservation,
                    timing: Timing {
                        sent,
                        waited,
                        endpoint: candidate.endpoint,
                    },
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
    Err(refuse(route, last, full))
}

/// Takes a try after the first from the route's budget.
fn may_retry(forward: &Forward<'_>) -> bool {
    let (route, request_id) = (forward.route, &forward.call.id);
    let may_retry = route.budget.withdraw();
    if may_retry {
        forward.metrics.count_retry(&route.id);
    } else {
        debug!(
            request_id,
            route = route.id,
            "the route's retry budget is spent"
        );
    }
    may_retry
}

fn note(forward: &Forward<'_>, target: usize, endpoint: &Arc<Endpoint>, failure: &Failure) {
    if failure.is_unasked() {
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
        endpoint.note_success(Instant::now());
        set_aside(forward, &forward.route.targets[target], endpoint, failure);
    }
}

/// Leaves out an endpoint that said that it takes no requests for now, or none of ours.
fn set_aside(forward: &Forward<'_>, target: &Target, endpoint: &Endpoint, failure: &Failure) {
    let Failure::Status(error) = failure else {
        return;
    };
    let (wait, why) = match (failure.class(), error.retry_in) {
        // Of a target that has many models it says that of one of them.
        (Some(FailureClass::RateLimit), Some(wait)) if target.naming.is_none() => {
            (wait, Aside::RateLimit)
        }
        (Some(FailureClass::Error), _) if error.is_unauthorized() => {
            (UNAUTHORIZED_PAUSE, Aside::Unauthorized)
        }
        _ => return,
    };
    let (route, upstream) = (&forward.route.id, endpoint.url());
    warn!(
        route,
        upstream,
        ?why,
        ?wait,
        "an upstream is set aside, as it says"
    );
    endpoint.set_aside(Instant::now() + wait, why);
    forward.metrics.routing.count_aside(route, why);
}

/// What is told when there was nobody to ask.
fn nobody(route: &Route, full: Option<Full>, now: Instant) -> Failed {
    let endpoints = route.targets.iter().flat_map(|target| &target.endpoints);
    let waits = endpoints.filter_map(|endpoint| match endpoint.standing(now) {
        Standing::RateLimited { until } => Some(until.saturating_duration_since(now)),
        _ => None,
    });
    let (class, fault) = match (waits.min(), full) {
        (wait, Some(full)) if wait.is_none_or(|wait| full.retry_after <= wait) => {
            (FailureClass::RateLimit, full.fault)
        }
        (Some(wait), _) => {
            let message = "The servers of this model take no more requests for now.";
            let fault = Fault {
                retry_after: Some(wait.as_secs_f64().ceil().max(1.0) as u64),
                ..Fault::new(ErrorKind::RateLimited, message)
            };
            (FailureClass::RateLimit, fault)
        }
        (None, _) => {
            let message = "No replica of this model is ready. Try again later.";
            let fault = Fault::new(ErrorKind::Unavailable, message);
            (FailureClass::ColdStart, fault)
        }
    };
    Failed {
        target: None,
        class: Some(class),
        refusal: Refusal::Fault(fault),
    }
}

fn refuse(route: &Route, last: Option<(usize, Failure)>, full: Option<Full>) -> Failed {
    let Some((target, failure)) = last else {
        return nobody(route, full, Instant::now());
    };
    let class = failure.class();
    let name = &route.targets[target].name;
    let refusal = match failure {
        Failure::Broken(_) => Refusal::Fault(Fault::new(
            ErrorKind::UpstreamFailed,
            format!("The target `{name}` could not be reached."),
        )),
        Failure::Adapter(reason) => Refusal::Fault(Fault::new(
            ErrorKind::UpstreamFailed,
            format!("The target `{name}` cannot use the adapter now: {reason}."),
        )),
        Failure::Timeout(what, limit) => {
            let message = format!("The target `{name}` sent no {what} within {limit:?}.");
            Refusal::Fault(Fault::new(ErrorKind::Timeout, message))
        }
        Failure::Client(fault) => Refusal::Fault(fault),
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
        Failure::Unsendable(Unsendable::Untranslatable(fault)) => Refusal::Fault(fault),
    };
    Failed {
        target: Some(target),
        class,
        refusal,
    }
}
