//! Route: compiled into the gateway's snapshot; has no children.

mod batches;
mod build;
mod cache;
mod dereference;
mod guards;
mod jwt;
mod limits;
mod patterns;
mod pools;
mod prompts;
mod resilience;
mod status;
mod tools;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use crds::Route;
use jiff::Timestamp;
use kube::runtime::reflector::Store;
use protocol::snapshot::RouteEntry;

pub(crate) use self::{dereference::ready_replicas, patterns::matches};
use self::{status::Observed, validate::validate};
use crate::{
    caches::Caches,
    context::Context,
    controller::{Next, Reconciled},
    executor::ExecuteError,
    snapshots::SETTLING,
};

impl Reconciled for Route {
    const CONTROLLER: &'static str = "route";

    fn store(caches: &Caches) -> &Store<Self> {
        &caches.routes
    }

    async fn reconcile(route: Arc<Self>, context: Arc<Context>) -> Result<Next, ExecuteError> {
        // What there is.
        let world = dereference::dereference(&route, &context.caches);
        // What is wanted (pure). The publisher does the same for all routes; here it is for the status.
        let valid = validate(&route, &world);
        let plane = &context.snapshots.gateway;
        let ready = ready_replicas(&context.caches, plane.name);
        let before = route.status.as_ref().map(|status| &*status.conditions);
        let entries = valid
            .as_ref()
            .map(|valid| build::in_order(build::build(valid)))
            .unwrap_or_default();
        let programmed = plane.programmed(&*route, &entries, before.unwrap_or_default(), &ready);
        let status = status::status(&Observed {
            route: &route,
            valid: valid.as_ref(),
            programmed: &programmed,
            now: Timestamp::now(),
        });
        context
            .tell(&*route, route.status.as_ref(), &status)
            .await?;
        if programmed.is_settling {
            return Ok(Next::After(SETTLING));
        }
        Ok(if valid.is_err() {
            Next::OnAction
        } else {
            Next::OnChange
        })
    }
}

/// The entries of all routes, the most exact pattern first.
pub(crate) fn entries(caches: &Caches) -> Vec<RouteEntry> {
    let mut entries = Vec::new();
    for route in caches.routes.state() {
        let world = dereference::dereference(&route, caches);
        if route.metadata.deletion_timestamp.is_none()
            && let Ok(valid) = validate(&route, &world)
        {
            entries.extend(build::build(&valid));
        }
    }
    build::in_order(entries)
}
