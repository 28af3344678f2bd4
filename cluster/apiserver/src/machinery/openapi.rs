//! OpenAPI v3 documents: one per group and version, for `kubectl explain`, validation and patching by clients.

mod paths;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::builtin;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const REFERENCE: &str = "#/components/schemas/";

/// Where the schema of a resource comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// The embedded data.
    Builtin,
    /// The `openAPIV3Schema` of a custom resource definition.
    Custom(&'a Value),
}

/// A resource as its document describes it.
#[derive(Debug, Clone)]
pub struct Resource<'a> {
    /// For example `Deployment`.
    pub kind: &'a str,
    /// For example `DeploymentList`.
    pub list_kind: &'a str,
    /// For example `deployments`.
    pub plural: &'a str,
    /// Whether its objects are in namespaces.
    pub is_namespaced: bool,
    /// What can be done with it: `get`, `list`, `create`, `update`, `patch`, `delete`, `deletecollection`, `watch`.
    pub verbs: &'a [&'a str],
    /// Names of its subresources, for example `status`.
    pub subresources: &'a [&'a str],
    /// Where its schema comes from.
    pub source: Source<'a>,
}

/// The document of a group and version.
pub fn document(group: &str, version: &str, resources: &[Resource<'_>]) -> Value {
    let mut schemas = Schemas {
        definitions: builtin::raw_definitions(),
        out: Map::new(),
    };
    let mut all_paths = Map::new();
    for resource in resources {
        let names = schemas.add(group, version, resource);
        all_paths.extend(paths::paths(group, version, resource, &names));
    }
    for name in ["DeleteOptions", "Status", "Patch"] {
        schemas.reach(&format!("{META}{name}"));
    }
    all_paths.sort_keys();
    schemas.out.sort_keys();
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": super::VERSION},
        "paths": all_paths,
        "components": {"schemas": schemas.out},
    })
}

/// Names of the schemas of an object and of a list of them.
struct Names {
    object: String,
    list: String,
}

struct Schemas {
    definitions: Map<String, Value>,
    out: Map<String, Value>,
}

impl Schemas {
    /// Adds the schemas of a resource and all they refer to.
    fn add(&mut self, group: &str, version: &str, resource: &Resource<'_>) -> Names {
        match resource.source {
            Source::Builtin => {
                let name = |kind: &str| {
                    builtin::definition_name(group, version, kind)
                        .unwrap_or_default()
                        .to_owned()
                };
                let names = Names {
                    object: name(resource.kind),
                    list: name(resource.list_kind),
                };
                self.reach(&names.object);
                self.reach(&names.list);
                names
            }
            Source::Custom(schema) => {
                let reversed = group.split('.').rev().collect::<Vec<_>>().join(".");
                let name = |kind: &str| format!("{reversed}.{version}.{kind}");
                let names = Names {
                    object: name(resource.kind),
                    list: name(resource.list_kind),
                };
                self.reach(&format!("{META}ObjectMeta"));
                self.reach(&format!("{META}ListMeta"));
                self.out.insert(
                    names.object.clone(),
                    custom(schema, &kind_of(group, version, resource.kind)),
                );
                let list = custom_list(
                    &names.object,
                    resource,
                    &kind_of(group, version, resource.list_kind),
                );
                self.out.insert(names.list.clone(), list);
                names
            }
        }
    }

    /// Adds a built-in schema and all it refers to.
    fn reach(&mut self, name: &str) {
        let mut todo = vec![name.to_owned()];
        while let Some(name) = todo.pop() {
            if name.is_empty() || self.out.contains_key(&name) {
                continue;
            }
            let schema = match self.definitions.get(&name) {
                Some(schema) => with_wrapped_references(schema.clone()),
                None => json!({"type": "object"}),
            };
            let mut found = BTreeSet::new();
            references(&schema, &mut found);
            self.out.insert(name, schema);
            todo.extend(found);
        }
    }
}

fn kind_of(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn references(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = fields
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|text| text.strip_prefix(REFERENCE))
            {
                found.insert(name.to_owned());
            }
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// OpenAPI 3.0 ignores what stands beside a reference, so such references are wrapped.
fn with_wrapped_references(schema: Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let is_reference = fields.get("$ref").is_some_and(Value::is_string) && fields.len() > 1;
            let mut out = Map::new();
            for (key, value) in fields {
                if is_reference && key == "$ref" {
                    out.insert("allOf".to_owned(), json!([{"$ref": value}]));
                } else {
                    out.insert(key, with_wrapped_references(value));
                }
            }
            Value::Object(out)
        }
        Value::Array(items) => {
            Value::Array(items.into_iter().map(with_wrapped_references).collect())
        }
        other => other,
    }
}

const API_VERSION: &str = "APIVersion defines the versioned schema of this representation of an object. Servers should convert recognized schemas to the latest internal value, and may reject unrecognized values. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#resources";
const KIND: &str = "Kind is a string value representing the REST resource this object represents. Servers may infer this from the endpoint the client submits requests to. Cannot be updated. In CamelCase. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";
const METADATA: &str = "Standard object's metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata";
const LIST_METADATA: &str = "Standard list metadata. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#types-kinds";

fn type_fields() -> Map<String, Value> {
    let mut out = Map::new();
    out.insert(
        "apiVersion".to_owned(),
        json!({"description": API_VERSION, "type": "string"}),
    );
    out.insert(
        "kind".to_owned(),
        json!({"description": KIND, "type": "string"}),
    );
    out
}

fn metadata_field(kind: &str, description: &str) -> Value {
    json!({"allOf": [{"$ref": format!("{REFERENCE}{META}{kind}")}], "description": description})
}

/// The schema of a custom resource, with the fields that every object has.
fn custom(schema: &Value, kind: &Value) -> Value {
    let mut out = with_embedded(schema.clone());
    let Some(fields) = out.as_object_mut() else {
        return json!({"type": "object"});
    };
    let mut properties = type_fields();
    properties.insert(
        "metadata".to_owned(),
        metadata_field("ObjectMeta", METADATA),
    );
    let own = fields
        .get("properties")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (name, property) in own {
        if !properties.contains_key(&name) {
            properties.insert(name, property);
        }
    }
    fields.insert("properties".to_owned(), Value::Object(properties));
    fields.insert("x-kubernetes-group-version-kind".to_owned(), json!([kind]));
    out
}

/// Objects in objects have those fields too.
fn with_embedded(mut schema: Value) -> Value {
    let Some(fields) = schema.as_object_mut() else {
        return schema;
    };
    let is_embedded = fields.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for property in properties.values_mut() {
            *property = with_embedded(property.take());
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            *inner = with_embedded(inner.take());
        }
    }
    if is_embedded {
        let properties = fields.entry("properties").or_insert_with(|| json!({}));
        if let Some(properties) = properties.as_object_mut() {
            for (name, field) in type_fields() {
                properties.insert(name, field);
            }
            properties.insert(
                "metadata".to_owned(),
                metadata_field("ObjectMeta", METADATA),
            );
        }
    }
    schema
}

fn custom_list(object: &str, resource: &Resource<'_>, kind: &Value) -> Value {
    let mut properties = type_fields();
    let items = format!(
        "List of {}. More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md",
        resource.plural
    );
    properties.insert(
        "items".to_owned(),
        json!({"description": items, "type": "array", "items": {"$ref": format!("{REFERENCE}{object}")}}),
    );
    properties.insert(
        "metadata".to_owned(),
        metadata_field("ListMeta", LIST_METADATA),
    );
    json!({
        "description": format!("{} is a list of {}", resource.list_kind, resource.kind),
        "type": "object",
        "required": ["items"],
        "properties": properties,
        "x-kubernetes-group-version-kind": [kind],
    })
}

#[cfg(test)]
mod tests;
