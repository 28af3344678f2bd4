//! Which ReplicaSet is the new one, which are old, and how revisions are numbered; pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::{
    apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec},
    core::v1::PodTemplateSpec,
};
use kube::{ResourceExt, core::ObjectMeta};

use crate::{names, owners};

/// The annotation that numbers the revisions of a Deployment.
pub(crate) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The label that tells the Pods of one template from those of another.
pub(crate) const TEMPLATE_HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that are not copied to its ReplicaSets.
const NOT_COPIED: [&str; 2] = ["kubectl.kubernetes.io/last-applied-configuration", REVISION];

/// The ReplicaSets of one Deployment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sets {
    /// The one of the present template, if it exists.
    pub(crate) new: Option<Arc<ReplicaSet>>,
    /// All others, oldest first.
    pub(crate) old: Vec<Arc<ReplicaSet>>,
}

impl Sets {
    /// Tells the new ReplicaSet from the old ones.
    pub(crate) fn sort(deployment: &Deployment, mut owned: Vec<Arc<ReplicaSet>>) -> Self {
        owned.sort_by_key(|set| (set.creation_timestamp(), set.name_any()));
        let position = owned
            .iter()
            .position(|set| has_template_of(set, deployment));
        let new = position.map(|position| owned.remove(position));
        Self { new, old: owned }
    }

    /// All sets.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// The revision that the new set has or gets: above every old one.
    pub(crate) fn new_revision(&self) -> i64 {
        let newest_old = self
            .old
            .iter()
            .map(|set| revision_of(&**set))
            .max()
            .unwrap_or(0);
        let own = self.new.as_deref().map_or(0, revision_of);
        if newest_old < own {
            own
        } else {
            newest_old + 1
        }
    }
}

/// The revision that an object is annotated with.
pub(crate) fn revision_of(object: &impl ResourceExt) -> i64 {
    object
        .annotations()
        .get(REVISION)
        .and_then(|revision| revision.parse().ok())
        .unwrap_or(0)
}

/// Whether the ReplicaSet runs the Deployment's present template.
pub(crate) fn has_template_of(set: &ReplicaSet, deployment: &Deployment) -> bool {
    let Some(template) = &set.spec.template else {
        return false;
    };
    let mut template = template.clone();
    if let Some(labels) = template
        .metadata
        .as_mut()
        .and_then(|meta| meta.labels.as_mut())
    {
        labels.remove(TEMPLATE_HASH);
    }
    normal(template) == normal(deployment.spec.template.clone())
}

/// Servers differ in whether an empty template metadata is left out.
fn normal(mut template: PodTemplateSpec) -> PodTemplateSpec {
    let meta = template.metadata.get_or_insert_default();
    meta.creation_timestamp = None;
    meta.labels.get_or_insert_default();
    meta.annotations.get_or_insert_default();
    template
}

/// The annotations that a Deployment's new ReplicaSet carries.
pub(crate) fn annotations_for(deployment: &Deployment, revision: i64) -> BTreeMap<String, String> {
    let mut annotations = deployment.annotations().clone();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    annotations.insert(REVISION.to_owned(), revision.to_string());
    annotations
}

/// The ReplicaSet of the Deployment's present template.
pub(crate) fn new_set(deployment: &Deployment, revision: i64, replicas: i32) -> ReplicaSet {
    let collisions = deployment
        .status
        .as_ref()
        .and_then(|status| status.collision_count)
        .unwrap_or(0);
    // A template serialises without fail: string keys only, no floats.
    let mut content = serde_json::to_vec(&deployment.spec.template).unwrap_or_default();
    content.extend_from_slice(&collisions.to_be_bytes());
    let hash = names::hashed_suffix(&content);
    let mut template = deployment.spec.template.clone();
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = deployment.spec.selector.clone();
    selector
        .match_labels
        .get_or_insert_default()
        .insert(TEMPLATE_HASH.to_owned(), hash.clone());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: Some(labels),
            annotations: Some(annotations_for(deployment, revision)),
            owner_references: Some(vec![owners::controller_reference(deployment)]),
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: deployment
                .spec
                .min_ready_seconds
                .filter(|seconds| *seconds != 0),
            selector,
            template: Some(template),
        },
        status: None,
    }
}
