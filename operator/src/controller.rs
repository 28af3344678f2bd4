//! One controller: takes names from its queue, reconciles the objects, counts and waits after failures.

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, future::BoxFuture};
use kube::runtime::{
    controller::{Action, Config, applier},
    reflector::Store,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    caches::Caches,
    context::Context,
    executor::{Child, ExecuteError},
    metrics::{Controller, Named, ReconcileResult},
    queue::{Key, Queue},
};

/// Reconciles of one kind at once; each holds a connection while it writes.
const CONCURRENCY: u16 = 8;
/// When to look again although nothing changed.
const RESYNC: Duration = Duration::from_secs(10 * 3600);
/// When to look again at what waits for somebody to act, should its event be lost.
const RECHECK: Duration = Duration::from_secs(300);
/// When to look again after a write that came too late; the newer object is on its way.
const STALE_WAIT: Duration = Duration::from_millis(250);

/// When to look at an object again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// When something changes.
    OnChange,
    /// When something changes, or after a while.
    After(Duration),
    /// When somebody has acted; the status says what to do.
    OnAction,
}

/// A kind with a controller.
pub(crate) trait Reconciled: Child + 'static {
    /// The controller's name in metrics and logs.
    const CONTROLLER: &'static str;

    /// The cache of the kind.
    fn store(caches: &Caches) -> &Store<Self>;

    /// Makes the world as the object wants it, and says in its status how the world is.
    fn reconcile(
        object: Arc<Self>,
        context: Arc<Context>,
    ) -> impl Future<Output = Result<Next, ExecuteError>> + Send;
}

/// Reconciles until `shutdown`; what is under way then is finished.
pub(crate) async fn run<K: Reconciled>(
    context: Arc<Context>,
    queue: Queue,
    shutdown: CancellationToken,
) {
    let labels = Controller {
        controller: K::CONTROLLER,
    };
    context
        .metrics
        .workers_max
        .get_or_create(&labels)
        .set(i64::from(CONCURRENCY));
    for key in Caches::keys(K::store(&context.caches)) {
        queue.add(key);
    }
    let store = K::store(&context.caches).clone();
    let depth = context.metrics.queue_depth.get_or_create_owned(&Named {
        name: K::CONTROLLER,
    });
    let names = queue.stream(shutdown).map(move |key| {
        depth.set(queue.len().try_into().unwrap_or(i64::MAX));
        Ok::<_, Infallible>(key.to_ref::<K>())
    });
    let config = Config::default().concurrency(CONCURRENCY);
    applier(
        reconcile::<K>,
        wait_after::<K>,
        context,
        store,
        names,
        config,
    )
    .for_each(async |_| {})
    .await;
}

fn reconcile<K: Reconciled>(
    object: Arc<K>,
    context: Arc<Context>,
) -> BoxFuture<'static, Result<Action, ExecuteError>> {
    async move {
        let labels = Controller {
            controller: K::CONTROLLER,
        };
        let workers = context.metrics.workers.get_or_create_owned(&labels);
        workers.inc();
        let started = Instant::now();
        let key = Key::of(&*object);
        let outcome = if object.meta().deletion_timestamp.is_some() {
            // The garbage collector takes the children along.
            Ok(Next::OnChange)
        } else {
            K::reconcile(object, Arc::clone(&context)).await
        };
        workers.dec();
        context
            .metrics
            .seconds
            .get_or_create(&labels)
            .observe(started.elapsed().as_secs_f64());
        count::<K>(&context, &outcome);
        let next = outcome?;
        context.failures.forget(K::CONTROLLER, key);
        Ok(match next {
            Next::OnChange => Action::requeue(RESYNC.mul_f64(rand::random_range(0.9..1.1))),
            Next::After(wait) => Action::requeue(wait),
            Next::OnAction => Action::requeue(RECHECK.mul_f64(rand::random_range(0.9..1.1))),
        })
    }
    .boxed()
}

fn count<K: Reconciled>(context: &Context, outcome: &Result<Next, ExecuteError>) {
    let controller = K::CONTROLLER;
    let result = match outcome {
        Ok(Next::OnChange) => "success",
        Ok(Next::After(_)) => "requeue_after",
        Ok(Next::OnAction) => {
            context
                .metrics
                .terminal_errors
                .get_or_create(&Controller { controller })
                .inc();
            "success"
        }
        Err(_) => {
            context
                .metrics
                .errors
                .get_or_create(&Controller { controller })
                .inc();
            "error"
        }
    };
    context
        .metrics
        .reconciles
        .get_or_create(&ReconcileResult { controller, result })
        .inc();
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the applier hands out clones"
)]
fn wait_after<K: Reconciled>(
    object: Arc<K>,
    error: &ExecuteError,
    context: Arc<Context>,
) -> Action {
    let key = Key::of(&*object);
    if matches!(error, ExecuteError::Stale { .. }) {
        return Action::requeue(STALE_WAIT);
    }
    let wait = context.failures.again(K::CONTROLLER, key.clone());
    tracing::warn!(
        controller = K::CONTROLLER,
        namespace = %key.namespace,
        name = %key.name,
        error = %chain(error),
        ?wait,
        "reconcile failed"
    );
    Action::requeue(wait)
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        source = inner.source();
    }
    text
}
