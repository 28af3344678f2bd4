//! What the client gets at the end: an answer, an answer that was given before, or the reason why there is none.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::AGE};
use protocol::openai::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, error};

use super::passage::Admitted;
use crate::{
    account::{Accounting, Ending},
    cache::{Form, Kept, Lead, Recorder},
    call::Operation,
    decode::Decoded,
    encode::{self, Body, JSON, Raw, Streaming},
    fault::Fault,
    forward::{Answer, Answered, Failed, Refusal},
    guard::Sessions,
    ledger::LedgerError,
    observe::millis,
    provider::{self, Tokens},
    realtime::{self, Invitation, Talk},
    table::Route,
};

/// What a request holds until its answer is complete.
pub(super) struct Held {
    /// Its account.
    pub(super) accounting: Accounting,
    /// The duty to keep the answer for equal requests.
    pub(super) lead: Option<Lead>,
    /// What looks at the answer.
    pub(super) guards: Sessions,
}

impl Held {
    /// Notes a request that guards have let through, for those who are told of it; of a form nothing is told.
    pub(super) fn note_request(&mut self, admitted: &Admitted) {
        if admitted.upload.is_none() {
            self.accounting
                .note_request(&admitted.decoded, &self.guards);
        }
    }
}

/// Gives an answer again, once the ledger knows of it.
pub(super) async fn answer_again(
    route: &Route,
    decoded: &Decoded,
    kept: &Kept,
    held: Held,
) -> Result<Response<Body>, Fault> {
    let Held {
        mut accounting,
        guards,
        ..
    } = held;
    let mut targets = route.targets.iter();
    if let Some(target) = targets.find(|target| target.name == kept.target) {
        // A route answers to the request's own name before it answers to another.
        accounting.answered_by(route, target, &decoded.fields.model);
    }
    accounting.note_kept(kept.tokens);
    if kept.form == Form::Stream {
        accounting.note_stream();
    }
    let guarded = match kept.form {
        Form::Whole => {
            let body = kept.body.clone();
            guards.answer(decoded.operation, body).await
        }
        Form::Stream => guards.events(decoded.operation, &kept.body).await,
    };
    let body = match guarded {
        Ok(body) => body,
        Err(fault) => return refuse(fault, accounting).await,
    };
    match kept.form {
        Form::Whole => accounting.note_answer(&body),
        Form::Stream => accounting.note_events(&body),
    }
    let limits = accounting.limit_headers().clone();
    accounting
        .finish(Ending::Complete)
        .await
        .map_err(|error| unaccounted(&error))?;
    let mut response = match kept.form {
        Form::Whole => encode::whole(StatusCode::OK, JSON, body),
        Form::Stream => {
            let options = decoded.fields.stream_options.as_ref();
            let shows_usage = options.is_some_and(|options| options.include_usage);
            encode::replay(decoded.operation, shows_usage, &body)
        }
    };
    response.headers_mut().extend(limits);
    let age = kept.kept_at.elapsed().as_secs();
    response.headers_mut().insert(AGE, HeaderValue::from(age));
    Ok(response)
}

/// Passes an answer on, once the ledger knows of it.
pub(super) async fn answer(
    admitted: Admitted,
    route: &Route,
    answered: Answered,
    held: Held,
) -> Result<Response<Body>, Fault> {
    let Held {
        mut accounting,
        lead,
        guards,
    } = held;
    let target = &route.targets[answered.target];
    accounting.answered_by(route, target, admitted.asked());
    let Admitted {
        call,
        decoded,
        invitation,
        permit,
        ..
    } = admitted;
    let recorder = lead.map(|lead| Recorder::new(lead, &target.name, call.operation));
    accounting.hold_besides(answered.reservation);
    if let Some((prediction, sent)) = answered.prediction {
        accounting.expect(prediction, sent);
    }
    let overhead = call
        .started
        .elapsed()
        .saturating_sub(answered.timing.waited);
    accounting.note_timing(answered.timing);
    let limits = accounting.limit_headers().clone();
    if !matches!(answered.answer, Answer::Whole { .. }) {
        begin_stream(&mut accounting).await?;
    }
    let options = decoded.fields.stream_options.as_ref();
    let ready = Ready {
        accounting,
        recorder,
        invitation,
        guards,
        operation: call.operation,
        shows_usage: options.is_some_and(|options| options.include_usage),
        idle: Duration::from_millis(route.timeouts.stream_idle_millis),
        deadline: call.started + Duration::from_millis(route.timeouts.request_millis),
        permit,
    };
    let mut response = send(answered.answer, ready).await?;
    response.headers_mut().extend(limits);
    if let Ok(overhead) = HeaderValue::from_str(&millis(overhead).to_string()) {
        response.headers_mut().insert(encode::OVERHEAD, overhead);
    }
    let shown = target.shown.clone();
    response.headers_mut().insert(encode::TARGET, shown);
    Ok(response)
}

/// What an answer is passed on with.
struct Ready {
    accounting: Accounting,
    recorder: Option<Recorder>,
    invitation: Option<Invitation>,
    guards: Sessions,
    operation: Operation,
    shows_usage: bool,
    idle: Duration,
    deadline: Instant,
    permit: OwnedSemaphorePermit,
}

/// Passes on a whole answer, or a stream as it comes.
async fn send(answer: Answer, ready: Ready) -> Result<Response<Body>, Fault> {
    let Ready {
        accounting,
        recorder,
        invitation,
        guards,
        operation,
        shows_usage,
        idle,
        deadline,
        permit,
    } = ready;
    Ok(match answer {
        Answer::Whole {
            status,
            content_type,
            body,
            tokens,
        } => {
            let tokens = tokens.or_else(|| provider::openai::decode_response(&body));
            let whole = Whole {
                status,
                body,
                tokens,
                operation,
                guards,
            };
            let body = finish_whole(accounting, recorder, whole).await?;
            encode::whole(status, content_type, body)
        }
        Answer::Stream(begun) => encode::stream(Streaming {
            begun,
            accounting,
            recorder,
            guards: guards.into_streams(operation),
            operation,
            shows_usage,
            idle,
            deadline,
            _permit: permit,
        }),
        Answer::Raw {
            content_type,
            first,
            rest,
            lease,
        } => encode::raw(Raw {
            content_type,
            first,
            rest,
            lease,
            accounting,
            idle,
            deadline,
            _permit: permit,
        }),
        Answer::Talk { upstream, lease } => realtime::accept(Talk {
            invitation: invitation.ok_or_else(unasked)?,
            upstream,
            lease,
            accounting,
            permit,
        }),
    })
}

/// A conversation that nobody has asked for is none.
fn unasked() -> Fault {
    Fault::new(ErrorKind::Internal, "Nobody has asked for a conversation.")
}

/// Notes in the ledger that an answer has begun, before the client gets anything of it.
async fn begin_stream(accounting: &mut Accounting) -> Result<(), Fault> {
    accounting.note_stream();
    accounting
        .begin()
        .await
        .map_err(|error| unaccounted(&error))
}

/// A complete answer.
struct Whole {
    status: StatusCode,
    body: Bytes,
    tokens: Option<Tokens>,
    operation: Operation,
    guards: Sessions,
}

/// Accounts for a complete answer, and keeps it for equal requests; what the client gets of it.
async fn finish_whole(
    mut accounting: Accounting,
    recorder: Option<Recorder>,
    whole: Whole,
) -> Result<Bytes, Fault> {
    let Whole {
        status,
        body,
        tokens,
        operation,
        guards,
    } = whole;
    accounting.count(tokens);
    accounting.look(&body);
    // Guards look again each time an answer is given: what is kept is what the upstream said.
    let guarded = guards.answer(operation, body.clone()).await;
    let ending = match &guarded {
        Ok(shown) => {
            accounting.note_answer(shown);
            accounting.finish(Ending::Complete).await
        }
        Err(fault) => {
            let ending = Ending::Failed(fault.kind.status());
            accounting.finish(ending).await
        }
    };
    ending.map_err(|error| unaccounted(&error))?;
    if let Some(recorder) = recorder {
        recorder.keep_whole(status, &body, tokens);
    }
    guarded
}

/// Refuses a request, or withholds its answer, once the ledger knows of it.
pub(super) async fn refuse(
    fault: Fault,
    mut accounting: Accounting,
) -> Result<Response<Body>, Fault> {
    if let Err(error) = accounting.finish(Ending::Failed(fault.kind.status())).await {
        // Nothing was given away: the client is told of the refusal, not of the ledger's.
        error!(%error, "a refused request is not in the ledger");
    }
    Err(fault)
}

/// Tells why there is no answer, once the ledger knows of it.
pub(super) async fn fail(
    admitted: &Admitted,
    left: &[Arc<Route>],
    failed: Failed,
    mut accounting: Accounting,
) -> Result<Response<Body>, Fault> {
    let target = failed.target.zip(left.last());
    if let Some((target, route)) = target
        && let Some(target) = route.targets.get(target)
    {
        accounting.answered_by(route, target, admitted.asked());
    }
    let status = match &failed.refusal {
        Refusal::Fault(fault) => fault.kind.status(),
        Refusal::Upstream(error) => error.status.as_u16(),
    };
    if let Err(error) = accounting.finish(Ending::Failed(status)).await {
        // Nothing was given away: the client is told of the failure, not of the ledger's.
        error!(%error, "a failed request is not in the ledger");
    }
    match failed.refusal {
        Refusal::Fault(fault) => Err(fault),
        refusal @ Refusal::Upstream(_) => {
            Ok(encode::refusal(refusal, admitted.call.operation.surface()))
        }
    }
}

/// The ledger's rule: no answer that is not accounted for.
pub(super) fn unaccounted(error: &LedgerError) -> Fault {
    // The ledger's writer has told people, once; this would come with every request.
    debug!(%error, "an answer is refused, since it cannot be accounted for");
    Fault::new(
        ErrorKind::Unavailable,
        "The request cannot be accounted for now. Try again later.",
    )
}
