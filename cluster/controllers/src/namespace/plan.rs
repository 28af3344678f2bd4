//! What a namespace that is being deleted says about itself; pure.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{Namespace, NamespaceCondition},
    apimachinery::pkg::apis::meta::v1::Time,
    jiff::Timestamp,
};
use kube::{
    ResourceExt,
    api::{ApiResource, DynamicObject, PartialObjectMeta},
};

use crate::conditions;

/// The finalizer that this controller takes off.
const FINALIZER: &str = "kubernetes";

/// What is still in a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Left {
    objects: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
}

impl Left {
    /// Whether the namespace is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// Counts objects of one kind.
    pub(crate) fn add(
        &mut self,
        resource: &ApiResource,
        objects: &[PartialObjectMeta<DynamicObject>],
    ) {
        if objects.is_empty() {
            return;
        }
        self.objects.insert(
            format!("{}.{}", resource.plural, resource.group),
            objects.len(),
        );
        for finalizer in objects.iter().flat_map(ResourceExt::finalizers) {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
    }
}

/// The namespace without our finalizer; `None` if it does not carry it.
pub(crate) fn without_finalizer(namespace: &Namespace) -> Option<Namespace> {
    let mut finalized = namespace.clone();
    let finalizers = finalized.spec.as_mut()?.finalizers.as_mut()?;
    let before = finalizers.len();
    finalizers.retain(|finalizer| finalizer != FINALIZER);
    (finalizers.len() < before).then_some(finalized)
}

/// The namespace with its new status; `None` if nothing changes.
pub(crate) fn status_of(namespace: &Namespace, left: &Left, now: Timestamp) -> Option<Namespace> {
    let mut changed = namespace.clone();
    let status = changed.status.get_or_insert_default();
    status.phase = Some("Terminating".to_owned());
    let conditions = status.conditions.get_or_insert_default();
    for (kind, is_true, reason, message) in facts(left) {
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: if is_true { "True" } else { "False" }.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        conditions::set(conditions, condition);
    }
    (changed != *namespace).then_some(changed)
}

fn facts(left: &Left) -> [(&'static str, bool, &'static str, String); 5] {
    let count = |counts: &BTreeMap<String, usize>, infix: &str| {
        counts
            .iter()
            .map(|(name, count)| format!("{name} {infix} {count} resource instances"))
            .collect::<Vec<_>>()
    };
    let objects = format!(
        "Some resources are remaining: {}",
        count(&left.objects, "has").join(", ")
    );
    let finalizers = format!(
        "Some content in the namespace has finalizers remaining: {}",
        count(&left.finalizers, "in").join(", ")
    );
    let remaining = if left.objects.is_empty() {
        (
            "NamespaceContentRemaining",
            false,
            "ContentRemoved",
            "All content successfully removed".to_owned(),
        )
    } else {
        (
            "NamespaceContentRemaining",
            true,
            "SomeResourcesRemain",
            objects,
        )
    };
    let finalizing = if left.finalizers.is_empty() {
        let message = "All content-preserving finalizers finished".to_owned();
        (
            "NamespaceFinalizersRemaining",
            false,
            "ContentHasNoFinalizers",
            message,
        )
    } else {
        (
            "NamespaceFinalizersRemaining",
            true,
            "SomeFinalizersRemain",
            finalizers,
        )
    };
    [
        (
            "NamespaceDeletionDiscoveryFailure",
            false,
            "ResourcesDiscovered",
            "All resources successfully discovered".to_owned(),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            false,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed".to_owned(),
        ),
        (
            "NamespaceDeletionContentFailure",
            false,
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization".to_owned(),
        ),
        remaining,
        finalizing,
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::core::v1::{Namespace, NamespaceSpec},
        jiff::Timestamp,
    };

    use super::{FINALIZER, Left, status_of, without_finalizer};

    fn namespace(finalizers: &[&str]) -> Namespace {
        let finalizers = finalizers.iter().map(|name| (*name).to_owned()).collect();
        Namespace {
            spec: Some(NamespaceSpec {
                finalizers: Some(finalizers),
            }),
            ..Namespace::default()
        }
    }

    #[test]
    fn only_our_finalizer_is_taken_off() {
        assert_eq!(
            without_finalizer(&namespace(&[FINALIZER, "other"])),
            Some(namespace(&["other"]))
        );
        assert_eq!(without_finalizer(&namespace(&["other"])), None);
    }

    #[test]
    fn a_status_that_says_the_same_is_not_written_again() {
        let left = Left {
            objects: [("pods.".to_owned(), 2)].into(),
            ..Left::default()
        };
        let first = status_of(&namespace(&[FINALIZER]), &left, Timestamp::UNIX_EPOCH).unwrap();
        let later = Timestamp::from_second(60).unwrap();
        assert_eq!(status_of(&first, &left, later), None);
        assert!(status_of(&first, &Left::default(), later).is_some());
    }
}
