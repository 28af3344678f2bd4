//! The paths of a document: which methods a resource has, and which parameters they take.

use serde_json::{Map, Value, json};

use super::{META, Names, REFERENCE, Resource, Source, kind_of};

const JSON: &str = "application/json";
const OBJECT_TYPES: [&str; 3] = [
    JSON,
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
];

/// The path items of a resource.
pub(super) fn paths(
    group: &str,
    version: &str,
    resource: &Resource<'_>,
    names: &Names,
) -> Map<String, Value> {
    let root = if group.is_empty() {
        format!("/api/{version}")
    } else {
        format!("/apis/{group}/{version}")
    };
    let plural = resource.plural;
    let base = if resource.is_namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    let builder = Builder {
        kind: kind_of(group, version, resource.kind),
        resource,
        names,
    };
    let mut out = Map::new();
    let collection = [
        ("get", "list"),
        ("post", "create"),
        ("delete", "deletecollection"),
    ];
    out.insert(base.clone(), builder.item(&collection, false));
    if resource.is_namespaced && resource.verbs.contains(&"list") {
        out.insert(
            format!("{root}/{plural}"),
            builder.item(&[("get", "list")], false),
        );
    }
    let object = [
        ("get", "get"),
        ("put", "update"),
        ("patch", "patch"),
        ("delete", "delete"),
    ];
    let one = builder.item(&object, true);
    if one
        .as_object()
        .is_some_and(|item| item.contains_key("get") || item.contains_key("delete"))
    {
        out.insert(format!("{base}/{{name}}"), one);
    }
    for subresource in resource
        .subresources
        .iter()
        .filter(|name| matches!(**name, "status" | "scale"))
    {
        let item = builder.item(
            &[("get", "get"), ("put", "update"), ("patch", "patch")],
            true,
        );
        out.insert(format!("{base}/{{name}}/{subresource}"), item);
    }
    out
}

struct Builder<'a> {
    kind: Value,
    resource: &'a Resource<'a>,
    names: &'a Names,
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": {"type": kind, "uniqueItems": true}})
}

fn in_path(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string", "uniqueItems": true}})
}

fn content(schema: &str, types: &[&str]) -> Value {
    let media = json!({"schema": {"$ref": format!("{REFERENCE}{schema}")}});
    Value::Object(
        types
            .iter()
            .map(|name| ((*name).to_owned(), media.clone()))
            .collect(),
    )
}

impl Builder<'_> {
    /// A path item with those of the methods whose verb the resource has.
    fn item(&self, methods: &[(&str, &str)], is_named: bool) -> Value {
        let mut out = Map::new();
        for (method, verb) in methods {
            if self.resource.verbs.contains(verb) {
                out.insert((*method).to_owned(), self.operation(verb));
            }
        }
        let mut parameters = Vec::new();
        if is_named {
            parameters.push(in_path(
                "name",
                &format!("name of the {}", self.resource.kind),
            ));
        }
        if self.resource.is_namespaced {
            parameters.push(in_path(
                "namespace",
                "object name and auth scope, such as for teams and projects",
            ));
        }
        parameters.push(query(
            "pretty",
            "string",
            "If 'true', then the output is pretty printed.",
        ));
        out.insert("parameters".to_owned(), Value::Array(parameters));
        Value::Object(out)
    }

    fn operation(&self, verb: &str) -> Value {
        let action = match verb {
            "create" => "post",
            "update" => "put",
            other => other,
        };
        let answer = match verb {
            "list" => self.names.list.clone(),
            "delete" | "deletecollection" => format!("{META}Status"),
            _ => self.names.object.clone(),
        };
        let mut out = json!({
            "description": format!("{verb} {}", self.resource.kind),
            "parameters": parameters(verb),
            "responses": {"200": {"description": "OK", "content": content(&answer, &OBJECT_TYPES)}},
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": self.kind,
        });
        if let (Some(body), Some(fields)) = (self.body(verb), out.as_object_mut()) {
            fields.insert("requestBody".to_owned(), body);
        }
        out
    }

    fn body(&self, verb: &str) -> Option<Value> {
        let content = match verb {
            "create" | "update" => content(&self.names.object, &["*/*"]),
            "delete" | "deletecollection" => content(&format!("{META}DeleteOptions"), &["*/*"]),
            "patch" => {
                let mut types = vec![
                    "application/apply-patch+yaml",
                    "application/json-patch+json",
                    "application/merge-patch+json",
                ];
                if matches!(self.resource.source, Source::Builtin) {
                    types.push("application/strategic-merge-patch+json");
                }
                content(&format!("{META}Patch"), &types)
            }
            _ => return None,
        };
        Some(json!({"content": content}))
    }
}

/// Name, type and description of a query parameter.
type Parameter = (&'static str, &'static str, &'static str);

const WRITE: [Parameter; 3] = [
    (
        "dryRun",
        "string",
        "When present, indicates that modifications should not be persisted.",
    ),
    (
        "fieldManager",
        "string",
        "fieldManager is a name associated with the actor or entity that is making these changes.",
    ),
    (
        "fieldValidation",
        "string",
        "fieldValidation instructs the server on how to handle unknown or duplicate fields.",
    ),
];

const FORCE: Parameter = (
    "force",
    "boolean",
    "Force is going to \"force\" Apply requests: conflicting fields owned by other people are taken.",
);

const DELETE: [Parameter; 3] = [
    WRITE[0],
    (
        "gracePeriodSeconds",
        "integer",
        "The duration in seconds before the object should be deleted.",
    ),
    (
        "propagationPolicy",
        "string",
        "Whether and how garbage collection will be performed.",
    ),
];

const LIST: [Parameter; 10] = [
    (
        "allowWatchBookmarks",
        "boolean",
        "allowWatchBookmarks requests watch events with type \"BOOKMARK\".",
    ),
    (
        "continue",
        "string",
        "Where to go on with a list that was cut at its limit.",
    ),
    (
        "fieldSelector",
        "string",
        "Restricts the list to objects with these fields.",
    ),
    (
        "labelSelector",
        "string",
        "Restricts the list to objects with these labels.",
    ),
    (
        "limit",
        "integer",
        "The most objects to return in one answer.",
    ),
    (
        "resourceVersion",
        "string",
        "From which resource version the request may be served.",
    ),
    (
        "resourceVersionMatch",
        "string",
        "How resourceVersion is applied to lists.",
    ),
    (
        "sendInitialEvents",
        "boolean",
        "Requests the current state as events before all others.",
    ),
    (
        "timeoutSeconds",
        "integer",
        "When the list or watch is to end.",
    ),
    ("watch", "boolean", "Returns changes as a stream of events."),
];

fn parameters(verb: &str) -> Value {
    let listed: Vec<Parameter> = match verb {
        "create" | "update" => WRITE.to_vec(),
        "patch" => WRITE.into_iter().chain([FORCE]).collect(),
        "delete" => DELETE.to_vec(),
        "list" => LIST.to_vec(),
        _ => Vec::new(),
    };
    let described = listed
        .into_iter()
        .map(|(name, kind, description)| query(name, kind, description));
    Value::Array(described.collect())
}
