//! Stops a container: its preStop hook, a polite signal, and after the grace period the end of every process in it.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use tokio::time::{Instant, sleep, timeout_at};

use crate::probes::check::{self, Target};

/// Even without grace a process gets this long to end after it was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Stops a container within `grace`. Its end is reported by whoever waits for it.
pub(crate) async fn stop(
    container: Container,
    target: Target,
    grace: Duration,
) -> Result<(), String> {
    let deadline = Instant::now() + grace;
    let hook = container
        .lifecycle
        .as_ref()
        .and_then(|lifecycle| lifecycle.pre_stop.as_ref());
    let mut failed = Ok(());
    if let Some(hook) = hook.filter(|_| !grace.is_zero()) {
        failed = match timeout_at(deadline, run_hook(hook, &target)).await {
            Ok(result) => result,
            Err(_) => Err(format!("the preStop hook did not end within {grace:?}")),
        };
    }
    let running = Arc::clone(&target.container);
    if !grace.is_zero() {
        running.terminate();
        if timeout_at(deadline, running.ended()).await.is_ok() {
            return failed;
        }
    }
    running.kill();
    if tokio::time::timeout(KILL_LIMIT, running.ended())
        .await
        .is_err()
    {
        tracing::warn!(container = %running.id(), "container does not end");
    }
    failed
}

/// Runs a lifecycle hook.
pub(crate) async fn run_hook(hook: &LifecycleHandler, target: &Target) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        return check::run(exec, target).await;
    }
    if let Some(get) = &hook.http_get {
        return check::http_get(get, target).await;
    }
    if let Some(pause) = &hook.sleep {
        sleep(super::wanted::seconds(pause.seconds)).await;
    }
    Ok(())
}
