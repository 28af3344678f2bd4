//! What is served: one dynamic entry per kind, built in or defined by a custom resource definition.

mod builtin;
pub(crate) mod custom;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::RwLock;

use crate::machinery::builtin::schema as builtin_schema;
use crate::machinery::crd::ScalePaths;
use crate::machinery::schema::Structural;

pub(crate) use custom::CustomKind;

/// The verbs of a resource, as discovery lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbs {
    /// Everything.
    All,
    /// Everything but the deletion of a whole collection.
    NoCollectionDeletion,
    /// Only asking a question by creating it.
    CreateOnly,
}

impl Verbs {
    pub(crate) fn names(self) -> &'static [&'static str] {
        match self {
            Self::All => &[
                "create",
                "delete",
                "deletecollection",
                "get",
                "list",
                "patch",
                "update",
                "watch",
            ],
            Self::NoCollectionDeletion => &[
                "create", "delete", "get", "list", "patch", "update", "watch",
            ],
            Self::CreateOnly => &["create"],
        }
    }
}

/// A path under an object.
#[derive(Debug, Clone)]
pub(crate) struct Subresource {
    pub(crate) name: String,
    /// Group and version of its kind where they are not the resource's own.
    pub(crate) group_version: Option<(&'static str, &'static str)>,
    pub(crate) kind: String,
    pub(crate) verbs: &'static [&'static str],
}

/// How a kind came to be.
#[derive(Debug, Clone)]
pub(crate) enum Origin {
    /// It is part of Kubernetes.
    BuiltIn,
    /// A definition describes it.
    Custom(Arc<CustomKind>),
}

/// One kind in one version.
#[derive(Debug, Clone)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) singular: String,
    pub(crate) kind: String,
    pub(crate) list_kind: String,
    pub(crate) namespaced: bool,
    pub(crate) short_names: Vec<String>,
    pub(crate) categories: Vec<String>,
    pub(crate) verbs: Verbs,
    pub(crate) subresources: Vec<Subresource>,
    pub(crate) scale: Option<ScalePaths>,
    /// Where the objects lie in the store.
    pub(crate) shelf: Arc<str>,
    /// Paths that field selectors may name, beside name and namespace.
    pub(crate) field_labels: Vec<String>,
    pub(crate) origin: Origin,
}

impl Resource {
    /// The resource of a call before its path was looked up.
    pub(crate) fn unknown() -> Self {
        Self {
            group: String::new(),
            version: String::new(),
            plural: String::new(),
            singular: String::new(),
            kind: String::new(),
            list_kind: String::new(),
            namespaced: false,
            short_names: Vec::new(),
            categories: Vec::new(),
            verbs: Verbs::CreateOnly,
            subresources: Vec::new(),
            scale: None,
            shelf: Arc::from(""),
            field_labels: Vec::new(),
            origin: Origin::BuiltIn,
        }
    }

    /// The schema that its objects follow; custom kinds may have none.
    pub(crate) fn schema(&self) -> Option<&Structural> {
        match &self.origin {
            Origin::BuiltIn => builtin_schema(&self.group, &self.version, &self.kind),
            Origin::Custom(custom) => Some(&custom.schema),
        }
    }

    /// `group/version`, or the version in the core group.
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    /// Whether the object's status has an endpoint of its own.
    pub(crate) fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }

    pub(crate) fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources
            .iter()
            .find(|subresource| subresource.name == name)
    }

    pub(crate) fn custom(&self) -> Option<&Arc<CustomKind>> {
        match &self.origin {
            Origin::BuiltIn => None,
            Origin::Custom(custom) => Some(custom),
        }
    }

    /// Whether this is the built-in resource of that group and name.
    pub(crate) fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// The key of an object on the shelf.
    pub(crate) fn key(&self, namespace: Option<&str>, name: &str) -> String {
        match namespace {
            Some(namespace) if self.namespaced => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        }
    }
}

/// Group, version and plural.
type ResourceName = (String, String, String);

/// Everything that is served at one time.
#[derive(Debug, Default, Clone)]
pub(crate) struct Catalog {
    resources: HashMap<ResourceName, Arc<Resource>>,
    /// Groups in serving order with their versions, preferred first.
    groups: Vec<(String, Vec<String>)>,
    /// Rises with every change.
    pub(crate) generation: u64,
}

impl Catalog {
    pub(crate) fn resource(
        &self,
        group: &str,
        version: &str,
        plural: &str,
    ) -> Option<&Arc<Resource>> {
        self.resources
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
    }

    /// The groups but the core one, with their versions.
    pub(crate) fn groups(&self) -> &[(String, Vec<String>)] {
        &self.groups
    }

    pub(crate) fn has(&self, group: &str, version: &str) -> bool {
        (group.is_empty() && version == "v1")
            || self
                .groups
                .iter()
                .any(|(name, versions)| name == group && versions.iter().any(|one| one == version))
    }

    /// The resources of a group version, ordered by name.
    pub(crate) fn of(&self, group: &str, version: &str) -> Vec<Arc<Resource>> {
        let mut found: Vec<Arc<Resource>> = self
            .resources
            .values()
            .filter(|resource| resource.group == group && resource.version == version)
            .cloned()
            .collect();
        found.sort_by(|left, right| left.plural.cmp(&right.plural));
        found
    }

    /// Each shelf once with a resource that reads it.
    pub(crate) fn shelves(&self) -> BTreeMap<Arc<str>, Arc<Resource>> {
        let stored = self
            .resources
            .values()
            .filter(|resource| resource.verbs != Verbs::CreateOnly);
        let mut shelves: BTreeMap<Arc<str>, Arc<Resource>> = BTreeMap::new();
        for resource in stored {
            let kept = shelves
                .entry(Arc::clone(&resource.shelf))
                .or_insert_with(|| Arc::clone(resource));
            // Events have two views; the core one is what is stored.
            if resource.group.is_empty() {
                *kept = Arc::clone(resource);
            }
        }
        shelves
    }

    fn add(&mut self, resource: Resource) {
        if !resource.group.is_empty() {
            let found = self
                .groups
                .iter()
                .position(|(name, _)| *name == resource.group);
            let index = found.unwrap_or_else(|| {
                self.groups.push((resource.group.clone(), Vec::new()));
                self.groups.len() - 1
            });
            if let Some((_, versions)) = self.groups.get_mut(index)
                && !versions.contains(&resource.version)
            {
                versions.push(resource.version.clone());
                versions.sort_by(|left, right| {
                    custom::version_priority(right).cmp(&custom::version_priority(left))
                });
            }
        }
        let name = (
            resource.group.clone(),
            resource.version.clone(),
            resource.plural.clone(),
        );
        self.resources.insert(name, Arc::new(resource));
    }
}

/// The catalog that changes when definitions do.
#[derive(Debug)]
pub(crate) struct Registry {
    catalog: RwLock<Arc<Catalog>>,
    /// The kinds of each definition, as of a revision.
    custom: RwLock<BTreeMap<String, (u64, Vec<Resource>)>>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let registry = Self {
            catalog: RwLock::default(),
            custom: RwLock::default(),
        };
        registry.rebuild();
        registry
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read())
    }

    /// Serves the kinds of a definition instead of those it had.
    pub(crate) fn define(&self, definition: &str, revision: u64, resources: Vec<Resource>) {
        {
            let mut custom = self.custom.write();
            // Whoever read an older state comes too late.
            if custom
                .get(definition)
                .is_some_and(|(known, _)| *known > revision)
            {
                return;
            }
            custom.insert(definition.to_owned(), (revision, resources));
        }
        self.rebuild();
    }

    /// Stops serving the kinds of a definition.
    pub(crate) fn forget(&self, definition: &str) {
        if self.custom.write().remove(definition).is_some() {
            self.rebuild();
        }
    }

    fn rebuild(&self) {
        let mut catalog = Catalog::default();
        for resource in builtin::resources() {
            catalog.add(resource);
        }
        for resource in self
            .custom
            .read()
            .values()
            .flat_map(|(_, resources)| resources)
        {
            catalog.add(resource.clone());
        }
        let mut current = self.catalog.write();
        catalog.generation = current.generation + 1;
        *current = Arc::new(catalog);
    }
}
