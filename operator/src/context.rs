//! What reconciles share.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crds::{
    AgentStatus, Condition, ModelStatus, RouteStatus, WorkspaceStatus, WorkspaceTemplateStatus,
};
use parking_lot::Mutex;
use serde::Serialize;

use crate::{
    caches::Caches,
    executor::{Child, ExecuteError, Executor},
    load::LoadReports,
    metrics::Metrics,
    queue::Key,
    snapshots::Snapshots,
};

/// First wait after a failure; doubles with each up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// Longest wait after failures.
const BACKOFF_MAX: Duration = Duration::from_secs(300);

/// What is the same for all objects.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Image of engines and workspace gates.
    pub(crate) image: String,
    /// Namespace of the data planes.
    pub(crate) system_namespace: String,
    /// How agents reach the gateway, with /v1.
    pub(crate) gateway_url: String,
}

/// What reconciles share.
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) caches: Caches,
    pub(crate) executor: Executor,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) load: LoadReports,
    pub(crate) metrics: Metrics,
    pub(crate) failures: Failures,
    /// When this replica began to lead.
    pub(crate) since: Instant,
}

/// A status with conditions.
pub(crate) trait Status: Serialize + PartialEq {
    /// Its conditions.
    fn conditions(&self) -> &[Condition];
}

macro_rules! status {
    ($($kind:ty),+) => {
        $(impl Status for $kind {
            fn conditions(&self) -> &[Condition] {
                &self.conditions
            }
        })+
    };
}

status!(
    ModelStatus,
    RouteStatus,
    AgentStatus,
    WorkspaceStatus,
    WorkspaceTemplateStatus
);

impl Context {
    /// Writes a status that differs from the one before, and an event if Ready turned.
    pub(crate) async fn tell<K: Child, S: Status>(
        &self,
        object: &K,
        before: Option<&S>,
        after: &S,
    ) -> Result<(), ExecuteError> {
        if before == Some(after) {
            return Ok(());
        }
        self.executor.write_status(object, after).await?;
        let before = before.map(S::conditions).unwrap_or_default();
        self.executor
            .announcer()
            .announce(object, before, after.conditions())
            .await;
        Ok(())
    }
}

/// How often objects failed in a row.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<HashMap<(&'static str, Key), u32>>);

impl Failures {
    /// How long to wait after one more failure, with some jitter so that objects do not come back all at once.
    pub(crate) fn again(&self, controller: &'static str, key: Key) -> Duration {
        let mut failures = self.0.lock();
        let count = failures.entry((controller, key)).or_default();
        *count = count.saturating_add(1);
        let wait = BACKOFF_MIN
            .saturating_mul(1 << (*count - 1).min(16))
            .min(BACKOFF_MAX);
        wait.mul_f64(rand::random_range(0.8..1.2))
    }

    pub(crate) fn forget(&self, controller: &'static str, key: Key) {
        self.0.lock().remove(&(controller, key));
    }
}

#[cfg(test)]
mod tests {
    use super::{BACKOFF_MAX, BACKOFF_MIN, Failures};
    use crate::queue::Key;

    #[test]
    fn waits_double_and_are_bounded_and_forgotten() {
        let failures = Failures::default();
        let key = || Key::new("n", "a");
        let first = failures.again("model", key());
        assert!(first < BACKOFF_MIN.mul_f64(1.3));
        let later = (0..40)
            .map(|_| failures.again("model", key()))
            .last()
            .expect("a wait");
        assert!(BACKOFF_MAX.mul_f64(0.7) < later && later < BACKOFF_MAX.mul_f64(1.3));
        failures.forget("model", key());
        assert!(failures.again("model", key()) < BACKOFF_MIN.mul_f64(1.3));
    }
}
