//! Kinds that a custom resource definition describes.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Origin, Resource, Subresource, Verbs};
use crate::clock;
use crate::machinery::crd::ScalePaths;
use crate::machinery::schema::Structural;

/// The finalizer that deletes the instances before the definition goes.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// Where definitions lie.
pub(crate) const SHELF: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// What only a custom kind has.
#[derive(Debug)]
pub(crate) struct CustomKind {
    /// The name of the definition.
    pub(crate) definition: String,
    pub(crate) schema: Structural,
    /// The schema as it was written, for documents.
    pub(crate) raw_schema: Value,
    /// The `apiVersion` in which objects are stored.
    pub(crate) storage_version: String,
    /// `additionalPrinterColumns`.
    pub(crate) columns: Value,
    pub(crate) has_status: bool,
    /// Objects that were written before this revision may lack defaults.
    pub(crate) since: u64,
    /// The definition is being deleted: nothing new may be created.
    pub(crate) is_terminating: bool,
    /// What clients are told when they use the version.
    pub(crate) deprecation: Option<String>,
}

/// Fills what a definition may leave out.
pub(crate) fn default_definition(definition: &mut Value) {
    crate::machinery::crd::default(definition);
    let columns =
        json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]);
    let versions = definition["spec"]
        .get_mut("versions")
        .and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        let empty = version
            .get("additionalPrinterColumns")
            .and_then(Value::as_array)
            .is_some_and(Vec::is_empty);
        if empty {
            version["additionalPrinterColumns"] = columns.clone();
        }
    }
}

/// The status of a definition that was just created.
pub(crate) fn initial_status(definition: &Value) -> Value {
    let stored: Vec<&Value> = versions(definition)
        .filter(|version| version["storage"] == true)
        .map(|version| &version["name"])
        .collect();
    json!({"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored})
}

/// Accepts the names of a definition and establishes it, unless another has them; nothing when that is so already.
pub(crate) fn establish(definition: &Value, others: &[Value]) -> Option<Value> {
    let mut next = definition.clone();
    let names = definition["spec"]["names"].clone();
    let taken = conflict(definition, others);
    let (accepted, established) = match &taken {
        None => (
            condition("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "True",
                "InitialNamesAccepted",
                "the initial names have been accepted",
            ),
        ),
        Some(why) => (
            condition("NamesAccepted", "False", why.0, &why.1),
            condition(
                "Established",
                "False",
                "NotAccepted",
                "not all names are accepted",
            ),
        ),
    };
    let was_established = is_established(definition);
    set_condition(&mut next, accepted);
    if !was_established || taken.is_none() {
        set_condition(&mut next, established);
    }
    if taken.is_none() {
        next["status"]["acceptedNames"] = names;
    }
    let storage = versions(definition)
        .find(|version| version["storage"] == true)
        .map(|version| version["name"].clone());
    let stored = next["status"]
        .get_mut("storedVersions")
        .and_then(Value::as_array_mut);
    match (stored, storage) {
        (Some(stored), Some(name)) if !stored.contains(&name) => stored.push(name),
        _ => {}
    }
    (next != *definition).then_some(next)
}

/// Says that a definition is going, and how far that is.
pub(crate) fn terminating(definition: &mut Value, reason: &str, message: &str) {
    set_condition(
        definition,
        condition("Terminating", "True", reason, message),
    );
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "lastTransitionTime": clock::now(), "reason": reason, "message": message})
}

fn set_condition(definition: &mut Value, mut condition: Value) {
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = definition["status"]["conditions"].as_array_mut() else {
        return;
    };
    let Some(found) = conditions
        .iter_mut()
        .find(|one| one["type"] == condition["type"])
    else {
        conditions.push(condition);
        return;
    };
    if found["status"] == condition["status"] {
        condition["lastTransitionTime"] = found["lastTransitionTime"].clone();
    }
    *found = condition;
}

fn conflict(definition: &Value, others: &[Value]) -> Option<(&'static str, String)> {
    let names = &definition["spec"]["names"];
    let others = others.iter().filter(|other| {
        other["spec"]["group"] == definition["spec"]["group"]
            && other["metadata"]["name"] != definition["metadata"]["name"]
    });
    for other in others {
        let taken = &other["status"]["acceptedNames"];
        for (name, reason) in [
            ("plural", "PluralConflict"),
            ("singular", "SingularConflict"),
            ("kind", "KindConflict"),
            ("listKind", "ListKindConflict"),
        ] {
            if names[name].is_string() && names[name] == taken[name] {
                return Some((reason, format!("{} is already in use", names[name])));
            }
        }
    }
    None
}

/// Whether the kinds of a definition are served.
pub(crate) fn is_established(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Established" && condition["status"] == "True")
}

fn versions(definition: &Value) -> impl Iterator<Item = &Value> {
    definition["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
}

/// The resources of an established definition as stored at `since`.
pub(crate) fn resources(definition: &Value, since: u64) -> Vec<Resource> {
    if !is_established(definition) {
        return Vec::new();
    }
    let group = text(&definition["spec"]["group"]);
    let storage = versions(definition)
        .find(|version| version["storage"] == true)
        .map(|version| text(&version["name"]));
    let storage_version = format!("{group}/{}", storage.unwrap_or_default());
    let served = versions(definition).filter(|version| version["served"] == true);
    served
        .map(|version| resource(definition, version, &storage_version, since))
        .collect()
}

fn resource(definition: &Value, version: &Value, storage_version: &str, since: u64) -> Resource {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let list = |value: &Value| {
        value
            .as_array()
            .into_iter()
            .flatten()
            .map(text)
            .collect::<Vec<String>>()
    };
    let raw_schema = version["schema"]["openAPIV3Schema"].clone();
    let schema = Structural::from_crd_schema(&raw_schema).unwrap_or_else(|causes| {
        tracing::warn!(definition = %definition["metadata"]["name"], faults = causes.len(), "stored schema is not structural");
        Structural { preserves_unknown: true, ..Structural::default() }
    });
    let (group, kind) = (text(&spec["group"]), text(&names["kind"]));
    let subresources = &version["subresources"];
    let scale = subresources.get("scale").map(ScalePaths::read);
    let deprecation = (version["deprecated"] == true).then(|| {
        let given = version["deprecationWarning"].as_str();
        given.map_or_else(
            || format!("{group}/{} {kind} is deprecated", text(&version["name"])),
            str::to_owned,
        )
    });
    let custom = CustomKind {
        definition: text(&definition["metadata"]["name"]),
        schema,
        raw_schema,
        storage_version: storage_version.to_owned(),
        columns: version["additionalPrinterColumns"].clone(),
        has_status: subresources.get("status").is_some(),
        since,
        is_terminating: definition["metadata"].get("deletionTimestamp").is_some(),
        deprecation,
    };
    let selectable = version["selectableFields"].as_array().into_iter().flatten();
    Resource {
        version: text(&version["name"]),
        plural: text(&names["plural"]),
        singular: text(&names["singular"]),
        list_kind: text(&names["listKind"]),
        namespaced: spec["scope"] == "Namespaced",
        short_names: list(&names["shortNames"]),
        categories: list(&names["categories"]),
        verbs: Verbs::All,
        subresources: served_subresources(&kind, custom.has_status, scale.is_some()),
        scale,
        shelf: Arc::from(format!("{group}/{}", text(&names["plural"]))),
        field_labels: selectable
            .map(|field| text(&field["jsonPath"]).trim_start_matches('.').to_owned())
            .collect(),
        origin: Origin::Custom(Arc::new(custom)),
        group,
        kind,
    }
}

fn served_subresources(kind: &str, has_status: bool, has_scale: bool) -> Vec<Subresource> {
    let verbs: &'static [&'static str] = &["get", "patch", "update"];
    let mut out = Vec::new();
    if has_status {
        out.push(Subresource {
            name: "status".to_owned(),
            group_version: None,
            kind: kind.to_owned(),
            verbs,
        });
    }
    if has_scale {
        let group_version = Some(("autoscaling", "v1"));
        out.push(Subresource {
            name: "scale".to_owned(),
            group_version,
            kind: "Scale".to_owned(),
            verbs,
        });
    }
    out
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Orders versions as Kubernetes prefers them: stable before beta before alpha, newer before older.
pub(crate) fn version_priority(version: &str) -> (u8, u64, u64) {
    let parsed = || {
        let rest = version.strip_prefix('v')?;
        let end = rest
            .find(|symbol: char| !symbol.is_ascii_digit())
            .unwrap_or(rest.len());
        let major: u64 = rest.get(..end)?.parse().ok()?;
        let tail = rest.get(end..)?;
        let minor = |tail: &str| {
            if tail.is_empty() {
                Some(0)
            } else {
                tail.parse().ok()
            }
        };
        if tail.is_empty() {
            Some((3, major, 0))
        } else if let Some(tail) = tail.strip_prefix("beta") {
            Some((2, major, minor(tail)?))
        } else {
            Some((1, major, minor(tail.strip_prefix("alpha")?)?))
        }
    };
    parsed().unwrap_or((0, 0, 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "v2beta1", "v1", "foo", "v10", "v2", "v1beta2"];
        versions.sort_by_key(|version| std::cmp::Reverse(version_priority(version)));
        assert_eq!(
            versions,
            ["v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "foo"]
        );
    }
}
