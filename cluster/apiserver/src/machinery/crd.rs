//! Custom resource definitions: their defaults, their faults, and what of them the registry needs.

mod versions;

use serde_json::{Map, Value, json};

use self::versions::check_versions;
use crate::status::Cause;

/// Where the scale subresource finds its numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ScalePaths {
    /// For example `.spec.replicas`.
    pub spec_replicas: String,
    /// For example `.status.replicas`.
    pub status_replicas: String,
    /// For example `.status.selector`; empty when the kind has none.
    pub selector: String,
}

impl ScalePaths {
    /// Reads `subresources.scale` of a version.
    pub fn read(scale: &Value) -> Self {
        Self {
            spec_replicas: text(scale, "specReplicasPath").to_owned(),
            status_replicas: text(scale, "statusReplicasPath").to_owned(),
            selector: text(scale, "labelSelectorPath").to_owned(),
        }
    }

    /// Replica counts are whole and not negative.
    pub fn check(&self, value: &Value) -> Vec<Cause> {
        let mut causes = Vec::new();
        for path in [&self.spec_replicas, &self.status_replicas] {
            let Some(replicas) = at_path(value, path) else {
                continue;
            };
            match replicas.as_i64() {
                Some(number) if number < 0 => {
                    causes.push(Cause::invalid(
                        path.clone(),
                        replicas,
                        "should be a non-negative integer",
                    ));
                }
                Some(number) if number > i64::from(i32::MAX) => {
                    let detail = format!("should be less than or equal to {}", i32::MAX);
                    causes.push(Cause::invalid(path.clone(), replicas, &detail));
                }
                Some(_) | None => {}
            }
        }
        causes
    }
}

/// The value at a simple path such as `.spec.replicas`.
pub fn at_path<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .filter(|part| !part.is_empty())
        .try_fold(value, |value, part| value.get(part))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Fills what a definition may leave out.
pub fn default(definition: &mut Value) {
    let Some(spec) = definition.get_mut("spec").and_then(Value::as_object_mut) else {
        return;
    };
    spec.entry("conversion")
        .or_insert_with(|| json!({"strategy": "None"}));
    if let Some(names) = spec.get_mut("names").and_then(Value::as_object_mut) {
        let kind = names
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let is_empty = |names: &Map<String, Value>, key: &str| {
            names
                .get(key)
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
        };
        if is_empty(names, "singular") {
            names.insert("singular".to_owned(), json!(kind.to_lowercase()));
        }
        if is_empty(names, "listKind") {
            names.insert("listKind".to_owned(), json!(format!("{kind}List")));
        }
    }
}

/// The faults of a definition that has its defaults.
pub fn validate(definition: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let empty = Value::Null;
    let spec = definition.get("spec").unwrap_or(&empty);
    let (plural, group) = (
        text(spec.get("names").unwrap_or(&empty), "plural"),
        text(spec, "group"),
    );
    let name = text(definition.get("metadata").unwrap_or(&empty), "name");
    if name != format!("{plural}.{group}") {
        let detail = "must be spec.names.plural+\".\"+spec.group";
        causes.push(Cause::invalid("metadata.name", &json!(name), detail));
    }
    check_names(spec, &mut causes);
    let versions = spec
        .get("versions")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    check_versions(versions, &mut causes);
    causes
}

fn check_names(spec: &Value, causes: &mut Vec<Cause>) {
    if text(spec, "group").is_empty() {
        causes.push(Cause::required("spec.group", ""));
    } else if !text(spec, "group").contains('.') {
        causes.push(Cause::invalid(
            "spec.group",
            &json!(text(spec, "group")),
            "should be a domain with at least one dot",
        ));
    }
    let scope = text(spec, "scope");
    let scopes = ["Cluster", "Namespaced"].map(str::to_owned);
    if scope.is_empty() {
        causes.push(Cause::required("spec.scope", ""));
    } else if !scopes.iter().any(|one| one == scope) {
        causes.push(Cause::not_supported("spec.scope", &json!(scope), &scopes));
    }
    let empty = Value::Null;
    let names = spec.get("names").unwrap_or(&empty);
    for key in ["plural", "singular", "kind", "listKind"] {
        if text(names, key).is_empty() {
            causes.push(Cause::required(format!("spec.names.{key}"), ""));
        }
    }
    for key in ["plural", "singular"] {
        let name = text(names, key);
        if !name.is_empty() && !is_label(name) {
            let detail = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
                character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
                '[a-z]([-a-z0-9]*[a-z0-9])?')";
            causes.push(Cause::invalid(
                format!("spec.names.{key}"),
                &json!(name),
                detail,
            ));
        }
    }
    if !text(names, "kind").is_empty() && text(names, "kind") == text(names, "listKind") {
        let detail = "kind and listKind may not be the same";
        causes.push(Cause::invalid(
            "spec.names.listKind",
            &json!(text(names, "listKind")),
            detail,
        ));
    }
}

fn is_label(name: &str) -> bool {
    name.len() <= 63
        && name.starts_with(|symbol: char| symbol.is_ascii_lowercase())
        && name.ends_with(|symbol: char| symbol.is_ascii_lowercase() || symbol.is_ascii_digit())
        && name
            .chars()
            .all(|symbol| symbol.is_ascii_lowercase() || symbol.is_ascii_digit() || symbol == '-')
}

#[cfg(test)]
mod tests;
