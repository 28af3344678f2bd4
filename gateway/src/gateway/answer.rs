//! What the client gets at the end: an answer, an answer that was given before, or the reason why there is none.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::AGE};
use protocol::openai::ErrorKind;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, error};

use super::passage::Admitted;
use crate::{
    account::{Accounting, Ending},
    cache::{Form, Kept, Lead, Recorder},
    call::Call,
    decode::Decoded,
    encode::{self, Body, JSON, Raw, Streaming},
    fault::Fault,
    forward::{Answer, Answered, Failed, Refusal},
    ledger::LedgerError,
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
}

/// Gives an answer again, once the ledger knows of it.
pub(super) async fn answer_again(
    route: &Route,
    decoded: &Decoded,
    kept: &Kept,
    mut accounting: Accounting,
) -> Result<Response<Body>, Fault> {
    let mut targets = route.targets.iter();
    if let Some(target) = targets.find(|target| target.name == kept.target) {
        accounting.answered_by(target);
    }
    accounting.note_kept(kept.tokens);
    if kept.form == Form::Stream {
        accounting.note_stream();
    }
    let limits = accounting.limit_headers().clone();
    accounting
        .finish(Ending::Complete)
        .await
        .map_err(|error| unaccounted(&error))?;
    let mut response = match kept.form {
        Form::Whole => encode::whole(StatusCode::OK, JSON, kept.body.clone()),
        Form::Stream => {
            let options = decoded.fields.stream_options.as_ref();
            let shows_usage = options.is_some_and(|options| options.include_usage);
            encode::replay(decoded.operation, shows_usage, &kept.body)
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
    } = held;
    let Admitted {
        call,
        decoded,
        invitation,
        permit,
        ..
    } = admitted;
    let target = &route.targets[answered.target];
    let recorder = lead.map(|lead| Recorder::new(lead, &target.name, call.operation));
    accounting.answered_by(target);
    if let Some((prediction, sent)) = answered.prediction {
        accounting.expect(prediction, sent);
    }
    let limits = accounting.limit_headers().clone();
    if !matches!(answered.answer, Answer::Whole { .. }) {
        begin_stream(&mut accounting).await?;
    }
    let carried = Carried {
        accounting,
        recorder,
        invitation,
        permit,
    };
    let mut response = respond(&call, &decoded, route, answered.answer, carried).await?;
    response.headers_mut().extend(limits);
    let shown = target.shown.clone();
    response.headers_mut().insert(encode::TARGET, shown);
    Ok(response)
}

/// What an answer carries to its end.
struct Carried {
    accounting: Accounting,
    recorder: Option<Recorder>,
    invitation: Option<Invitation>,
    permit: OwnedSemaphorePermit,
}

/// The answer for the client.
async fn respond(
    call: &Call,
    decoded: &Decoded,
    route: &Route,
    answer: Answer,
    carried: Carried,
) -> Result<Response<Body>, Fault> {
    let Carried {
        accounting,
        recorder,
        invitation,
        permit,
    } = carried;
    let (idle, deadline) = (
        Duration::from_millis(route.timeouts.stream_idle_millis),
        call.started + Duration::from_millis(route.timeouts.request_millis),
    );
    Ok(match answer {
        Answer::Whole {
            status,
            content_type,
            body,
            tokens,
        } => {
            finish_whole(accounting, recorder, status, (&body, tokens)).await?;
            encode::whole(status, content_type, body)
        }
        Answer::Stream(begun) => {
            let options = decoded.fields.stream_options.as_ref();
            encode::stream(Streaming {
                begun,
                accounting,
                recorder,
                operation: call.operation,
                shows_usage: options.is_some_and(|options| options.include_usage),
                idle,
                deadline,
                _permit: permit,
            })
        }
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

/// Accounts for a complete answer, and keeps it for equal requests.
async fn finish_whole(
    mut accounting: Accounting,
    recorder: Option<Recorder>,
    status: StatusCode,
    (body, tokens): (&Bytes, Option<Tokens>),
) -> Result<(), Fault> {
    let tokens = tokens.or_else(|| provider::openai::decode_response(body));
    accounting.count(tokens);
    accounting
        .finish(Ending::Complete)
        .await
        .map_err(|error| unaccounted(&error))?;
    if let Some(recorder) = recorder {
        recorder.keep_whole(status, body, tokens);
    }
    Ok(())
}

/// Tells why there is no answer, once the ledger knows of it.
pub(super) async fn fail(
    call: &Call,
    left: &[Arc<Route>],
    failed: Failed,
    mut accounting: Accounting,
) -> Result<Response<Body>, Fault> {
    let target = failed.target.zip(left.last());
    if let Some(target) = target.and_then(|(target, route)| route.targets.get(target)) {
        accounting.answered_by(target);
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
        refusal @ Refusal::Upstream(_) => Ok(encode::refusal(refusal, call.operation.surface())),
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
