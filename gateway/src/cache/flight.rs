//! Flights: of equal requests that run at once only the first is sent; the others wait for its answer.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{Cache, Kept, Place};

/// The requests that others wait for.
#[derive(Debug, Default)]
pub(super) struct Flights(Mutex<HashMap<Place, watch::Receiver<Landing>>>);

/// How a flight ended.
#[derive(Debug, Clone)]
pub(super) enum Landing {
    /// It has not ended.
    Flying,
    /// With an answer for everybody.
    Kept(Arc<Kept>),
    /// With an answer that is only for the one who asked.
    Unkept,
}

/// What a request is among its equals.
#[derive(Debug)]
pub(super) enum Role {
    /// The one that is sent.
    Lead(Lead),
    /// One that waits; the other end closes without a word if the first one failed.
    Follow(watch::Receiver<Landing>),
}

/// The duty to bring an answer; dropping it means that there is none, and the next request leads.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(super) cache: Arc<Cache>,
    pub(super) place: Place,
    /// `None` if nobody can wait for this one.
    landing: Option<watch::Sender<Landing>>,
}

/// Leads or follows.
pub(super) fn join(cache: &Arc<Cache>, place: Place) -> Role {
    let mut flights = cache.flights.0.lock();
    if let Some(flight) = flights.get(&place) {
        return Role::Follow(flight.clone());
    }
    let (sender, receiver) = watch::channel(Landing::Flying);
    flights.insert(place, receiver);
    Role::Lead(Lead {
        cache: Arc::clone(cache),
        place,
        landing: Some(sender),
    })
}

impl Lead {
    /// The duty of one that nobody waits for.
    pub(super) fn alone(cache: &Arc<Cache>, place: Place) -> Self {
        Self {
            cache: Arc::clone(cache),
            place,
            landing: None,
        }
    }

    /// Tells those who wait how it ended.
    pub(super) fn land(mut self, landing: Landing) {
        if let Some(sender) = self.depart() {
            sender.send_replace(landing);
        }
    }

    /// Whoever comes from now on does not wait for this flight.
    fn depart(&mut self) -> Option<watch::Sender<Landing>> {
        let sender = self.landing.take()?;
        self.cache.flights.0.lock().remove(&self.place);
        Some(sender)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        drop(self.depart());
    }
}
