//! What to do about a Deployment's ReplicaSets; pure.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kube::ResourceExt;

use super::{
    revision::{self, Sets, revision_of},
    rolling::{self, Bounds, asked},
};

/// Old ReplicaSets that are kept for a rollback, unless the Deployment says otherwise.
const HISTORY_LIMIT: i32 = 10;

/// One thing to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Create the ReplicaSet of the present template.
    Create(Box<ReplicaSet>),
    /// Change the number of replicas.
    Scale {
        /// The set.
        set: Arc<ReplicaSet>,
        /// Its new number.
        replicas: i32,
    },
    /// Write annotations to a set.
    Annotate {
        /// The set.
        set: Arc<ReplicaSet>,
        /// What to write.
        annotations: BTreeMap<String, String>,
    },
    /// Note the revision on the Deployment.
    SetRevision(i64),
    /// Delete a set that is beyond the history.
    Delete(Arc<ReplicaSet>),
}

/// Decides; `has_old_pods` says whether Pods of old sets have not ended yet.
pub(crate) fn plan(deployment: &Deployment, sets: &Sets, has_old_pods: bool) -> Vec<Action> {
    let bounds = Bounds::of(deployment);
    if deployment.spec.paused == Some(true) {
        return scale_only(bounds, sets);
    }
    let revision = sets.new_revision();
    let mut actions = match &sets.new {
        Some(new) => annotate(deployment, new, revision),
        None => Vec::new(),
    };
    if !actions.is_empty() {
        // One write a set and pass: a second would meet its own change.
        return actions;
    }
    let is_recreate = deployment
        .spec
        .strategy
        .as_ref()
        .and_then(|strategy| strategy.type_.as_deref())
        == Some("Recreate");
    actions = if is_recreate {
        recreate(deployment, sets, revision, has_old_pods)
    } else {
        roll(deployment, bounds, sets, revision)
    };
    if actions.is_empty() {
        actions = expired(deployment, sets);
    }
    if sets.new.is_some() && revision_of(deployment) != revision {
        actions.push(Action::SetRevision(revision));
    }
    actions
}

fn annotate(deployment: &Deployment, new: &Arc<ReplicaSet>, revision: i64) -> Vec<Action> {
    let mut annotations = revision::annotations_for(deployment, revision);
    annotations.retain(|name, value| new.annotations().get(name) != Some(value));
    if annotations.is_empty() {
        return Vec::new();
    }
    vec![Action::Annotate {
        set: Arc::clone(new),
        annotations,
    }]
}

fn roll(deployment: &Deployment, bounds: Bounds, sets: &Sets, revision: i64) -> Vec<Action> {
    if let Some(new) = &sets.new {
        return rolling::step(bounds, new, sets);
    }
    let all: i32 = sets.old.iter().map(|set| asked(set)).sum();
    let replicas = rolling::new_replicas(bounds, 0, all);
    vec![Action::Create(Box::new(revision::new_set(
        deployment, revision, replicas,
    )))]
}

fn recreate(
    deployment: &Deployment,
    sets: &Sets,
    revision: i64,
    has_old_pods: bool,
) -> Vec<Action> {
    let running: Vec<Action> = scale_to_zero(&sets.old);
    if !running.is_empty() {
        return running;
    }
    if has_old_pods {
        return Vec::new();
    }
    let wanted = deployment.spec.replicas.unwrap_or(1);
    match &sets.new {
        None => vec![Action::Create(Box::new(revision::new_set(
            deployment, revision, wanted,
        )))],
        Some(new) if asked(new) != wanted => vec![Action::Scale {
            set: Arc::clone(new),
            replicas: wanted,
        }],
        Some(_) => Vec::new(),
    }
}

fn scale_to_zero(sets: &[Arc<ReplicaSet>]) -> Vec<Action> {
    let running = sets.iter().filter(|set| asked(set) != 0);
    running
        .map(|set| Action::Scale {
            set: Arc::clone(set),
            replicas: 0,
        })
        .collect()
}

/// A paused Deployment rolls nothing out, but follows its number of replicas where only one set has any.
fn scale_only(bounds: Bounds, sets: &Sets) -> Vec<Action> {
    let active: Vec<&Arc<ReplicaSet>> = sets.all().filter(|set| asked(set) != 0).collect();
    let target = match active.as_slice() {
        [only] => Some(*only),
        [] => sets.new.as_ref().or_else(|| sets.old.last()),
        _ => None,
    };
    match target {
        Some(set) if asked(set) != bounds.wanted => {
            vec![Action::Scale {
                set: Arc::clone(set),
                replicas: bounds.wanted,
            }]
        }
        _ => Vec::new(),
    }
}

/// Old sets beyond the history limit, once nothing of them runs.
fn expired(deployment: &Deployment, sets: &Sets) -> Vec<Action> {
    let limit = usize::try_from(
        deployment
            .spec
            .revision_history_limit
            .unwrap_or(HISTORY_LIMIT),
    )
    .unwrap_or(usize::MAX);
    let mut idle: Vec<&Arc<ReplicaSet>> = sets
        .old
        .iter()
        .filter(|set| {
            let is_empty = set
                .status
                .as_ref()
                .is_none_or(|status| status.replicas == 0);
            asked(set) == 0 && is_empty && set.metadata.deletion_timestamp.is_none()
        })
        .collect();
    idle.sort_by_key(|set| revision_of(&***set));
    let surplus = idle.len().saturating_sub(limit);
    idle[..surplus]
        .iter()
        .map(|set| Action::Delete(Arc::clone(set)))
        .collect()
}

#[cfg(test)]
mod tests;
