//! Model: a volume for weights, a Deployment of engines and a Service; nothing for a provider's model.

mod build;
mod dereference;
mod external;
mod scaling;
mod status;
mod tuning;
mod validate;
mod weights;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crds::Model;
use jiff::Timestamp;
use kube::runtime::reflector::Store;

use self::{
    build::Children,
    dereference::World,
    scaling::{Plan, Seen},
    status::Observed,
    validate::ValidModel,
};
pub(crate) use self::{
    build::{container_security, pod_ip, probe, runtime_default},
    dereference::secrets,
    external::ExternalEngine,
    scaling::ValidScaling,
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
        let now = Timestamp::now();
        let mut valid = validate(&model, &world.secrets);
        let plan = valid.as_mut().ok().and_then(|valid| {
            let plan = scaling(valid, &model, &world, &context, now)?;
            valid.scale(plan.replicas);
            Some(plan)
        });
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
            last_wanted: plan.as_ref().and_then(|plan| plan.last_wanted.as_deref()),
            now,
        };
        let status = status::status(&observed);
        let again = plan.as_ref().and_then(|plan| plan.again);
        let next = next(&observed, &status, again);
        context
            .tell(&*model, model.status.as_ref(), &status)
            .await?;
        Ok(next)
    }
}

/// How many engines a Model that sleeps while nobody asks has now.
fn scaling(
    valid: &ValidModel,
    model: &Model,
    world: &World,
    context: &Context,
    now: Timestamp,
) -> Option<Plan> {
    let ValidEngine::Native(engine) = &valid.engine else {
        return None;
    };
    let deployment = world.deployment.as_ref();
    let status = model.status.as_ref();
    let seen = Seen {
        last_wanted: status.and_then(|status| status.last_wanted.as_deref()),
        running: deployment.and_then(|deployment| deployment.spec.replicas),
        led: context.since.elapsed(),
        now,
    };
    let scaling = engine.scaling?;
    Some(scaling.plan(engine.replicas, seen))
}

/// Engines that do not serve yet are asked how far they are; everything else comes as an event, or when it is time to
/// look whether anybody still asks.
fn next(observed: &Observed<'_>, status: &crds::ModelStatus, again: Option<Duration>) -> Next {
    if observed.valid.is_err() || observed.refusal.is_some() {
        return Next::OnAction;
    }
    let is_whole =
        status.ready_replicas == observed.wanted() && status.replicas == status.ready_replicas;
    let knows_facts = status.facts.is_some() || status.ready_replicas == 0;
    if observed.revision.is_some() && !(is_whole && knows_facts) {
        return Next::After(load::PERIOD);
    }
    again.map_or(Next::OnChange, Next::After)
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
