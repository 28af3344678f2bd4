//! Role-based access: roles and bindings from the store, compiled once per change.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::auth::User;
use crate::store::Store;

const CLUSTER_ROLES: &str = "rbac.authorization.k8s.io/clusterroles";
const CLUSTER_ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/clusterrolebindings";
const ROLES: &str = "rbac.authorization.k8s.io/roles";
const ROLE_BINDINGS: &str = "rbac.authorization.k8s.io/rolebindings";

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access<'a> {
    /// With a resource.
    Resource {
        verb: &'a str,
        group: &'a str,
        /// `pods` or `pods/log`.
        resource: &'a str,
        namespace: Option<&'a str>,
        name: Option<&'a str>,
    },
    /// With a path that is no resource.
    Path { verb: &'a str, path: &'a str },
}

/// One rule of a role.
#[derive(Debug, Clone, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Rule {
    pub(crate) verbs: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resources: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) resource_names: Vec<String>,
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty")]
    pub(crate) non_resource_urls: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    name: String,
    namespace: String,
    labels: Option<HashMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Role {
    metadata: Metadata,
    rules: Option<Vec<Rule>>,
    aggregation_rule: Option<AggregationRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct AggregationRule {
    cluster_role_selectors: Vec<LabelSelector>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct LabelSelector {
    match_labels: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Binding {
    metadata: Metadata,
    role_ref: RoleRef,
    subjects: Option<Vec<Subject>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

/// All roles and bindings, ready to ask.
#[derive(Debug, Default)]
struct Compiled {
    /// The revisions of the four shelves it was made from.
    made_from: [u64; 4],
    cluster_roles: HashMap<String, Vec<Rule>>,
    roles: HashMap<(String, String), Vec<Rule>>,
    bindings: Vec<Binding>,
}

/// Answers whether a user may do something.
#[derive(Debug)]
pub(crate) struct Authorizer {
    store: Arc<Store>,
    compiled: RwLock<Arc<Compiled>>,
}

impl Authorizer {
    pub(crate) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            compiled: RwLock::default(),
        }
    }

    /// Whether the user may.
    pub(crate) fn allows(&self, user: &User, access: Access<'_>) -> bool {
        if user.groups.iter().any(|group| group == "system:masters") {
            return true;
        }
        let compiled = self.compiled();
        let namespace = match access {
            Access::Resource { namespace, .. } => namespace,
            Access::Path { .. } => None,
        };
        compiled
            .rules_of(user, namespace)
            .any(|rule| rule.covers(access))
    }

    /// Whether the user has every right that `rules` give.
    pub(crate) fn covers_all(&self, user: &User, namespace: Option<&str>, rules: &[Rule]) -> bool {
        rules.iter().all(|rule| {
            let mut wanted = rule.each();
            wanted.all(|access| self.allows(user, access.borrow(namespace)))
        })
    }

    /// The rules that hold for a user in a namespace.
    pub(crate) fn rules_of(&self, user: &User, namespace: &str) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        if user.groups.iter().any(|group| group == "system:masters") {
            let all = || vec!["*".to_owned()];
            rules.push(Rule {
                verbs: all(),
                api_groups: all(),
                resources: all(),
                ..Rule::default()
            });
            rules.push(Rule {
                verbs: all(),
                non_resource_urls: all(),
                ..Rule::default()
            });
        }
        rules.extend(self.compiled().rules_of(user, Some(namespace)).cloned());
        rules
    }

    /// The rules of a role that a binding refers to.
    pub(crate) fn rules_of_role(&self, kind: &str, name: &str, namespace: &str) -> Vec<Rule> {
        let compiled = self.compiled();
        let found = match kind {
            "ClusterRole" => compiled.cluster_roles.get(name),
            _ => compiled.roles.get(&(namespace.to_owned(), name.to_owned())),
        };
        found.cloned().unwrap_or_default()
    }

    fn compiled(&self) -> Arc<Compiled> {
        let shelves = [CLUSTER_ROLES, CLUSTER_ROLE_BINDINGS, ROLES, ROLE_BINDINGS];
        let revisions = shelves.map(|shelf| self.store.shelf_revision(shelf));
        let found = Arc::clone(&self.compiled.read());
        if found.made_from == revisions {
            return found;
        }
        let fresh = Arc::new(compile(&self.store, revisions));
        *self.compiled.write() = Arc::clone(&fresh);
        fresh
    }
}

fn read<T: for<'de> Deserialize<'de>>(store: &Store, shelf: &str) -> Vec<T> {
    let snapshot = store.snapshot(shelf);
    snapshot
        .entries
        .values()
        .filter_map(|entry| serde_json::from_slice(&entry.bytes).ok())
        .collect()
}

fn compile(store: &Store, made_from: [u64; 4]) -> Compiled {
    let cluster_roles: Vec<Role> = read(store, CLUSTER_ROLES);
    let mut compiled = Compiled {
        made_from,
        ..Compiled::default()
    };
    for role in &cluster_roles {
        let mut rules = role.rules.clone().unwrap_or_default();
        if let Some(aggregation) = &role.aggregation_rule {
            rules = aggregate(aggregation, &cluster_roles);
        }
        compiled
            .cluster_roles
            .insert(role.metadata.name.clone(), rules);
    }
    for role in read::<Role>(store, ROLES) {
        let key = (role.metadata.namespace, role.metadata.name);
        compiled.roles.insert(key, role.rules.unwrap_or_default());
    }
    compiled.bindings = read(store, CLUSTER_ROLE_BINDINGS);
    compiled
        .bindings
        .extend(read::<Binding>(store, ROLE_BINDINGS));
    compiled
}

fn aggregate(aggregation: &AggregationRule, roles: &[Role]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for role in roles {
        let labels = role.metadata.labels.as_ref();
        let chosen = aggregation.cluster_role_selectors.iter().any(|selector| {
            !selector.match_labels.is_empty()
                && selector
                    .match_labels
                    .iter()
                    .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
        });
        if !chosen {
            continue;
        }
        for rule in role.rules.iter().flatten() {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

/// The rules that an aggregated cluster role should show, computed from the store; nothing when it does not aggregate.
pub(crate) fn aggregated_rules(store: &Store, name: &str) -> Option<Vec<Rule>> {
    let roles: Vec<Role> = read(store, CLUSTER_ROLES);
    let role = roles.iter().find(|role| role.metadata.name == name)?;
    Some(aggregate(role.aggregation_rule.as_ref()?, &roles))
}

impl Compiled {
    fn rules_of<'a>(
        &'a self,
        user: &'a User,
        namespace: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Rule> {
        let bindings = self.bindings.iter().filter(move |binding| {
            let within = binding.metadata.namespace.as_str();
            (within.is_empty() || Some(within) == namespace) && binding.binds(user)
        });
        bindings.filter_map(|binding| self.role(binding)).flatten()
    }

    fn role(&self, binding: &Binding) -> Option<&Vec<Rule>> {
        match binding.role_ref.kind.as_str() {
            "ClusterRole" => self.cluster_roles.get(&binding.role_ref.name),
            _ => self.roles.get(&(
                binding.metadata.namespace.clone(),
                binding.role_ref.name.clone(),
            )),
        }
    }
}

impl Binding {
    fn binds(&self, user: &User) -> bool {
        self.subjects
            .iter()
            .flatten()
            .any(|subject| match subject.kind.as_str() {
                "User" => subject.name == user.name,
                "Group" => user.groups.contains(&subject.name),
                "ServiceAccount" => {
                    let namespace = if subject.namespace.is_empty() {
                        &self.metadata.namespace
                    } else {
                        &subject.namespace
                    };
                    user.name
                        .strip_prefix("system:serviceaccount:")
                        .and_then(|rest| rest.split_once(':'))
                        == Some((namespace.as_str(), subject.name.as_str()))
                }
                _ => false,
            })
    }
}

/// One right, spelled out.
struct Right {
    verb: String,
    group: String,
    resource: String,
    name: Option<String>,
    path: Option<String>,
}

impl Right {
    fn borrow<'a>(&'a self, namespace: Option<&'a str>) -> Access<'a> {
        match &self.path {
            Some(path) => Access::Path {
                verb: &self.verb,
                path,
            },
            None => Access::Resource {
                verb: &self.verb,
                group: &self.group,
                resource: &self.resource,
                namespace,
                name: self.name.as_deref(),
            },
        }
    }
}

impl Rule {
    /// Whether the rule allows the access.
    pub(crate) fn covers(&self, access: Access<'_>) -> bool {
        match access {
            Access::Resource {
                verb,
                group,
                resource,
                namespace: _,
                name,
            } => {
                has(&self.verbs, verb)
                    && has(&self.api_groups, group)
                    && self.has_resource(resource)
                    && (self.resource_names.is_empty()
                        || name
                            .is_some_and(|name| self.resource_names.iter().any(|one| one == name)))
            }
            Access::Path { verb, path } => {
                has(&self.verbs, verb)
                    && self.non_resource_urls.iter().any(|allowed| {
                        match allowed.strip_suffix('*') {
                            Some(prefix) => path.starts_with(prefix),
                            None => allowed == path,
                        }
                    })
            }
        }
    }

    fn has_resource(&self, resource: &str) -> bool {
        let subresource = resource.split_once('/').map(|(_, subresource)| subresource);
        self.resources.iter().any(|allowed| {
            allowed == "*"
                || allowed == resource
                || subresource
                    .is_some_and(|subresource| allowed.strip_prefix("*/") == Some(subresource))
        })
    }

    fn each(&self) -> impl Iterator<Item = Right> {
        let mut rights = Vec::new();
        for verb in &self.verbs {
            for path in &self.non_resource_urls {
                let (verb, path) = (verb.clone(), Some(path.clone()));
                rights.push(Right {
                    verb,
                    group: String::new(),
                    resource: String::new(),
                    name: None,
                    path,
                });
            }
            for group in &self.api_groups {
                for resource in &self.resources {
                    let names = if self.resource_names.is_empty() {
                        vec![None]
                    } else {
                        self.resource_names.iter().cloned().map(Some).collect()
                    };
                    for name in names {
                        let (verb, group, resource) =
                            (verb.clone(), group.clone(), resource.clone());
                        rights.push(Right {
                            verb,
                            group,
                            resource,
                            name,
                            path: None,
                        });
                    }
                }
            }
        }
        rights.into_iter()
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|one| one == "*" || one == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(rule: &serde_json::Value, access: Access<'_>, expected: bool) {
        let rule: Rule = serde_json::from_value(rule.clone()).unwrap();
        assert_eq!(rule.covers(access), expected, "{rule:?} {access:?}");
    }

    fn resource<'a>(
        verb: &'a str,
        group: &'a str,
        resource: &'a str,
        name: Option<&'a str>,
    ) -> Access<'a> {
        Access::Resource {
            verb,
            group,
            resource,
            namespace: None,
            name,
        }
    }

    #[test]
    fn rules_cover_what_they_name() {
        let pods = serde_json::json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"]});
        check(&pods, resource("get", "", "pods", Some("a")), true);
        check(&pods, resource("get", "", "pods/log", Some("a")), false);
        check(&pods, resource("get", "", "things/scale", Some("a")), true);
        check(&pods, resource("delete", "", "pods", None), false);
        check(&pods, resource("get", "apps", "pods", None), false);
        let named = serde_json::json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "resourceNames": ["a"]});
        check(&named, resource("get", "x", "y/z", Some("a")), true);
        check(&named, resource("list", "x", "y", None), false);
        let paths =
            serde_json::json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/openapi/*"]});
        check(
            &paths,
            Access::Path {
                verb: "get",
                path: "/openapi/v3",
            },
            true,
        );
        check(
            &paths,
            Access::Path {
                verb: "get",
                path: "/healthz/x",
            },
            false,
        );
    }
}
