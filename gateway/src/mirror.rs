//! Mirrors: where copies of a share of a route's requests go, and how many copies are on their way at once.

use std::sync::Arc;

use protocol::snapshot::{self, Access, Retries, RouteEntry, Timeouts};
use rand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{call::Operation, forward::is_repeatable, table::Route};

/// Copies that are on their way at once.
const COPIES_MAX: usize = 64;
/// Bytes that all of them may hold.
const BYTES_MAX: usize = 64 << 20;
/// Bytes of a body that is copied.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a whole answer to a copy that are read.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Where copies of a share of a route's requests go.
#[derive(Debug)]
pub(crate) struct Mirror {
    /// The route of the copies, which no request names. Its id is that of the route with `#mirror`, by which the ledger
    /// and the metrics know what copies use and cost.
    pub(crate) route: Arc<Route>,
    percent: u32,
}

/// The entry of the route of the copies: one target that is asked once, within a time.
pub(crate) fn entry(of: &RouteEntry, settings: &snapshot::Mirror) -> RouteEntry {
    let millis = settings.timeout_millis;
    let connect_millis = Timeouts::default().connect_millis.min(millis);
    RouteEntry {
        namespace: of.namespace.clone(),
        name: format!("{}#mirror", of.name),
        // No request finds it by them; they tell what a star in the target's name stands for.
        models: of.models.clone(),
        affinity: of.affinity,
        targets: vec![settings.target.clone()],
        retries: Retries {
            attempts: 0,
            backoff_millis: 0,
        },
        timeouts: Timeouts {
            request_millis: millis,
            connect_millis,
            first_byte_millis: millis,
            stream_idle_millis: millis,
        },
        access: Access::Keys(Vec::new()),
        ..RouteEntry::default()
    }
}

impl Mirror {
    /// A mirror with this route, for so many requests in a hundred.
    pub(crate) fn new(route: Route, percent: u32) -> Self {
        Self {
            route: Arc::new(route),
            percent,
        }
    }

    /// Whether a request is drawn to be copied.
    pub(crate) fn draws(&self, random: &mut impl Rng) -> bool {
        random.random_range(0..100) < self.percent
    }
}

/// Why a request that was drawn is not copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Uncopied {
    /// It does more than compute, or its body has passed already.
    Unrepeatable,
    /// Its body is larger than what is kept for copies.
    TooLarge,
    /// Too many copies are on their way.
    Busy,
}

impl Uncopied {
    /// The word in metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Unrepeatable => "unrepeatable",
            Self::TooLarge => "too_large",
            Self::Busy => "busy",
        }
    }
}

/// A copy's place, held until its answer has ended.
#[derive(Debug)]
pub(crate) struct Place {
    /// One of the copies.
    pub(crate) copy: OwnedSemaphorePermit,
    /// Its share of the bytes.
    pub(crate) bytes: OwnedSemaphorePermit,
}

/// The copies that are on their way.
#[derive(Debug)]
pub(crate) struct Copies {
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Default for Copies {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(COPIES_MAX)),
            bytes: Arc::new(Semaphore::new(BYTES_MAX)),
            tasks: TaskTracker::default(),
            stop: CancellationToken::default(),
        }
    }
}

impl Copies {
    /// A place for the copy of a request with so many bytes; nobody waits for one.
    ///
    /// # Errors
    /// [`Uncopied`]
    pub(crate) fn place(
        &self,
        operation: Operation,
        body: Option<usize>,
    ) -> Result<Place, Uncopied> {
        let body = body.filter(|_| is_repeatable(operation));
        let body = body.ok_or(Uncopied::Unrepeatable)?;
        if BODY_BYTES_MAX < body {
            return Err(Uncopied::TooLarge);
        }
        let bytes = u32::try_from(body + ANSWER_BYTES_MAX).map_err(|_| Uncopied::TooLarge)?;
        let copy = Arc::clone(&self.places).try_acquire_owned();
        let bytes = Arc::clone(&self.bytes).try_acquire_many_owned(bytes);
        match (copy, bytes) {
            (Ok(copy), Ok(bytes)) => Ok(Place { copy, bytes }),
            _ => Err(Uncopied::Busy),
        }
    }

    /// Sends a copy on its way, until it ends or the gateway does.
    pub(crate) fn send(&self, copy: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let copy = async move {
            let _ = stop.run_until_cancelled(copy).await;
        };
        self.tasks.spawn(copy);
    }

    /// Ends all copies, and waits until they have.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::{BODY_BYTES_MAX, COPIES_MAX, Copies, Uncopied};
    use crate::call::Operation;

    #[track_caller]
    fn check(operation: Operation, body: Option<usize>, expected: Result<(), Uncopied>) {
        let place = Copies::default().place(operation, body);
        assert_eq!(place.map(|_| ()), expected);
    }

    #[test]
    fn small_bodies_of_calls_that_only_compute_are_copied() {
        check(Operation::Chat, Some(BODY_BYTES_MAX), Ok(()));
        check(Operation::Message, Some(0), Ok(()));
        let too_large = Err(Uncopied::TooLarge);
        check(Operation::Chat, Some(BODY_BYTES_MAX + 1), too_large);
        check(Operation::Chat, None, Err(Uncopied::Unrepeatable));
        check(Operation::Response, Some(9), Err(Uncopied::Unrepeatable));
        check(Operation::Realtime, Some(9), Err(Uncopied::Unrepeatable));
    }

    #[test]
    fn copies_are_bounded_in_number_and_in_bytes() {
        let fill = |body: usize| {
            let copies = Copies::default();
            let places = std::iter::from_fn(|| copies.place(Operation::Chat, Some(body)).ok());
            let count = places.take(2 * COPIES_MAX).collect::<Vec<_>>().len();
            let freed = copies.place(Operation::Chat, Some(body));
            assert!(freed.is_ok(), "places come back");
            count
        };
        assert_eq!(fill(0), COPIES_MAX);
        assert_eq!(fill(BODY_BYTES_MAX), COPIES_MAX / 2);
    }
}
