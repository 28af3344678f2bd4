//! Model: a volume for weights, a Deployment of engines and a Service; nothing for a provider's model.

mod build;
mod dereference;
mod external;
mod status;
mod tuning;
mod validate;
mod weights;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crds::Model;
use jiff::Timestamp;
use kube::runtime::reflector::Store;

use self::{build::Children, dereference::World, status::Observed};
pub(crate) use self::{
    build::{container_security, pod_ip, probe, runtime_default},
    dereference::secrets,
    external::ExternalEngine,
    status::refused,
    validate::{BadCredential, ENGINE_PORT, Secrets, ValidEngine, credential, validate},
};
use crate::{
    caches::Caches,
    context::Context,
    controller::{Next, Reconciled},
    executor::{ExecuteError, Executor},
    load,
};

impl Reconciled for Model {
    const CONTROLLER: &'static str = "model";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.models
    }

    async fn reconcile(model: Arc<Self>, context: Arc<Context>) -> Result<Next, ExecuteError> {
        // What there is (client required).
        let world = dereference::dereference(&model, &context);
        // What is wanted (pure).
        let valid = validate(&model, &world.secrets);
        let children = valid
            .as_ref()
            .ok()
            .and_then(|valid| build::build(valid, &context.settings));
        // Make it so (client required).
        let mut refusal = None;
        if let Some(children) = &children {
            match apply(children, &world, &context.executor).await {
                Ok(()) => {}
                Err(error @ (ExecuteError::NotOurs { .. } | ExecuteError::Refused { .. })) => {
                    refusal = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        // How far the engines are (client required).
        let revision = children.as_ref().map(|children| children.revision.clone());
        let reports =
            dereference::reports(&world, revision.as_deref(), &model, &context.load).await;
        // Say so.
        let observed = Observed {
            model: &model,
            valid: valid.as_ref(),
            refusal: refusal.as_ref(),
            revision: revision.as_deref(),
            deployment: world.deployment.as_deref(),
            pods: &world.pods,
            reports: &reports,
            now: Timestamp::now(),
        };
        let status = status::status(&observed);
        let next = next(&observed, &status);
        context
            .tell(&*model, model.status.as_ref(), &status)
            .await?;
        Ok(next)
    }
}

/// Engines that do not serve yet are asked how far they are; everything else comes as an event.
fn next(observed: &Observed<'_>, status: &crds::ModelStatus) -> Next {
    if observed.valid.is_err() || observed.refusal.is_some() {
        return Next::OnAction;
    }
    let is_whole = status.ready_replicas == observed.model.spec.replicas
        && status.replicas == status.ready_replicas;
    let knows_facts = status.facts.is_some() || status.ready_replicas == 0;
    if observed.revision.is_some() && !(is_whole && knows_facts) {
        return Next::After(load::PERIOD);
    }
    Next::OnChange
}

/// The volume first: a Pod that starts before its claim exists waits for nothing.
async fn apply(
    children: &Children,
    world: &World,
    executor: &Executor,
) -> Result<(), ExecuteError> {
    executor
        .apply(&children.claim, world.claim.as_deref())
        .await?;
    executor
        .apply(&children.service, world.service.as_deref())
        .await?;
    executor
        .apply(&children.deployment, world.deployment.as_deref())
        .await
}
