//! JSON schemas into [`Structural`] trees; what is not understood is left out.

use std::sync::{Arc, LazyLock};

use regex::Regex;
use serde_json::Value;

use super::cel::Rules;
use super::{Additional, Kind, Limits, ListType, Node, PatchHints, Structural, Target};

const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The schema of a whole custom resource.
pub(super) fn parse_root(schema: &Value) -> Structural {
    let mut root = parse(schema, true);
    for name in ["apiVersion", "kind"] {
        root.properties.insert(name.to_owned(), string_node());
    }
    root.properties
        .insert("metadata".to_owned(), Node::named(OBJECT_META));
    root
}

/// A definition of the built-in data.
pub(crate) fn parse_definition(schema: &Value) -> Structural {
    parse(schema, false)
}

/// A part of a custom resource's schema, to check values against.
pub(super) fn parse_definition_of(schema: &Value) -> Structural {
    parse(schema, true)
}

impl Node {
    fn here(schema: Structural) -> Self {
        Self {
            target: Target::Here(Box::new(schema)),
            patch: PatchHints::default(),
            default: None,
        }
    }

    fn named(name: &str) -> Self {
        Self {
            target: Target::Named(name.to_owned()),
            patch: PatchHints::default(),
            default: None,
        }
    }
}

fn string_node() -> Node {
    Node::here(Structural {
        kind: Some(Kind::String),
        ..Structural::default()
    })
}

/// Reads a node; only custom resources (`is_custom`) have rules and are pruned at untyped objects.
fn parse(schema: &Value, is_custom: bool) -> Structural {
    let has = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let properties = schema.get("properties").and_then(Value::as_object);
    let kind = kind(schema);
    let mut out = Structural {
        kind,
        is_nullable: has("nullable"),
        is_int_or_string: has("x-kubernetes-int-or-string"),
        preserves_unknown: has("x-kubernetes-preserve-unknown-fields"),
        is_embedded: has("x-kubernetes-embedded-resource"),
        is_atomic_map: text(schema, "x-kubernetes-map-type") == Some("atomic"),
        list_type: list_type(schema),
        properties: properties
            .into_iter()
            .flatten()
            .map(|(name, one)| (name.clone(), node(one, is_custom)))
            .collect(),
        additional: additional(schema, is_custom),
        items: schema.get("items").map(|items| node(items, is_custom)),
        default: schema.get("default").filter(|_| is_custom).cloned(),
        limits: shared_limits(schema, is_custom),
        rules: if is_custom {
            Rules::compile(schema).map(Arc::new)
        } else {
            None
        },
        has_rules_below: false,
        is_builtin: !is_custom,
    };
    out.has_rules_below = has_rules_below(&out);
    if out.is_embedded {
        for name in ["apiVersion", "kind"] {
            out.properties
                .entry(name.to_owned())
                .or_insert_with(string_node);
        }
        out.properties
            .entry("metadata".to_owned())
            .or_insert_with(|| Node::named(OBJECT_META));
    }
    if !is_custom {
        settle_builtin(&mut out, schema);
    }
    out
}

fn has_rules_below(schema: &Structural) -> bool {
    // Named nodes are built-in, and those have no rules.
    let below =
        |node: &Node| matches!(&node.target, Target::Here(schema) if schema.has_rules_below);
    schema.rules.is_some()
        || schema.properties.values().any(below)
        || schema.items.as_ref().is_some_and(below)
        || matches!(&schema.additional, Additional::Schema(node) if below(node))
}

/// Built-in data says less: what is a free form must be guessed from what is missing.
fn settle_builtin(out: &mut Structural, schema: &Value) {
    let is_scalar_union = schema.get("oneOf").is_some();
    if is_scalar_union {
        out.kind = None;
        out.limits = Arc::clone(&NO_LIMITS);
        return;
    }
    let is_free = matches!(out.additional, Additional::None) && out.properties.is_empty();
    if is_free && matches!(out.kind, None | Some(Kind::Object)) {
        out.preserves_unknown = true;
    }
}

fn node(schema: &Value, is_custom: bool) -> Node {
    let mut node = match text(schema, "$ref").and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => Node::named(name),
        None => Node::here(parse(schema, is_custom)),
    };
    let strategy = text(schema, "x-kubernetes-patch-strategy").unwrap_or_default();
    node.patch = PatchHints {
        is_merged: strategy.split(',').any(|one| one == "merge"),
        retains_keys: strategy.split(',').any(|one| one == "retainKeys"),
        merge_key: text(schema, "x-kubernetes-patch-merge-key").map(str::to_owned),
    };
    node.default = schema.get("default").cloned();
    node
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

fn kind(schema: &Value) -> Option<Kind> {
    let name = match schema.get("type")? {
        Value::Array(names) => names
            .iter()
            .filter_map(Value::as_str)
            .find(|name| *name != "null")?,
        other => other.as_str()?,
    };
    Some(match name {
        "object" => Kind::Object,
        "array" => Kind::Array,
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Number,
        "boolean" => Kind::Boolean,
        _ => return None,
    })
}

fn list_type(schema: &Value) -> ListType {
    match text(schema, "x-kubernetes-list-type") {
        Some("set") => ListType::Set,
        Some("map") => {
            let keys = schema
                .get("x-kubernetes-list-map-keys")
                .and_then(Value::as_array);
            ListType::Map(
                keys.into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            )
        }
        _ => ListType::Atomic,
    }
}

fn additional(schema: &Value, is_custom: bool) -> Additional {
    match schema.get("additionalProperties") {
        None | Some(Value::Bool(false)) => Additional::None,
        Some(Value::Object(fields)) if !fields.is_empty() => {
            Additional::Schema(node(&Value::Object(fields.clone()), is_custom))
        }
        Some(_) => Additional::Any,
    }
}

/// Most nodes have no limits; they share these.
static NO_LIMITS: LazyLock<Arc<Limits>> = LazyLock::new(Arc::default);

fn shared_limits(schema: &Value, is_custom: bool) -> Arc<Limits> {
    const FREE: [&str; 6] = [
        "type",
        "description",
        "items",
        "properties",
        "additionalProperties",
        "default",
    ];
    let fields = schema
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.keys());
    let mut limiting =
        fields.filter(|key| !FREE.contains(&key.as_str()) && !key.starts_with("x-kubernetes-"));
    if limiting.next().is_none() {
        return Arc::clone(&NO_LIMITS);
    }
    Arc::new(limits(schema, is_custom))
}

fn limits(schema: &Value, is_custom: bool) -> Limits {
    let count = |key: &str| schema.get(key).and_then(Value::as_u64);
    let float = |key: &str| schema.get(key).and_then(Value::as_f64);
    let has = |key: &str| schema.get(key).and_then(Value::as_bool).unwrap_or(false);
    let branches = |key: &str| {
        let list = schema.get(key).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .map(|one| parse(one, is_custom))
            .collect::<Vec<_>>()
    };
    let required = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let pattern_text = text(schema, "pattern").unwrap_or_default().to_owned();
    Limits {
        format: text(schema, "format").map(str::to_owned),
        pattern: if pattern_text.is_empty() {
            None
        } else {
            Regex::new(&pattern_text).ok()
        },
        pattern_text,
        allowed: schema
            .get("enum")
            .and_then(Value::as_array)
            .filter(|_| is_custom)
            .cloned()
            .unwrap_or_default(),
        length_min: count("minLength"),
        length_max: count("maxLength"),
        minimum: float("minimum"),
        maximum: float("maximum"),
        is_minimum_exclusive: has("exclusiveMinimum"),
        is_maximum_exclusive: has("exclusiveMaximum"),
        multiple_of: float("multipleOf"),
        items_min: count("minItems"),
        items_max: count("maxItems"),
        has_unique_items: has("uniqueItems"),
        properties_min: count("minProperties"),
        properties_max: count("maxProperties"),
        required: required
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        all_of: branches("allOf"),
        any_of: branches("anyOf"),
        one_of: branches("oneOf"),
        not: schema.get("not").map(|one| Box::new(parse(one, is_custom))),
    }
}
