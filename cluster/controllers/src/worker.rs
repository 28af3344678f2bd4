//! The loop of one controller: take a key, reconcile, look again when asked.

use std::{fmt::Debug, future::Future, hash::Hash, sync::Arc};

use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    api::{Next, ReconcileError},
    queue::Queue,
};

/// Failures in a row after which a failure is worth a warning: the first ones are usually races.
const QUIET_FAILURES: u32 = 3;

/// One controller.
pub(crate) trait Reconcile: Send + Sync + 'static {
    /// What is reconciled.
    type Key: Clone + Debug + Ord + Hash + Send + Sync + 'static;
    /// The controller's name in logs.
    const NAME: &'static str;

    /// Brings the world closer to what the object of this key asks for.
    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Next> + Send;
}

/// Works a queue until shutdown; the reconcile in progress is finished.
pub(crate) async fn work<R: Reconcile>(
    reconciler: R,
    queue: Arc<Queue<R::Key>>,
    shutdown: CancellationToken,
) {
    let mut failures_in_a_row = 0u32;
    loop {
        let key = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            key = queue.next() => key,
        };
        match reconciler.reconcile(&key).await {
            Ok(next) => {
                failures_in_a_row = 0;
                queue.forget(&key);
                if let Some(delay) = next {
                    queue.add_after(key, delay);
                }
            }
            Err(error) => {
                failures_in_a_row = failures_in_a_row.saturating_add(1);
                report(R::NAME, &key, &error, failures_in_a_row);
                queue.retry(key);
            }
        }
    }
}

fn report(controller: &str, key: &impl Debug, error: &ReconcileError, failures: u32) {
    let cause = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    if matches!(error, ReconcileError::Stale { .. }) || failures < QUIET_FAILURES {
        debug!(controller, ?key, %error, cause, "reconcile failed, will retry");
    } else {
        warn!(controller, ?key, %error, cause, "reconcile failed, will retry");
    }
}
