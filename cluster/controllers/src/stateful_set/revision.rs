//! The templates that a StatefulSet had, as ControllerRevisions; pure.

use std::sync::Arc;

use k8s_openapi::{
    api::{
        apps::v1::{ControllerRevision, StatefulSet},
        core::v1::PodTemplateSpec,
    },
    apimachinery::pkg::runtime::RawExtension,
};
use kube::{ResourceExt, core::ObjectMeta};
use serde_json::{Value, json};

use crate::{names, owners};

/// Old revisions that are kept, unless the set says otherwise.
const HISTORY_LIMIT: i32 = 10;

/// The revisions of one set.
#[derive(Debug)]
pub(super) struct Revisions {
    /// The name of the present template's revision.
    pub(super) update_name: String,
    /// The present template's revision, if it is recorded.
    pub(super) update: Option<Arc<ControllerRevision>>,
    /// The name of the revision that Pods had before the present rollout.
    pub(super) current_name: String,
    /// The newest number.
    pub(super) newest: i64,
    all: Vec<Arc<ControllerRevision>>,
}

impl Revisions {
    /// Tells the revisions apart; oldest first.
    pub(super) fn sort(set: &StatefulSet, mut all: Vec<Arc<ControllerRevision>>) -> Self {
        all.sort_by_key(|revision| (revision.revision, revision.name_any()));
        let update_name = name_of(set);
        let update = all
            .iter()
            .find(|revision| revision.name_any() == update_name)
            .map(Arc::clone);
        let current = set
            .status
            .as_ref()
            .and_then(|status| status.current_revision.clone());
        let current_name = current
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| update_name.clone());
        let newest = all
            .iter()
            .filter_map(|revision| revision.revision)
            .max()
            .unwrap_or(0);
        Self {
            update_name,
            update,
            current_name,
            newest,
            all,
        }
    }

    /// The template of a revision; the present one if it is not recorded.
    pub(super) fn template(&self, set: &StatefulSet, name: &str) -> PodTemplateSpec {
        let recorded = self.all.iter().find(|revision| revision.name_any() == name);
        let template = recorded.and_then(|revision| {
            serde_json::from_value(revision.data.0["spec"]["template"].clone()).ok()
        });
        template.unwrap_or_else(|| set.spec.template.clone())
    }

    /// The record of the present template.
    pub(super) fn new_revision(&self, set: &StatefulSet) -> ControllerRevision {
        ControllerRevision {
            data: RawExtension(data_of(set)),
            metadata: ObjectMeta {
                name: Some(self.update_name.clone()),
                namespace: set.namespace(),
                labels: set
                    .spec
                    .template
                    .metadata
                    .as_ref()
                    .and_then(|meta| meta.labels.clone()),
                owner_references: Some(vec![owners::controller_reference(set)]),
                ..ObjectMeta::default()
            },
            revision: Some(self.newest + 1),
        }
    }

    /// Records that nobody needs, beyond the history limit.
    pub(super) fn expired(&self, set: &StatefulSet) -> Vec<Arc<ControllerRevision>> {
        let limit = set.spec.revision_history_limit.unwrap_or(HISTORY_LIMIT);
        let limit = usize::try_from(limit).unwrap_or(0);
        let in_use = [&self.update_name, &self.current_name];
        let idle: Vec<_> = self
            .all
            .iter()
            .filter(|revision| !in_use.contains(&&revision.name_any()))
            .collect();
        let surplus = idle.len().saturating_sub(limit);
        idle[..surplus]
            .iter()
            .map(|revision| Arc::clone(revision))
            .collect()
    }
}

fn name_of(set: &StatefulSet) -> String {
    // A template serialises without fail: string keys only, no floats.
    let content = serde_json::to_vec(&set.spec.template).unwrap_or_default();
    format!("{}-{}", set.name_any(), names::hashed_suffix(&content))
}

/// A strategic merge patch that brings the template back, as `kubectl rollout undo` applies it.
fn data_of(set: &StatefulSet) -> Value {
    let mut template = json!(set.spec.template);
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}
