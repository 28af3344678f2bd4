//! One line of a batch: asked by the gateway's own way, again while the answer is that it should wait.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use tokio_util::sync::CancellationToken;

use super::input::Line;
use crate::{
    call::{Operation, request_id},
    encode::{self, Body},
    gateway::Gateway,
};

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Tries of a line that fails, but for those that are told to wait.
const TRIES_MAX: u32 = 3;
/// The wait before the second try; it doubles with each.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// How a line went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has an answer, or an error that stays.
    Done(Answer),
    /// The batch ended before.
    Unfinished,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    /// The request's id in the ledger.
    pub(super) request_id: String,
    /// The body.
    pub(super) body: Bytes,
}

/// Asks a line until it is done or the batch stops.
pub(super) async fn ask(
    gateway: Arc<Gateway>,
    key: Arc<str>,
    operation: Operation,
    line: Line,
    stop: CancellationToken,
) -> (Line, Outcome) {
    let (mut wait, mut failures) = (WAIT_MIN, 0);
    loop {
        let request_id = request_id();
        let asked = gateway.call_for(&key, &request_id, operation, line.body.clone());
        let response = match asked.await {
            Ok(response) => response,
            Err(fault) => encode::fault(&fault, operation.surface()),
        };
        let status = response.status();
        let must_wait = matches!(status.as_u16(), 429 | 503);
        failures += u32::from(status.is_server_error() && !must_wait);
        let is_final = !must_wait && (!status.is_server_error() || TRIES_MAX <= failures);
        let pause = retry_after(&response).unwrap_or(wait).min(WAIT_MAX);
        let answer = read(response, request_id).await;
        if is_final {
            return (line, Outcome::Done(answer));
        }
        wait = wait.saturating_mul(2).min(WAIT_MAX);
        tokio::select! {
            () = stop.cancelled() => return (line, Outcome::Unfinished),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

fn retry_after(response: &Response<Body>) -> Option<Duration> {
    let seconds = response.headers().get(header::RETRY_AFTER)?;
    seconds.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn read(response: Response<Body>, request_id: String) -> Answer {
    let (head, body) = response.into_parts();
    match Limited::new(body, ANSWER_BYTES_MAX).collect().await {
        Ok(body) => Answer {
            status: head.status.as_u16(),
            request_id,
            body: body.to_bytes(),
        },
        Err(_) => Answer {
            status: StatusCode::BAD_GATEWAY.as_u16(),
            request_id,
            body: Bytes::from_static(b"null"),
        },
    }
}
