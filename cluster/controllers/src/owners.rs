//! Who controls an object: owner references, adoption of orphans, release of what no longer matches.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::{
    Resource,
    core::{ObjectMeta, Selector, SelectorExt},
};
use serde_json::{Value, json};

/// What a controller does about a possible child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is ours.
    Owned,
    /// It matches and nobody controls it.
    Adopt,
    /// We control it and it no longer matches.
    Release,
    /// It is none of our business.
    Ignore,
}

/// The reference of the object's controller.
pub(crate) fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_ref()?
        .iter()
        .find(|reference| reference.controller == Some(true))
}

/// Whether the object is controlled by the owner with this uid.
pub(crate) fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|reference| reference.uid == uid)
}

/// Parses a selector; one that matches nothing or is malformed gives `None`, so that it can never claim everything.
pub(crate) fn parse_selector(selector: &LabelSelector) -> Option<Selector> {
    let is_empty = selector
        .match_labels
        .as_ref()
        .is_none_or(std::collections::BTreeMap::is_empty)
        && selector
            .match_expressions
            .as_ref()
            .is_none_or(Vec::is_empty);
    if is_empty {
        return None;
    }
    Selector::try_from(selector.clone()).ok()
}

/// Whether the object's labels match.
pub(crate) fn matches(selector: &Selector, meta: &ObjectMeta) -> bool {
    match &meta.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&std::collections::BTreeMap::new()),
    }
}

/// Decides about a possible child.
pub(crate) fn claim(owner: &ObjectMeta, selector: &Selector, child: &ObjectMeta) -> Claim {
    let is_owner_going = owner.deletion_timestamp.is_some();
    let is_child_going = child.deletion_timestamp.is_some();
    match controller_of(child) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matches(selector, child) => Claim::Owned,
        Some(_) if is_owner_going || is_child_going => Claim::Ignore,
        Some(_) => Claim::Release,
        None if is_owner_going || is_child_going || !matches(selector, child) => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The reference with which `owner` controls its children.
pub(crate) fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The merge patch that adopts a child.
pub(crate) fn adoption(child: &ObjectMeta, reference: OwnerReference) -> Value {
    let mut references = child.owner_references.clone().unwrap_or_default();
    references.retain(|other| other.uid != reference.uid);
    references.push(reference);
    json!({"metadata": {"uid": child.uid, "ownerReferences": references}})
}

/// The merge patch that takes these owners off a child.
pub(crate) fn disowning(child: &ObjectMeta, owner_uids: &[&str]) -> Value {
    let mut references = child.owner_references.clone().unwrap_or_default();
    references.retain(|reference| !owner_uids.contains(&reference.uid.as_str()));
    let references = if references.is_empty() {
        Value::Null
    } else {
        json!(references)
    };
    json!({"metadata": {"uid": child.uid, "ownerReferences": references}})
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference, Time},
        jiff::Timestamp,
    };
    use kube::core::ObjectMeta;

    use super::{Claim, claim, parse_selector};

    fn child(label: &str, controller: Option<&str>, is_going: bool) -> ObjectMeta {
        let reference = |uid: &str| OwnerReference {
            uid: uid.to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta {
            labels: Some([("app".to_owned(), label.to_owned())].into()),
            owner_references: controller.map(|uid| vec![reference(uid)]),
            deletion_timestamp: is_going.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    #[track_caller]
    fn check(child: &ObjectMeta, expected: Claim) {
        let owner = ObjectMeta {
            uid: Some("me".to_owned()),
            ..ObjectMeta::default()
        };
        let selector = LabelSelector {
            match_labels: Some([("app".to_owned(), "a".to_owned())].into()),
            ..LabelSelector::default()
        };
        assert_eq!(
            claim(&owner, &parse_selector(&selector).unwrap(), child),
            expected
        );
    }

    #[test]
    fn children_are_claimed_by_controller_first_and_labels_second() {
        check(&child("a", Some("me"), false), Claim::Owned);
        check(&child("b", Some("me"), false), Claim::Release);
        check(&child("b", Some("me"), true), Claim::Ignore);
        check(&child("a", Some("other"), false), Claim::Ignore);
        check(&child("a", None, false), Claim::Adopt);
        check(&child("a", None, true), Claim::Ignore);
        check(&child("b", None, false), Claim::Ignore);
    }

    #[test]
    fn an_empty_selector_selects_nothing() {
        assert!(parse_selector(&LabelSelector::default()).is_none());
    }
}
