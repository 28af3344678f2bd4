//! The account of one call of a tool: a row in the ledger and an observation in the metrics, however it ends.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{Context, Hub, directory::Seat, failure::Failure, message::Object};
use crate::{
    attribution::Attribution,
    call::Operation,
    ledger::{Entry, LedgerError, Outcome},
    limits::{Need, Reached, Reservation},
};

/// Characters of a tool's name in the ledger.
const NAME_CHARS_MAX: usize = 128;
/// The status that access logs give to clients that went away.
const CLIENT_CLOSED: u16 = 499;

/// The account of one call; one that is dropped unfinished is accounted as cancelled.
#[derive(Debug)]
pub(super) struct CallAccount {
    hub: Arc<Hub>,
    seat: Seat,
    entry: Entry,
    started: Instant,
    reservation: Reservation,
    is_finished: bool,
}

impl CallAccount {
    /// Opens the account of a call, by the tool's name as the client knows it.
    ///
    /// # Errors
    /// A limit of the route is reached.
    pub(super) fn open(
        context: &Context,
        id: &str,
        seat: &Seat,
        tool: &str,
    ) -> Result<Self, Reached> {
        let now = Timestamp::now();
        let hub = &context.hub;
        let need = Need::default();
        let mut over = |reached: &Reached| hub.metrics.count_limit(&seat.route.id, reached);
        let attribution = Attribution::default();
        let asker = attribution.asker(&context.caller, tool);
        let mut reservation = Reservation::default();
        reservation.take(&seat.route.rules, &asker, need, now, &mut over)?;
        let request = (&asker, need, now);
        let parties = &hub.lasting.parties;
        attribution.reserve(
            &context.caller,
            parties,
            &mut reservation,
            request,
            &mut over,
        )?;
        Ok(Self {
            hub: Arc::clone(hub),
            seat: seat.clone(),
            entry: Entry {
                id: id.to_owned(),
                key: context.caller.account().to_owned(),
                route: seat.route.id.clone(),
                model: tool.chars().take(NAME_CHARS_MAX).collect(),
                target: seat.server.name.clone(),
                operation: Operation::ToolCall,
                started_at: now,
                team: asker.team.to_owned(),
                user: asker.user.to_owned(),
                tags: asker.tags.to_vec(),
                ..Entry::default()
            },
            started: Instant::now(),
            reservation,
            is_finished: false,
        })
    }

    /// Writes an open row if the ledger is in trouble: a tool may do things that cannot be taken back.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub(super) async fn check(&mut self) -> Result<(), LedgerError> {
        if self.hub.ledger.is_healthy() {
            return Ok(());
        }
        self.begin().await
    }

    /// Writes an open row before the first bytes of a stream.
    ///
    /// # Errors
    /// The ledger cannot be written.
    pub(super) async fn begin(&mut self) -> Result<(), LedgerError> {
        self.entry.outcome = Outcome::Open;
        self.entry.is_streamed = true;
        self.entry.first_byte_millis = Some(millis(self.started.elapsed()));
        self.hub.ledger.write(self.entry.clone()).await
    }

    /// Closes the account; returns when the ledger holds it.
    ///
    /// # Errors
    /// The ledger cannot be written now; it goes on trying.
    pub(super) async fn finish(
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
        self.close(label, status, ended);
        self.hub.ledger.write(std::mem::take(&mut self.entry)).await
    }

    fn close(&mut self, label: &'static str, status: u16, outcome: Outcome) {
        self.is_finished = true;
        let duration = self.started.elapsed();
        self.entry.status = status;
        self.entry.outcome = outcome;
        self.entry.duration_millis = millis(duration);
        self.reservation.settle(Need::default(), Timestamp::now());
        let series = &self.hub.series;
        series.count_call(&self.seat.server, label, duration);
    }
}

impl Drop for CallAccount {
    fn drop(&mut self) {
        if !self.is_finished {
            self.close("cancelled", CLIENT_CLOSED, Outcome::Cancelled);
            self.hub.ledger.write_later(std::mem::take(&mut self.entry));
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
