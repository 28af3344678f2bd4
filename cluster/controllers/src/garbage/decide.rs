//! What happens to one object, from the states of its owners and dependents; pure.

use std::sync::Arc;

use kube::api::PropagationPolicy;

use crate::inventory::{Node, Uid};

/// The finalizer that keeps an object until its dependents no longer name it.
const ORPHAN: &str = "orphan";
/// The finalizer that keeps an object until the dependents that block it are gone.
const FOREGROUND: &str = "foregroundDeletion";

/// What is known of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnerState {
    /// It exists.
    Present,
    /// It exists, is being deleted in the foreground and waits for this object.
    Waiting,
    /// It does not exist.
    Absent,
    /// Nobody can say, as its kind is not served.
    Unknown,
}

/// What happens to an object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing.
    Keep,
    /// It is deleted.
    Delete(PropagationPolicy),
    /// These owners are taken off it; another one keeps it.
    DropOwners(Vec<Uid>),
    /// It is taken off its dependents, then this finalizer off it.
    Orphan(&'static str),
    /// Nothing blocks it any more: this finalizer is taken off it.
    Release(&'static str),
}

/// Decides; `owners` are the states of the object's owners in their order.
pub(crate) fn decide(node: &Node, owners: &[OwnerState], dependents: &[Arc<Node>]) -> Verdict {
    if node.is_going {
        return decide_going(node, dependents);
    }
    let having = |state: OwnerState| owners.contains(&state);
    if having(OwnerState::Present) || having(OwnerState::Unknown) {
        return drop_lost_owners(node, owners);
    }
    if having(OwnerState::Waiting) && !dependents.is_empty() {
        return Verdict::Delete(PropagationPolicy::Foreground);
    }
    if owners.is_empty() {
        return Verdict::Keep;
    }
    Verdict::Delete(policy_of(&node.finalizers))
}

fn decide_going(node: &Node, dependents: &[Arc<Node>]) -> Verdict {
    if has(&node.finalizers, ORPHAN) {
        return Verdict::Orphan(ORPHAN);
    }
    let blocks = |dependent: &Arc<Node>| {
        let mut references = dependent
            .owners
            .iter()
            .filter(|owner| owner.uid == node.uid);
        references.any(|owner| owner.block_owner_deletion == Some(true))
    };
    if has(&node.finalizers, FOREGROUND) && !dependents.iter().any(blocks) {
        return Verdict::Release(FOREGROUND);
    }
    Verdict::Keep
}

fn drop_lost_owners(node: &Node, owners: &[OwnerState]) -> Verdict {
    let lost: Vec<Uid> = node
        .owners
        .iter()
        .zip(owners)
        .filter(|(_, state)| matches!(state, OwnerState::Absent | OwnerState::Waiting))
        .map(|(reference, _)| reference.uid.clone())
        .collect();
    if lost.is_empty() {
        Verdict::Keep
    } else {
        Verdict::DropOwners(lost)
    }
}

/// The policy that the object's own finalizers ask for.
fn policy_of(finalizers: &[String]) -> PropagationPolicy {
    if has(finalizers, ORPHAN) {
        PropagationPolicy::Orphan
    } else if has(finalizers, FOREGROUND) {
        PropagationPolicy::Foreground
    } else {
        PropagationPolicy::Background
    }
}

fn has(finalizers: &[String], finalizer: &str) -> bool {
    finalizers.iter().any(|name| name == finalizer)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kube::api::PropagationPolicy;

    use super::{
        FOREGROUND, ORPHAN,
        OwnerState::{Absent, Present, Unknown, Waiting},
        Verdict, decide,
    };
    use crate::inventory::{Node, graph_tests::node};

    #[track_caller]
    fn check(owners: &[super::OwnerState], dependents: &[&str], expected: &Verdict) {
        let names: Vec<String> = (0..owners.len())
            .map(|index| format!("owner-{index}"))
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let dependents: Vec<Arc<Node>> = dependents
            .iter()
            .map(|uid| Arc::new(node(uid, &["x"])))
            .collect();
        assert_eq!(decide(&node("x", &names), owners, &dependents), *expected);
    }

    #[test]
    fn an_object_goes_when_no_owner_keeps_it() {
        let background = Verdict::Delete(PropagationPolicy::Background);
        check(&[], &[], &Verdict::Keep);
        check(&[Present], &[], &Verdict::Keep);
        check(&[Unknown], &[], &Verdict::Keep);
        check(&[Absent], &[], &background);
        check(&[Absent, Absent], &["child"], &background);
        check(
            &[Absent, Unknown],
            &[],
            &Verdict::DropOwners(vec!["owner-0".to_owned()]),
        );
        check(
            &[Present, Absent],
            &[],
            &Verdict::DropOwners(vec!["owner-1".to_owned()]),
        );
        check(
            &[Present, Waiting],
            &[],
            &Verdict::DropOwners(vec!["owner-1".to_owned()]),
        );
        check(&[Waiting], &[], &background);
        check(
            &[Waiting, Absent],
            &["child"],
            &Verdict::Delete(PropagationPolicy::Foreground),
        );
    }

    #[track_caller]
    fn check_going(finalizer: &str, dependents: &[Node], expected: &Verdict) {
        let going = Node {
            is_going: true,
            finalizers: vec![finalizer.to_owned()],
            ..node("x", &[])
        };
        let dependents: Vec<Arc<Node>> = dependents.iter().cloned().map(Arc::new).collect();
        assert_eq!(decide(&going, &[], &dependents), *expected);
    }

    #[test]
    fn foreground_deletion_waits_for_blocking_dependents_only() {
        let mut unblocking = node("child", &["x"]);
        unblocking.owners[0].block_owner_deletion = None;
        check_going(FOREGROUND, &[node("child", &["x"])], &Verdict::Keep);
        check_going(FOREGROUND, &[unblocking], &Verdict::Release(FOREGROUND));
        check_going(FOREGROUND, &[], &Verdict::Release(FOREGROUND));
        check_going(ORPHAN, &[node("child", &["x"])], &Verdict::Orphan(ORPHAN));
        check_going("example.com/own", &[], &Verdict::Keep);
    }
}
