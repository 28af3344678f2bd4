//! The roles and bindings that every cluster starts with, from `data/roles.yaml`.

use serde::Deserialize;
use serde_json::{Value, json};

use super::rbac::Rule;

const ROLES: &str = include_str!("../../data/roles.yaml");

/// The file.
#[derive(Deserialize)]
struct Defaults {
    #[serde(rename = "clusterroles")]
    roles: Vec<Role>,
    #[serde(rename = "clusterrolebindings")]
    bindings: Vec<Binding>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Role {
    name: String,
    /// The role that has the rules of this one, too.
    aggregates_into: Option<String>,
    /// The role has the rules of those that aggregate into it.
    #[serde(default)]
    is_aggregate: bool,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Binding {
    name: String,
    role: String,
    groups: Vec<String>,
}

/// Each object with the plural of its kind.
///
/// # Errors
/// When the file is not as it should be; a test sees to that.
pub(crate) fn objects() -> Result<Vec<(&'static str, Value)>, String> {
    let defaults: Defaults = serde_norway::from_str(ROLES).map_err(|error| error.to_string())?;
    let roles = defaults.roles.iter().map(|one| ("clusterroles", role(one)));
    let bindings = defaults
        .bindings
        .iter()
        .map(|one| ("clusterrolebindings", binding(one)));
    Ok(roles.chain(bindings).collect())
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn aggregation_label(into: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{into}")
}

fn role(role: &Role) -> Value {
    let mut object = json!({"metadata": metadata(&role.name), "rules": role.rules});
    if let Some(into) = &role.aggregates_into {
        object["metadata"]["labels"][aggregation_label(into)] = json!("true");
    }
    if role.is_aggregate {
        let labels = json!({aggregation_label(&role.name): "true"});
        object["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
    }
    object
}

fn binding(binding: &Binding) -> Value {
    let group = "rbac.authorization.k8s.io";
    let subject = |name: &String| json!({"kind": "Group", "apiGroup": group, "name": name});
    json!({
        "metadata": metadata(&binding.name),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": binding.role},
        "subjects": binding.groups.iter().map(subject).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_names_the_roles_that_people_expect() {
        let objects = objects().unwrap();
        for name in [
            "cluster-admin",
            "admin",
            "edit",
            "view",
            "system:basic-user",
        ] {
            assert!(
                objects
                    .iter()
                    .any(|(_, object)| object["metadata"]["name"] == name),
                "{name}"
            );
        }
    }
}
