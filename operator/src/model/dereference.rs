//! What a Model names and owns, as the caches have it, and what its engines say.

use std::{collections::BTreeMap, sync::Arc};

use crds::{
    Model,
    names::{MODEL_LABEL, REVISION_LABEL},
};
use futures::future;
use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{PersistentVolumeClaim, Pod, Service},
};
use kube::ResourceExt;
use protocol::load::LoadReport;

use super::{
    build::{claim_name, engine_port},
    validate::Secrets,
};
use crate::{caches::Caches, context::Context, load::LoadReports, pods, queue::Key};

/// Engines of one Model that are asked how far they are.
const ASKED_MAX: usize = 8;

/// What there is of a Model.
#[derive(Debug)]
pub(super) struct World {
    pub(super) claim: Option<Arc<PersistentVolumeClaim>>,
    pub(super) service: Option<Arc<Service>>,
    pub(super) deployment: Option<Arc<Deployment>>,
    pub(super) pods: Vec<Arc<Pod>>,
    pub(super) secrets: Secrets,
}

pub(super) fn dereference(model: &Model, context: &Context) -> World {
    let Key { namespace, name } = Key::of(model);
    let caches = &context.caches;
    World {
        claim: Caches::get(&caches.claims, &namespace, &claim_name(&name)),
        service: Caches::get(&caches.services, &namespace, &name),
        deployment: Caches::get(&caches.deployments, &namespace, &name),
        pods: caches.pods_with(&namespace, MODEL_LABEL, &name),
        secrets: secrets(model, caches),
    }
}

/// The Secrets that a Model names.
pub(crate) fn secrets(model: &Model, caches: &Caches) -> Secrets {
    let namespace = model.namespace().unwrap_or_default();
    let external = model.spec.engine.external.as_ref();
    let provider = external.and_then(|external| external.credentials_ref.as_ref());
    let source = model.spec.source.as_ref();
    let source = source.and_then(|source| source.secret_ref.as_ref());
    let names = provider
        .map(|reference| &reference.name)
        .into_iter()
        .chain(source.map(|reference| &reference.name));
    names
        .map(|name| (name.clone(), caches.secret_data(&namespace, name)))
        .collect()
}

/// The reports of engines of the current revision that are not ready, and of one that is if its facts are not known.
pub(super) async fn reports(
    world: &World,
    revision: Option<&str>,
    model: &Model,
    load: &LoadReports,
) -> BTreeMap<String, LoadReport> {
    let is_current = |pod: &&Arc<Pod>| {
        revision.is_some_and(|revision| {
            pod.labels()
                .get(REVISION_LABEL)
                .is_some_and(|found| found == revision)
        })
    };
    let knows_facts = model.status.as_ref().is_some_and(|status| {
        status.facts.is_some()
            && status.observed_generation == model.metadata.generation.unwrap_or(0)
    });
    let mut wants_facts = !knows_facts;
    let asked = world
        .pods
        .iter()
        .filter(is_current)
        .filter(|pod| !pods::is_going(pod))
        .filter(|pod| {
            let is_ready = pods::is_ready(pod);
            !is_ready || std::mem::replace(&mut wants_facts, false)
        });
    let asked: Vec<(String, String)> = asked
        .filter_map(|pod| Some((pod.name_any(), engine_port(pods::address(pod)?))))
        .take(ASKED_MAX)
        .collect();
    let answers = asked
        .into_iter()
        .map(|(name, address)| async move { Some((name, load.of(&address).await?)) });
    future::join_all(answers)
        .await
        .into_iter()
        .flatten()
        .collect()
}
