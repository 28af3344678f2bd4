//! Account: one row in the ledger and one observation in the metrics for each request, however it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use protocol::snapshot::Prices;
use tracing::debug;

use crate::{
    authorize::Caller,
    call::Call,
    cost::{cost, of_batches},
    decode::Decoded,
    encode::Tally,
    forward::Timing,
    guard::Sessions,
    ledger::{Entry, Ledger, LedgerError, Outcome},
    limits::{Asker, Need, Reservation},
    metrics::{Metrics, Observation, TargetSeries},
    observe::{Ended, Masks, Phases, Watch},
    prefix::{Answered, Prediction},
    provider::Tokens,
    queue::Turn,
    table::{Route, Target},
};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// The client got a complete answer.
    Complete,
    /// The client got an error of this status, perhaps after a part of the answer.
    Failed(u16),
    /// The client went away.
    Cancelled,
}

/// What is expected of a replica's cache.
#[derive(Debug)]
struct Expectation {
    prediction: Prediction,
    sent: Instant,
    first_token: Option<Duration>,
}

/// The status that access logs give to clients that went away.
const CLIENT_CLOSED: u16 = 499;

/// The account of one request; one that is dropped unfinished is accounted as cancelled.
#[derive(Debug)]
pub(crate) struct Accounting {
    entry: Entry,
    upstream_model: String,
    /// The target's provider; empty until one answers.
    provider: &'static str,
    /// What the first route declares for the model's name, and its place there until another route takes over.
    asked: (Arc<str>, Option<usize>),
    /// What stands for all models of the target, if it has many.
    upstream_models: Option<String>,
    started: Instant,
    ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    reservation: Reservation,
    /// The turn at a route with a queue.
    turn: Option<Turn>,
    /// The tokens that the request was guessed to need.
    guess: Tokens,
    prices: Prices,
    /// Whether it is a line of a batch, which has prices of its own.
    is_batched: bool,
    series: Option<Arc<TargetSeries>>,
    /// What is expected of the replica's cache, when the request was sent to it, and when the first bytes came.
    prediction: Option<Expectation>,
    pieces: u64,
    is_exact: bool,
    is_finished: bool,
    /// What is remembered for those who are told of requests.
    watch: Option<Box<Watch>>,
}

impl Accounting {
    /// Opens an account.
    pub(crate) fn new(
        call: &Call,
        caller: &Caller,
        route: &Route,
        model: &str,
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
    ) -> Self {
        metrics.count_begin();
        let entry = Entry {
            id: call.id.clone(),
            key: caller.account().to_owned(),
            route: route.id.clone(),
            model: model.to_owned(),
            operation: call.operation,
            started_at: call.started_at,
            ..Entry::default()
        };
        let place = route.models.iter().position(|known| known.matches(model));
        let declared = place.and_then(|place| route.declared.get(place));
        Self {
            entry,
            upstream_model: String::new(),
            provider: "",
            asked: (declared.cloned().unwrap_or_else(|| Arc::from("")), place),
            upstream_models: None,
            started: call.started,
            ledger,
            metrics,
            reservation: Reservation::default(),
            turn: None,
            guess: Tokens::default(),
            prices: Prices::default(),
            is_batched: call.is_batched,
            series: None,
            prediction: None,
            pieces: 0,
            is_exact: false,
            is_finished: false,
            watch: None,
        }
    }

    /// Remembers the request for those who are told of it.
    pub(crate) fn watch(&mut self, watch: Option<Box<Watch>>) {
        self.watch = watch;
    }

    /// Notes when the request was sent, to whom, and how long upstreams were waited for.
    pub(crate) fn note_timing(&mut self, timing: Timing) {
        if let Some(watch) = &mut self.watch {
            let sent = timing.sent.saturating_duration_since(self.started);
            watch.sent = Some((sent, timing.waited));
            watch.endpoint = Some(timing.endpoint);
        }
    }

    /// Looks at what passes for why it ends.
    pub(crate) fn look(&mut self, bytes: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.see(bytes);
        }
    }

    /// Notes a request that guards have let through, for those who are told of it.
    pub(crate) fn note_request(&mut self, decoded: &Decoded, guards: &Sessions) {
        if let Some(watch) = &mut self.watch {
            watch.note_request(decoded, || Masks::new(guards.masked()));
        }
    }

    /// Notes a whole answer that the client gets, for those who are told of it.
    pub(crate) fn note_answer(&mut self, body: &Bytes) {
        if let Some(watch) = &mut self.watch {
            watch.note_answer(body);
        }
    }

    /// Notes events that the client gets, for those who are told of them.
    pub(crate) fn note_events(&mut self, events: &[u8]) {
        if let Some(watch) = &mut self.watch {
            watch.note_events(events);
        }
    }

    /// Notes whom the request is counted for, and whom the client says that it asks for.
    pub(crate) fn attribute(&mut self, asker: &Asker<'_>, end_user: Option<&str>) {
        asker.team.clone_into(&mut self.entry.team);
        asker.user.clone_into(&mut self.entry.user);
        asker.tags.clone_into(&mut self.entry.tags);
        end_user
            .unwrap_or_default()
            .clone_into(&mut self.entry.end_user);
    }

    /// Holds what the request has reserved for a guess of its tokens.
    pub(crate) fn hold(&mut self, reservation: Reservation, guess: Tokens) {
        self.reservation = reservation;
        self.guess = guess;
    }

    /// Holds what the request has reserved at the target that answers.
    pub(crate) fn hold_besides(&mut self, reservation: Option<Box<Reservation>>) {
        if let Some(reservation) = reservation {
            self.reservation.add(*reservation);
        }
    }

    /// Gives back what the request has reserved.
    pub(crate) fn release(&mut self) {
        self.reservation = Reservation::default();
        self.turn = None;
    }

    /// Holds the request's turn at its route until the answer is complete.
    pub(crate) fn hold_turn(&mut self, turn: Option<Turn>) {
        self.turn = turn;
    }

    /// Moves the account to another route, which answers in the place of the first one.
    pub(crate) fn reroute(&mut self, route: &Route, reservation: Reservation) {
        self.entry.route.clone_from(&route.id);
        self.asked.1 = None;
        self.reservation.move_to(reservation);
    }

    /// The headers that tell what is left of limits.
    pub(crate) fn limit_headers(&self) -> &HeaderMap {
        self.reservation.headers()
    }

    /// Notes which target of a route answers a request for a model's name.
    pub(crate) fn answered_by(&mut self, route: &Route, target: &Target, asked: &str) {
        self.entry.target.clone_from(&target.name);
        let model = target.model_for(&route.models, asked);
        // A name that makes none is in no metric.
        let model = model.as_deref().unwrap_or(target.models());
        model.clone_into(&mut self.upstream_model);
        let has_many = target.naming.is_some();
        self.upstream_models = has_many.then(|| target.models().to_owned());
        self.provider = target.provider.name();
        self.prices = match self.is_batched {
            true => of_batches(&target.prices),
            false => target.prices,
        };
        self.series = (!has_many).then(|| Arc::clone(&target.series));
    }

    /// Notes that the answer is one that was given before; it costs nothing and takes nothing of limits on tokens.
    pub(crate) fn note_kept(&mut self, tokens: Option<Tokens>) {
        self.entry.is_kept = true;
        self.count(tokens);
    }

    /// Notes what is expected of the cache of the replica that the request was sent to.
    pub(crate) fn expect(&mut self, prediction: Prediction, sent: Instant) {
        self.metrics
            .observe_prediction(&self.entry.route, &prediction);
        self.prediction = Some(Expectation {
            prediction,
            sent,
            first_token: None,
        });
    }

    /// Writes an open row, so that a request that is cut off by a crash is known.
    ///
    /// # Errors
    /// The ledger cannot be written; nothing may be sent to the client then.
    pub(crate) async fn begin(&mut self) -> Result<(), LedgerError> {
        self.entry.outcome = Outcome::Open;
        self.ledger.write(self.entry.clone()).await
    }

    /// Notes that the answer is a stream, whose first bytes are here.
    pub(crate) fn note_stream(&mut self) {
        self.entry.is_streamed = true;
        self.entry.first_byte_millis = Some(millis_since(self.started));
        if let Some(expected) = &mut self.prediction {
            expected.prediction.note_first_token();
            expected.first_token = Some(expected.sent.elapsed());
        }
    }

    /// Notes what a complete answer used.
    pub(crate) fn count(&mut self, tokens: Option<Tokens>) {
        if let Some(tokens) = tokens {
            self.entry.tokens = tokens;
            self.is_exact = true;
        }
    }

    /// Notes what was seen of a stream so far.
    pub(crate) fn see(&mut self, tally: Tally) {
        self.pieces = tally.pieces;
        self.count(tally.tokens);
    }

    /// Closes the account; returns when the ledger holds it.
    ///
    /// # Errors
    /// The ledger cannot be written now; it goes on trying.
    pub(crate) async fn finish(&mut self, ending: Ending) -> Result<(), LedgerError> {
        self.close(ending);
        self.ledger.write(std::mem::take(&mut self.entry)).await
    }

    fn close(&mut self, ending: Ending) {
        self.is_finished = true;
        let (status, outcome) = match ending {
            Ending::Complete => (200, Outcome::Complete),
            Ending::Failed(status) => (status, Outcome::Failed),
            Ending::Cancelled => (CLIENT_CLOSED, Outcome::Cancelled),
        };
        self.entry.status = status;
        self.entry.outcome = outcome;
        self.entry.duration_millis = millis_since(self.started);
        if !self.is_exact {
            self.entry.tokens.completion = self.pieces;
            self.entry.is_estimated = 0 < self.pieces;
            if self.entry.is_estimated {
                self.entry.tokens.prompt = self.guess.prompt;
            }
        }
        let tokens = self.entry.tokens;
        if let Some(expected) = self.prediction.take()
            && (self.is_exact || 0 < self.pieces)
        {
            // Anything else ended before the replica has read the prompt.
            let prompt = self.is_exact.then_some(tokens.prompt);
            expected.prediction.finish(Answered {
                prompt_tokens: prompt,
                cached_tokens: tokens.cached,
                first_token: expected.first_token,
                sent: Some(expected.sent),
            });
        }
        let used = if self.entry.is_kept {
            Tokens::default()
        } else {
            tokens
        };
        self.entry.cost = cost(&self.prices, used);
        let need = Need {
            tokens: used.total(),
            cost: self.entry.cost,
        };
        self.reservation.settle(need, Timestamp::now());
        let model = match &self.upstream_models {
            None => &self.upstream_model,
            Some(all) => {
                let names = &self.metrics.names;
                names.label(&self.upstream_model, all, status < 400)
            }
        };
        self.metrics.observe(&Observation {
            route: &self.entry.route,
            asked: &self.asked.0,
            place: self.asked.1,
            model,
            provider: self.provider,
            series: self.series.as_deref(),
            operation: self.entry.operation,
            status,
            tokens: used,
            cost: self.entry.cost,
            duration: self.started.elapsed(),
            first_byte_millis: self.entry.first_byte_millis,
        });
        self.tell(model);
        let Entry {
            id, route, target, ..
        } = &self.entry;
        let millis = self.entry.duration_millis;
        debug!(
            request_id = id,
            route, target, status, tokens.prompt, tokens.completion, millis, "request ended"
        );
    }
}

impl Accounting {
    /// Tells of the request, whose row is complete, with the label of its model.
    fn tell(&self, model_label: &str) {
        let Some(watch) = &self.watch else { return };
        watch.tell(&Ended {
            entry: &self.entry,
            upstream_model: &self.upstream_model,
            provider: self.provider,
            model_label,
            phases: Phases {
                queue: watch.sent.map(|(sent, _)| sent),
                first_byte: self.entry.first_byte_millis.map(Duration::from_millis),
                total: self.started.elapsed(),
                waited: watch.sent.map(|(_, waited)| waited),
            },
            watch,
        });
    }
}

impl Drop for Accounting {
    fn drop(&mut self) {
        if !self.is_finished {
            self.close(Ending::Cancelled);
            self.ledger.write_later(std::mem::take(&mut self.entry));
        }
    }
}

fn millis_since(started: Instant) -> u64 {
    u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX)
}
