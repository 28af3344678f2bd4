//! Who owns whom, by uid; pure.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, DynamicObject, PartialObjectMeta};

use crate::cache::Key;

/// An object's uid.
pub(crate) type Uid = String;

/// The finalizer that keeps an object until the dependents that block it are gone.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";

/// What matters of one object.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    /// Its uid.
    pub(crate) uid: Uid,
    /// Its kind.
    pub(crate) resource: Arc<ApiResource>,
    /// Its namespace and name.
    pub(crate) key: Key,
    /// The version that this was read from.
    pub(crate) resource_version: Option<String>,
    /// Who owns it.
    pub(crate) owners: Vec<OwnerReference>,
    /// What has to happen before it goes.
    pub(crate) finalizers: Vec<String>,
    /// Whether it is being deleted.
    pub(crate) is_going: bool,
}

impl Node {
    /// The node of an object.
    pub(crate) fn new(
        resource: &Arc<ApiResource>,
        object: PartialObjectMeta<DynamicObject>,
    ) -> Self {
        let key = Key::of(&object);
        let meta = object.metadata;
        Self {
            uid: meta.uid.unwrap_or_default(),
            resource: Arc::clone(resource),
            key,
            resource_version: meta.resource_version,
            owners: meta.owner_references.unwrap_or_default(),
            finalizers: meta.finalizers.unwrap_or_default(),
            is_going: meta.deletion_timestamp.is_some(),
        }
    }

    /// Whether it waits for its dependents to go.
    pub(crate) fn waits_for_dependents(&self) -> bool {
        self.is_going
            && self
                .finalizers
                .iter()
                .any(|finalizer| finalizer == FOREGROUND)
    }
}

/// Who owns whom.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: HashMap<Uid, Arc<Node>>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
}

impl Graph {
    /// One object.
    pub(crate) fn get(&self, uid: &Uid) -> Option<Arc<Node>> {
        self.nodes.get(uid).map(Arc::clone)
    }

    /// The objects that name `uid` as owner.
    pub(crate) fn dependents(&self, uid: &Uid) -> Vec<Arc<Node>> {
        let Some(dependents) = self.dependents.get(uid) else {
            return Vec::new();
        };
        dependents
            .iter()
            .filter_map(|dependent| self.get(dependent))
            .collect()
    }

    /// All objects that have owners.
    pub(crate) fn owned(&self) -> Vec<Uid> {
        self.dependents
            .values()
            .flatten()
            .cloned()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect()
    }

    /// Takes the new state of an object and returns whom to look at.
    pub(crate) fn put(&mut self, node: Node) -> BTreeSet<Uid> {
        let mut affected = BTreeSet::new();
        let old = self.nodes.get(&node.uid).map(Arc::clone);
        if let Some(old) = &old {
            self.unlink(old);
            affected.extend(self.waiting_owners(old));
        }
        for owner in &node.owners {
            self.dependents
                .entry(owner.uid.clone())
                .or_default()
                .insert(node.uid.clone());
        }
        if !node.owners.is_empty() || node.is_going {
            affected.insert(node.uid.clone());
        }
        if node.waits_for_dependents() && !old.is_some_and(|old| old.waits_for_dependents()) {
            affected.extend(
                self.dependents
                    .get(&node.uid)
                    .into_iter()
                    .flatten()
                    .cloned(),
            );
        }
        self.nodes.insert(node.uid.clone(), Arc::new(node));
        affected
    }

    /// Forgets an object and returns it, and whom to look at.
    pub(crate) fn remove(&mut self, uid: &Uid) -> (Option<Arc<Node>>, BTreeSet<Uid>) {
        let Some(node) = self.nodes.remove(uid) else {
            return (None, BTreeSet::new());
        };
        self.unlink(&node);
        let mut affected = self.waiting_owners(&node);
        affected.extend(self.dependents.get(uid).into_iter().flatten().cloned());
        (Some(node), affected)
    }

    fn unlink(&mut self, node: &Node) {
        for owner in &node.owners {
            if let Some(dependents) = self.dependents.get_mut(&owner.uid) {
                dependents.remove(&node.uid);
                if dependents.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
    }

    fn waiting_owners(&self, node: &Node) -> BTreeSet<Uid> {
        let owners = node
            .owners
            .iter()
            .filter_map(|owner| self.nodes.get(&owner.uid));
        owners
            .filter(|owner| owner.is_going)
            .map(|owner| owner.uid.clone())
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::Arc;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use kube::api::ApiResource;

    use super::{FOREGROUND, Graph, Node};
    use crate::cache::Key;

    /// A node with these owners.
    pub(crate) fn node(uid: &str, owners: &[&str]) -> Node {
        let reference = |owner: &&str| OwnerReference {
            uid: (*owner).to_owned(),
            name: (*owner).to_owned(),
            block_owner_deletion: Some(true),
            ..OwnerReference::default()
        };
        Node {
            uid: uid.to_owned(),
            resource: Arc::new(ApiResource {
                group: String::new(),
                version: "v1".to_owned(),
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                plural: "configmaps".to_owned(),
            }),
            key: Key::new("n", uid),
            resource_version: None,
            owners: owners.iter().map(reference).collect(),
            finalizers: Vec::new(),
            is_going: false,
        }
    }

    #[test]
    fn removing_an_owner_affects_its_dependents_and_the_other_way_round() {
        let mut graph = Graph::default();
        assert!(graph.put(node("owner", &[])).is_empty());
        assert_eq!(
            graph
                .put(node("child", &["owner"]))
                .into_iter()
                .collect::<Vec<_>>(),
            ["child"]
        );
        let going = Node {
            is_going: true,
            finalizers: vec![FOREGROUND.to_owned()],
            ..node("owner", &[])
        };
        assert_eq!(
            graph.put(going).into_iter().collect::<Vec<_>>(),
            ["child", "owner"]
        );
        let (_, affected) = graph.remove(&"child".to_owned());
        assert_eq!(affected.into_iter().collect::<Vec<_>>(), ["owner"]);
        assert!(graph.dependents(&"owner".to_owned()).is_empty());
    }

    #[test]
    fn an_absent_owner_still_has_dependents() {
        let mut graph = Graph::default();
        graph.put(node("child", &["never-seen"]));
        assert_eq!(graph.owned(), ["child"]);
        assert_eq!(graph.dependents(&"never-seen".to_owned()).len(), 1);
    }
}
