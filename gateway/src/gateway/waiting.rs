//! Waiting: for a turn in a route's queue, and for the first replica of a model that has none.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use protocol::{
    openai::ErrorKind,
    routing::{FailureClass, Fairness},
};
use tokio::time::timeout_at;

use super::{Gateway, passage::Admitted};
use crate::{
    fault::Fault,
    forward::{Failed, Refusal},
    metrics::{Wait, WaitingPlace},
    queue::{Asking, Entry, Priority, Turn},
    table::Route,
};

/// Bytes of all requests that wait.
const BYTES_MAX: usize = 256 << 20;
/// What clients are told to wait that came too early for a model without replicas.
const COLD_RETRY: Duration = Duration::from_secs(10);

/// The room for those who wait.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: AtomicUsize,
    /// Those who wait for a replica.
    cold: AtomicUsize,
}

/// A place in the room; free again when dropped.
#[derive(Debug)]
struct Place<'a> {
    room: &'a Room,
    bytes: usize,
    wait: Wait,
    _counted: WaitingPlace,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.room.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if self.wait == Wait::Replica {
            self.room.cold.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Gateway {
    /// Waits until a route has a replica and the request has its turn; the route may be a newer one afterwards.
    pub(super) async fn wait(
        &self,
        admitted: &mut Admitted,
        route: &mut Arc<Route>,
    ) -> Result<Option<Turn>, Failed> {
        if let Some(limit) = route.cold_start
            && !route.has_replica()
            && route
                .fallbacks
                .models(FailureClass::ColdStart)
                .next()
                .is_none()
        {
            self.wait_for_replica(admitted, route, limit).await?;
        }
        self.wait_for_turn(admitted, route).await
    }

    async fn wait_for_turn(
        &self,
        admitted: &Admitted,
        route: &Route,
    ) -> Result<Option<Turn>, Failed> {
        let (Some(queue), Some(settings)) = (&route.queue, &route.turns) else {
            return Ok(None);
        };
        let said = settings.priority_header.as_ref();
        let said = said.and_then(|name| admitted.headers.get(name)?.to_str().ok());
        let asking = Asking {
            tenant: match settings.fairness {
                Fairness::Key => admitted.caller.account(),
                Fairness::Team => admitted.caller.team().unwrap_or_default(),
                Fairness::None => "",
            },
            priority: said.and_then(Priority::parse).unwrap_or_default(),
            cost: admitted.decoded.guess().total(),
        };
        let now = Instant::now();
        let mut waiting = match queue.enter(asking, now) {
            Entry::Turn(turn) => return Ok(Some(turn)),
            Entry::Wait(waiting) => waiting,
            Entry::Refused { retry_after } => {
                self.metrics
                    .routing
                    .count_wait_refused(&route.id, Wait::Turn);
                let message = "Too many requests wait for this model.";
                return Err(refused(ErrorKind::RateLimited, message, retry_after));
            }
        };
        let _place = self.place(admitted, route, Wait::Turn)?;
        let limit = waiting.limit();
        let until = (now + limit).min(admitted.deadline(route));
        match timeout_at(until.into(), waiting.turn()).await {
            Ok(Some(turn)) => Ok(Some(turn)),
            Ok(None) | Err(_) => {
                self.metrics
                    .routing
                    .count_wait_refused(&route.id, Wait::Turn);
                let message = format!("The request had no turn within {limit:?}.");
                Err(refused(ErrorKind::RateLimited, &message, limit))
            }
        }
    }

    async fn wait_for_replica(
        &self,
        admitted: &mut Admitted,
        route: &mut Arc<Route>,
        limit: Duration,
    ) -> Result<(), Failed> {
        let until = (Instant::now() + limit).min(admitted.deadline(route));
        let mut changes = self.changes.subscribe();
        let place = self.place(admitted, route, Wait::Replica)?;
        // The operator is told again and again as long as somebody waits.
        let held = route.hold();
        loop {
            // Looked at after the subscription, so that no snapshot is missed.
            if let Ok(table) = self.table() {
                let newer = table.routes.iter().find(|newer| {
                    newer.id == route.id
                        && newer.models == route.models
                        && admitted.caller.may_use(newer)
                });
                if let Some(newer) = newer.filter(|newer| newer.has_replica()).map(Arc::clone) {
                    drop((place, held));
                    *route = newer;
                    admitted.table = table;
                    return Ok(());
                }
            }
            let changed = timeout_at(until.into(), changes.changed()).await;
            if !matches!(changed, Ok(Ok(()))) {
                self.metrics
                    .routing
                    .count_wait_refused(&route.id, Wait::Replica);
                let message = format!("No replica of this model was ready within {limit:?}.");
                return Err(Failed {
                    class: Some(FailureClass::ColdStart),
                    ..refused(ErrorKind::Unavailable, &message, COLD_RETRY)
                });
            }
        }
    }

    /// A place in the room, with space for the request's body. Those who wait for a replica take at most half of the
    /// gateway's places for requests, lest a model that does not come be the end of all others.
    fn place(&self, admitted: &Admitted, route: &Route, wait: Wait) -> Result<Place<'_>, Failed> {
        let bytes = admitted.decoded.body.len();
        let held = self.room.bytes.fetch_add(bytes, Ordering::Relaxed);
        let cold = match wait {
            Wait::Replica => self.room.cold.fetch_add(1, Ordering::Relaxed) + 1,
            Wait::Turn => 0,
        };
        let place = Place {
            room: &self.room,
            bytes,
            wait,
            _counted: self.metrics.routing.count_waiting(&route.id, wait),
        };
        if BYTES_MAX < held + bytes || self.limits.requests_max < cold * 2 {
            self.metrics.routing.count_wait_refused(&route.id, wait);
            let message = "The gateway holds too many requests that wait.";
            let limit = Duration::from_secs(1);
            return Err(refused(ErrorKind::Unavailable, message, limit));
        }
        Ok(place)
    }
}

fn refused(kind: ErrorKind, message: &str, retry_after: Duration) -> Failed {
    let seconds = retry_after.as_secs_f64().ceil().max(1.0) as u64;
    let fault = Fault {
        retry_after: Some(seconds),
        ..Fault::new(kind, format!("{message} Try again in {seconds} s."))
    };
    Failed {
        target: None,
        class: Some(FailureClass::RateLimit),
        refusal: Refusal::Fault(fault),
    }
}
