//! Picks a replica for a request that somebody else sends: by the same candidates as for one of ours.

use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use protocol::openai::ErrorKind;
use serde_json::json;
use tracing::debug;

use super::{
    Failed, Forward, Refusal,
    candidates::Candidates,
    nobody,
    room::{self, Full},
};
use crate::{
    adapters,
    decode::{Decoded, Edit, splice},
    endpoint::{Endpoint, Lease},
    fault::Fault,
    limits::Reservation,
    prefix::Prediction,
    table::{Target, Unnamable},
};

/// A replica that was picked.
#[derive(Debug)]
pub(crate) struct Chosen {
    /// The target's place in the route.
    pub(crate) target: usize,
    /// The replica.
    pub(crate) endpoint: Arc<Endpoint>,
    /// Its address.
    pub(crate) destination: SocketAddr,
    /// The request's place there.
    pub(crate) lease: Lease,
    /// What is expected of its cache.
    pub(crate) prediction: Option<Prediction>,
    /// What the request has reserved of what the target may be sent.
    pub(crate) reservation: Option<Box<Reservation>>,
    /// The body that it is to be sent.
    pub(crate) body: Bytes,
}

/// Picks a replica that may be picked. Only those are that others can send requests to as they came: at an IP address,
/// without credentials and translations.
///
/// # Errors
/// There is none, or none takes requests now.
pub(crate) async fn pick(
    forward: Forward<'_>,
    may_be: impl Fn(SocketAddr) -> bool,
) -> Result<Chosen, Failed> {
    let Forward { route, call, .. } = forward;
    let operation = call.operation;
    let destination = |target: &Target, endpoint: &Endpoint| {
        let is_open = target.provider.is_open(operation);
        let destination = endpoint.destination().filter(|_| is_open);
        destination.filter(|destination| may_be(*destination))
    };
    let targets = route.targets.iter();
    let replicas = targets.flat_map(|target| target.endpoints.iter().map(move |one| (target, one)));
    let (shut, open): (Vec<_>, Vec<_>) =
        replicas.partition(|(target, endpoint)| destination(target, endpoint).is_none());
    if open.is_empty() {
        return Err(none_of_these());
    }
    let deadline = call.started + Duration::from_millis(route.timeouts.request_millis);
    let decoded = forward.decoded;
    let request = (decoded, forward.asked);
    let mut candidates = Candidates::new(route, request, &forward.wish, &mut rand::rng());
    candidates.leave_out(shut.into_iter().map(|(_, endpoint)| endpoint));
    let mut full: Option<Full> = None;
    // Each replica is tried once at most, and a target without room left, so that this ends.
    loop {
        let next = candidates.other(Instant::now(), &mut rand::rng());
        let Some(next) = next else {
            break;
        };
        let Some(target) = route.targets.get(next.target) else {
            break;
        };
        let reservation = match reserve(&forward, target).await {
            Ok(reservation) => reservation,
            Err(refused) => {
                candidates.leave_full(&next);
                full = Some(refused);
                continue;
            }
        };
        let endpoint = next.endpoint;
        let Some(destination) = destination(target, &endpoint) else {
            continue;
        };
        if !is_ready(&forward, target, &endpoint, deadline).await {
            continue;
        }
        let model = model_at(&forward, target)?;
        let lease = endpoint.begin(Instant::now());
        if let Some(wanted) = &target.wanted {
            wanted.note_use();
        }
        return Ok(Chosen {
            target: next.target,
            body: renamed(decoded, &model),
            reservation,
            destination,
            lease,
            prediction: next.prediction,
            endpoint,
        });
    }
    Err(nobody(route, full, Instant::now()))
}

/// What a request may need of what the target may be sent; nothing of a target without limits.
async fn reserve(forward: &Forward<'_>, target: &Target) -> Result<Option<Box<Reservation>>, Full> {
    if target.rules.is_empty() {
        return Ok(None);
    }
    Box::pin(room::reserve(forward, target)).await.map(Some)
}

/// Whether a replica has the adapter that the request needs of its target, if it needs one; it is loaded if it can be.
async fn is_ready(
    forward: &Forward<'_>,
    target: &Target,
    endpoint: &Endpoint,
    deadline: Instant,
) -> bool {
    let Some(adapter) = target.adapter(&forward.decoded.fields.model) else {
        return true;
    };
    let (upstream, provider) = (forward.upstream, &target.provider);
    let ready = adapters::ensure(upstream, provider, endpoint, adapter, deadline).await;
    if let Err(reason) = &ready {
        let (route, upstream) = (&forward.route.id, endpoint.url());
        debug!(route, upstream, reason, "a replica cannot use the adapter");
    }
    ready.is_ok()
}

/// The name of the model, or of the adapter, at a target.
fn model_at<'t>(forward: &Forward<'_>, target: &'t Target) -> Result<Cow<'t, str>, Failed> {
    if let Some(adapter) = target.adapter(&forward.decoded.fields.model) {
        return Ok(Cow::Borrowed(&adapter.model));
    }
    let model = target.model_for(&forward.route.models, forward.asked);
    model.map_err(|Unnamable| unnamable(forward.asked))
}

/// What is told when the name that was asked for is none that a target can have.
fn unnamable(asked: &str) -> Failed {
    Failed {
        target: None,
        class: None,
        refusal: Refusal::Fault(Fault::model_not_found(asked)),
    }
}

/// The body with the model's name there; all else stays as it came.
fn renamed(decoded: &Decoded, model: &str) -> Bytes {
    let fields = &decoded.fields;
    let mut edits = Vec::new();
    if fields.model != model {
        edits.push(Edit {
            range: fields.model_range.clone(),
            replacement: json!(model).to_string(),
        });
    }
    splice(&decoded.body, edits)
}

/// What is told when no replica may be picked.
fn none_of_these() -> Failed {
    let message =
        "No replica of this model is ready among those that may be picked. Try again later.";
    Failed {
        target: None,
        class: None,
        refusal: Refusal::Fault(Fault::new(ErrorKind::Unavailable, message)),
    }
}
