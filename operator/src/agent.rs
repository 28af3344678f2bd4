//! Agent: a key for the gateway in a Secret, and an entry in the agent runtime's snapshot.

mod build;
mod dereference;
mod graph;
mod status;
mod syntax;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crds::Agent;
use jiff::Timestamp;
use kube::runtime::reflector::Store;
use protocol::snapshot::AgentEntry;

use self::{status::Observed, validate::validate};
use crate::{
    caches::Caches,
    context::{Context, Settings},
    controller::{Next, Reconciled},
    executor::ExecuteError,
    route,
    snapshots::{SETTLING, Snapshots},
};

impl Reconciled for Agent {
    const CONTROLLER: &'static str = "agent";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.agents
    }

    async fn reconcile(agent: Arc<Self>, context: Arc<Context>) -> Result<Next, ExecuteError> {
        // What there is (client required).
        let world = dereference::dereference(&agent, &context.caches, &context.snapshots);
        let material = dereference::key_material(&agent, &world, &context.executor).await?;
        // What is wanted (pure).
        let valid = validate(&agent, &world);
        let secret = build::key_secret(&agent, &material);
        // Make it so (client required).
        let refusal = match context
            .executor
            .apply(&secret, world.key_secret.as_deref())
            .await
        {
            Ok(()) => None,
            Err(error @ (ExecuteError::NotOurs { .. } | ExecuteError::Refused { .. })) => {
                Some(error)
            }
            Err(error) => return Err(error),
        };
        // Say so.
        let plane = &context.snapshots.agents;
        let ready = route::ready_replicas(&context.caches, plane.name);
        let before = agent.status.as_ref().map(|status| &*status.conditions);
        let entry = valid
            .as_ref()
            .ok()
            .and_then(|valid| build::entry(&agent, valid, &context.settings.gateway_url));
        let entries: Vec<AgentEntry> = entry.into_iter().collect();
        let programmed = plane.programmed(&*agent, &entries, before.unwrap_or_default(), &ready);
        let status = status::status(&Observed {
            agent: &agent,
            valid: valid.as_ref(),
            refusal: refusal.as_ref(),
            programmed: &programmed,
            now: Timestamp::now(),
        });
        context
            .tell(&*agent, agent.status.as_ref(), &status)
            .await?;
        if programmed.is_settling {
            return Ok(Next::After(SETTLING));
        }
        Ok(if valid.is_err() || refusal.is_some() {
            Next::OnAction
        } else {
            Next::OnChange
        })
    }
}

/// The entries of all agents that can run, by namespace and name.
pub(crate) fn entries(
    caches: &Caches,
    snapshots: &Snapshots,
    settings: &Settings,
) -> Vec<AgentEntry> {
    let mut entries = Vec::new();
    for agent in caches.agents.state() {
        let world = dereference::dereference(&agent, caches, snapshots);
        if agent.metadata.deletion_timestamp.is_none()
            && let Ok(valid) = validate(&agent, &world)
        {
            entries.extend(build::entry(&agent, &valid, &settings.gateway_url));
        }
    }
    entries
        .sort_by(|left, right| (&left.namespace, &left.name).cmp(&(&right.namespace, &right.name)));
    entries
}
