//! The account of one call of a tool or an agent: a row in the ledger and an observation in the metrics, however it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use protocol::openai::ErrorKind;

use super::{failure::Failure, message::Object, metrics::CallMetrics};
use crate::{
    attribution::Attribution,
    authorize::Caller,
    call::Operation,
    cost::Cost,
    fault::Fault,
    leases::Fleet,
    ledger::{Entry, Ledger, LedgerError, Outcome},
    limits::{Need, Reached, Refused, Reservation, SHORTAGES_MAX},
    metrics::Metrics,
    table::{Lasting, Route},
};

/// Characters of a tool's name in the ledger.
const NAME_CHARS_MAX: usize = 128;
/// The status that access logs give to clients that went away.
const CLIENT_CLOSED: u16 = 499;

/// Where calls are written down.
#[derive(Debug, Clone)]
pub(crate) struct Books {
    /// The ledger.
    pub(crate) ledger: Arc<Ledger>,
    metrics: Arc<Metrics>,
    series: Arc<CallMetrics>,
    lasting: Arc<Lasting>,
    fleet: Arc<Fleet>,
}

/// What is called, by whom it is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opening<'a> {
    /// The request's id.
    pub(crate) id: &'a str,
    /// The route.
    pub(crate) route: &'a Route,
    /// `NAMESPACE/ROUTE/NAME` of the server or the agent.
    pub(crate) upstream: &'a str,
    /// Its name in the route.
    pub(crate) target: &'a str,
    /// The name that the client has called.
    pub(crate) model: &'a str,
    /// What it is.
    pub(crate) operation: Operation,
    /// What it costs if it is answered.
    pub(crate) price: Cost,
}

/// The account of one call; one that is dropped unfinished is accounted as cancelled.
#[derive(Debug)]
pub(crate) struct CallAccount {
    books: Books,
    upstream: String,
    entry: Entry,
    started: Instant,
    reservation: Reservation,
    price: Cost,
    is_sent: bool,
    is_finished: bool,
}

impl Books {
    /// Books whose series have names that begin so.
    pub(crate) fn new(
        ledger: Arc<Ledger>,
        metrics: Arc<Metrics>,
        (lasting, fleet): (Arc<Lasting>, Arc<Fleet>),
        prefix: &str,
    ) -> Self {
        let series = Arc::new(CallMetrics::default());
        metrics.register_part(|registry| series.register(registry, prefix));
        Self {
            ledger,
            metrics,
            series,
            lasting,
            fleet,
        }
    }

    /// Counts a request that a server or an agent did not answer.
    pub(crate) fn count_failure(&self, upstream: &str, reason: &'static str) {
        self.series.count_failure(upstream, reason);
    }
}

impl CallAccount {
    /// Opens the account of a call.
    ///
    /// # Errors
    /// A limit of the route or of somebody accountable is reached.
    pub(crate) async fn open(
        books: &Books,
        caller: &Caller,
        opening: Opening<'_>,
    ) -> Result<Self, Fault> {
        for _ in 0..SHORTAGES_MAX {
            match Self::try_open(books, caller, opening) {
                Ok(account) => return Ok(account),
                Err(Refused::Reached(reached)) => return Err(reached.fault()),
                Err(Refused::Short(shortage)) => Box::pin(books.fleet.relieve(shortage)).await,
            }
        }
        let message = "Other calls are faster at what is left of a limit. Try again later.";
        Err(Fault::new(ErrorKind::RateLimited, message))
    }

    fn try_open(books: &Books, caller: &Caller, opening: Opening<'_>) -> Result<Self, Refused> {
        let Opening {
            id,
            route,
            upstream,
            target,
            model,
            operation,
            price,
        } = opening;
        let now = Timestamp::now();
        let need = Need {
            tokens: 0,
            cost: price,
        };
        let mut over = |reached: &Reached| books.metrics.count_limit(&route.id, reached);
        let attribution = Attribution::default();
        let asker = attribution.asker(caller, model);
        let mut reservation = Reservation::default();
        reservation.take(&route.rules, &asker, need, now, &mut over)?;
        let request = (&asker, need, now);
        let parties = &books.lasting.parties;
        attribution.reserve(caller, parties, &mut reservation, request, &mut over)?;
        Ok(Self {
            books: books.clone(),
            upstream: upstream.to_owned(),
            entry: Entry {
                id: id.to_owned(),
                key: caller.account().to_owned(),
                route: route.id.clone(),
                model: model.chars().take(NAME_CHARS_MAX).collect(),
                target: target.to_owned(),
                operation,
                started_at: now,
                team: asker.team.to_owned(),
                user: asker.user.to_owned(),
                tags: asker.tags.to_vec(),
                ..Entry::default()
            },
            started: Instant::now(),
            reservation,
            price,
            is_sent: false,
            is_finished: false,
        })
    }

    /// Notes that the call goes out: what is cancelled from now on may have been done.
    pub(crate) const fn note_sent(&mut self) {
        self.is_sent = true;
    }

    /// Writes an open row if the ledger is in trouble: a tool may do things that cannot be taken back.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub(crate) async fn check(&mut self) -> Result<(), LedgerError> {
        if self.books.ledger.is_healthy() {
            return Ok(());
        }
        self.begin().await
    }

    /// Writes an open row before the first bytes of a stream.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub(crate) async fn begin(&mut self) -> Result<(), LedgerError> {
        self.entry.outcome = Outcome::Open;
        self.entry.is_streamed = true;
        self.entry.first_byte_millis = Some(millis(self.started.elapsed()));
        self.books.ledger.write(self.entry.clone()).await
    }

    /// Closes the account; returns when the ledger holds it.
    ///
    /// # Errors
    /// The ledger cannot be written now; it goes on trying.
    pub(crate) async fn finish(
        &mut self,
        outcome: Result<&Result<String, String>, &Failure>,
    ) -> Result<(), LedgerError> {
        let (label, status, ended) = match outcome {
            Ok(Ok(result)) if is_error(result) => ("tool_error", 200, Outcome::Complete),
            Ok(Ok(_)) => ("ok", 200, Outcome::Complete),
            Ok(Err(_)) => ("refused", 200, Outcome::Complete),
            Err(Failure::Cancelled) => ("cancelled", CLIENT_CLOSED, Outcome::Cancelled),
            Err(Failure::Timeout(_)) => ("failed", 504, Outcome::Failed),
            Err(_) => ("failed", 502, Outcome::Failed),
        };
        if !matches!(outcome, Ok(Ok(_)) | Err(Failure::Cancelled)) {
            // Nobody gave anything for it.
            self.price = Cost::default();
        }
        self.close(label, status, ended);
        self.books
            .ledger
            .write(std::mem::take(&mut self.entry))
            .await
    }

    fn close(&mut self, label: &'static str, status: u16, outcome: Outcome) {
        self.is_finished = true;
        let duration = self.started.elapsed();
        self.entry.status = status;
        self.entry.outcome = outcome;
        self.entry.duration_millis = millis(duration);
        if self.is_sent {
            self.entry.cost = self.price;
        }
        let need = Need {
            tokens: 0,
            cost: self.entry.cost,
        };
        self.reservation.settle(need, Timestamp::now());
        let series = &self.books.series;
        series.count_call(&self.upstream, label, duration);
        series.count_cost(&self.upstream, self.entry.cost);
    }
}

impl Drop for CallAccount {
    fn drop(&mut self) {
        if !self.is_finished {
            self.close("cancelled", CLIENT_CLOSED, Outcome::Cancelled);
            self.books
                .ledger
                .write_later(std::mem::take(&mut self.entry));
        }
    }
}

/// Whether a tool says of itself that it failed.
fn is_error(result: &str) -> bool {
    Object::parse(result).is_ok_and(|result| result.get("isError") == Some("true"))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
