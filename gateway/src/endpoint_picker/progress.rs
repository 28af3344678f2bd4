//! A request at the replica that was picked for it: in progress until its answer ends, and what the answer teaches.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header};
use jiff::Timestamp;
use protocol::sse;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, warn};

use crate::{
    account::{Accounting, Ending},
    call::Operation,
    encode::{Events, Tally},
    endpoint::{Aside, Lease},
    forward::retry_after,
    metrics::Metrics,
    provider::openai,
    table::Route,
};

/// Bytes of a whole answer that are read for its usage; a longer one is counted by a guess.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// What the ledger says of a stream that ended before it was complete.
const BROKEN: u16 = 502;

/// Where a request goes.
#[derive(Debug)]
pub(crate) struct Picked {
    /// The endpoint.
    pub(crate) destination: SocketAddr,
    /// The body as it is to be sent.
    pub(crate) body: Bytes,
    /// What the request holds there.
    pub(crate) progress: Progress,
}

/// What a request holds from the pick to the end of its answer. One that is dropped before has no answer.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Its account.
    pub(crate) accounting: Accounting,
    /// The route.
    pub(crate) route: Arc<Route>,
    /// The target's place in it.
    pub(crate) target: usize,
    /// The place at the endpoint.
    pub(crate) lease: Lease,
    /// What is asked for.
    pub(crate) operation: Operation,
    /// When the pick was made.
    pub(crate) sent: Instant,
    /// Where to count.
    pub(crate) metrics: Arc<Metrics>,
    /// Its place in the gateway.
    pub(crate) _permit: OwnedSemaphorePermit,
    /// What was seen of the answer.
    pub(crate) answer: Answer,
}

/// What was seen of an answer.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    status: Option<u16>,
    reader: Reader,
    is_finished: bool,
}

/// What an answer is read as.
#[derive(Debug, Default)]
enum Reader {
    /// Nothing: it says nothing of its use, or not in words that are read.
    #[default]
    None,
    /// Events.
    Events(Box<Events>),
    /// A whole, as far as it is there.
    Whole(BytesMut),
}

impl Progress {
    /// Notes the head of the answer; `is_ours` if the endpoint that was picked has given it.
    pub(super) fn begin(&mut self, status: u16, headers: &HeaderMap, is_ours: bool) {
        self.answer.status = Some(status);
        if is_ours {
            self.judge(status, headers);
        }
        if !(200..300).contains(&status) || headers.contains_key(header::CONTENT_ENCODING) {
            return;
        }
        let content_type = headers.get(header::CONTENT_TYPE);
        let content_type = content_type.map_or(&b""[..], |value| value.as_bytes());
        self.answer.reader = if content_type.starts_with(sse::CONTENT_TYPE.as_bytes()) {
            Reader::Events(Box::new(Events::new(self.operation, true)))
        } else {
            Reader::Whole(BytesMut::new())
        };
    }

    /// Takes a piece of the answer.
    pub(super) fn see(&mut self, piece: &Bytes) {
        if piece.is_empty() {
            return;
        }
        self.accounting.look(piece);
        let is_readable = match &mut self.answer.reader {
            Reader::None => return,
            Reader::Events(events) => {
                if events.tally() == Tally::default() {
                    self.accounting.note_stream();
                }
                let is_readable = events.push(piece.clone()).is_ok();
                self.accounting.see(events.tally());
                is_readable
            }
            Reader::Whole(body) => {
                body.extend_from_slice(piece);
                body.len() <= WHOLE_BYTES_MAX
            }
        };
        if !is_readable {
            self.answer.reader = Reader::None;
        }
    }

    /// Ends the request, whose answer is complete as far as it was shown.
    pub(super) async fn finish(&mut self) {
        let ending = self.ending();
        self.answer.is_finished = true;
        if let Err(error) = self.accounting.finish(ending).await {
            // The row was there before the pick was told; the ledger goes on trying to complete it.
            error!(%error, "the end of a request is not in the ledger yet");
        }
    }

    /// How it ends; counts what it used.
    fn ending(&mut self) -> Ending {
        if let Some(status) = self.answer.status.filter(|status| 400 <= *status) {
            return Ending::Failed(status);
        }
        match &self.answer.reader {
            Reader::Events(events) => {
                let tally = events.tally();
                if !tally.is_done && !tally.may_end && !tally.is_error {
                    self.blame();
                    return Ending::Failed(BROKEN);
                }
            }
            Reader::Whole(body) => match openai::decode_response(body) {
                Some(tokens) => self.accounting.count(Some(tokens)),
                None => self.guess(),
            },
            Reader::None => self.guess(),
        }
        Ending::Complete
    }

    /// An answer that was not shown, or says nothing of its use, has at least read its prompt.
    fn guess(&mut self) {
        self.accounting.see(Tally {
            pieces: 1,
            ..Tally::default()
        });
    }

    /// Learns from a status what it says of the endpoint.
    fn judge(&self, status: u16, headers: &HeaderMap) {
        if 500 <= status {
            self.blame();
            return;
        }
        let (endpoint, now) = (self.lease.endpoint(), Instant::now());
        endpoint.note_success(now);
        let target = self.route.targets.get(self.target);
        // Of a target that has many models it says that of one of them.
        let is_of_all = target.is_some_and(|target| target.naming.is_none());
        let wait = (status == 429 && is_of_all).then(|| retry_after(headers, Timestamp::now()));
        if let Some(wait) = wait.flatten() {
            let route = &self.route.id;
            endpoint.set_aside(now + wait, Aside::RateLimit);
            self.metrics.routing.count_aside(route, Aside::RateLimit);
        }
        if status < 400 && self.route.strategy.is_measured() {
            endpoint.pace.note(self.sent.elapsed(), now);
        }
    }

    /// Notes a failure of the endpoint.
    fn blame(&self) {
        let endpoint = self.lease.endpoint();
        let (route, upstream) = (&self.route.id, endpoint.url());
        warn!(
            route,
            upstream, "an upstream failed another gateway's request"
        );
        if endpoint.note_failure(Instant::now()) {
            let target = self.route.targets.get(self.target);
            if let Some(caches) = target.and_then(|target| target.caches.as_ref()) {
                caches.forget(endpoint);
            }
            self.metrics.count_ejection(route);
            warn!(route, upstream, "an upstream is left out for a while");
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.answer.is_finished {
            return;
        }
        if let Reader::Events(events) = &self.answer.reader {
            self.accounting.see(events.tally());
        }
    }
}
