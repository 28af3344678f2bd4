//! Workspace: a Pod with a gate, a volume for the home directory, a token, a NetworkPolicy.

mod build;
mod dereference;
mod pod;
mod status;
mod validate;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crds::Workspace;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::reflector::Store;

use self::{build::Children, dereference::World, status::Observed, validate::validate};
pub(crate) use self::{
    build::token_secret_name,
    pod::gate_url,
    validate::{template_hash, validate_template},
};
use crate::{
    caches::Caches,
    context::Context,
    controller::{Next, Reconciled},
    executor::{ExecuteError, Executor},
    pods,
};

/// How long a Pod that ended is left, so that one that ends at once is not made anew all the time.
const ENDED_WAIT: Duration = Duration::from_secs(20);
/// When to look again at a workspace that comes up, should an event be lost.
const START_RECHECK: Duration = Duration::from_secs(30);

impl Reconciled for Workspace {
    const CONTROLLER: &'static str = "workspace";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.workspaces
    }

    async fn reconcile(workspace: Arc<Self>, context: Arc<Context>) -> Result<Next, ExecuteError> {
        // What there is (client required).
        let world = dereference::dereference(&workspace, &context.caches);
        let token = dereference::token(&workspace, &world, &context.executor).await?;
        // What is wanted (pure).
        let now = Timestamp::now();
        let valid = validate(&workspace, &world);
        let children = valid
            .as_ref()
            .ok()
            .map(|valid| build::build(valid, &token, &context.settings));
        // Make it so (client required).
        let refusal = match &children {
            None => None,
            Some(children) => {
                match apply(&workspace, children, &world, &context.executor, now).await {
                    Ok(()) => None,
                    Err(error @ (ExecuteError::NotOurs { .. } | ExecuteError::Refused { .. })) => {
                        Some(error)
                    }
                    Err(error) => return Err(error),
                }
            }
        };
        // Say so.
        let observed = Observed {
            workspace: &workspace,
            valid: valid.as_ref(),
            refusal: refusal.as_ref(),
            world: &world,
            now,
        };
        let status = status::status(&observed);
        context
            .tell(&*workspace, workspace.status.as_ref(), &status)
            .await?;
        if valid.is_err() || refusal.is_some() {
            return Ok(Next::OnAction);
        }
        if world.pod.as_deref().is_some_and(pods::has_ended) {
            return Ok(Next::After(ENDED_WAIT));
        }
        let is_settled = crds::condition::is_ready(&status.conditions);
        Ok(if is_settled {
            Next::OnChange
        } else {
            Next::After(START_RECHECK)
        })
    }
}

/// What the Pod mounts comes before the Pod. A Pod is made once: it keeps the template that it started with.
async fn apply(
    workspace: &Workspace,
    children: &Children,
    world: &World,
    executor: &Executor,
    now: Timestamp,
) -> Result<(), ExecuteError> {
    executor
        .apply(&children.secret, world.secret.as_deref())
        .await?;
    executor
        .apply(&children.claim, world.claim.as_deref())
        .await?;
    executor
        .apply(&children.policy, world.policy.as_deref())
        .await?;
    match world.pod.as_deref() {
        Some(pod) if !workspace.spec.running || must_go(pod, now) => executor.delete(pod).await,
        None if workspace.spec.running => executor.create(&children.pod).await,
        Some(_) | None => Ok(()),
    }
}

/// A Pod that ended does not come back by itself; one that ended at once waits a while before the next.
fn must_go(pod: &Pod, now: Timestamp) -> bool {
    let wait = SignedDuration::try_from(ENDED_WAIT).unwrap_or(SignedDuration::from_secs(20));
    let is_old = pod
        .metadata
        .creation_timestamp
        .as_ref()
        .is_none_or(|created| created.0 + wait <= now);
    pods::has_ended(pod) && is_old
}
