//! Whether a custom resource's schema is structural, and its rules and defaults fit it.

use regex::Regex;
use serde_json::{Map, Value};

use super::cel::check_rule;
use super::parse::parse_definition_of;
use crate::status::Cause;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// The faults of a schema; `path` is where it stands in the definition.
pub(crate) fn check_crd_schema(schema: &Value, path: &str) -> Vec<Cause> {
    let mut causes = Vec::new();
    let kind = text(schema, "type");
    if kind.is_empty() {
        causes.push(Cause::required(
            format!("{path}.type"),
            "must not be empty at the root",
        ));
    } else if kind != "object" {
        causes.push(Cause::invalid(
            format!("{path}.type"),
            &Value::String(kind.to_owned()),
            "must be object at the root",
        ));
    }
    if has(schema, "nullable") {
        causes.push(Cause::forbidden(
            format!("{path}.nullable"),
            "nullable cannot be true at the root",
        ));
    }
    check(schema, path, Place::Root, &mut causes);
    causes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Property,
    Item,
    Additional,
}

fn text<'a>(schema: &'a Value, key: &str) -> &'a str {
    schema.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn has(schema: &Value, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn check(schema: &Value, path: &str, place: Place, causes: &mut Vec<Cause>) {
    check_type(schema, path, place, causes);
    check_shape(schema, path, causes);
    check_list(schema, path, causes);
    check_rules(schema, path, place, causes);
    check_default(schema, path, causes);
    let pattern = text(schema, "pattern");
    if let Err(error) = Regex::new(pattern) {
        let detail = format!("must be a valid regular expression, but isn't: {error}");
        causes.push(Cause::invalid(
            format!("{path}.pattern"),
            &Value::String(pattern.to_owned()),
            &detail,
        ));
    }
    for (name, property) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if place == Place::Root && name == "metadata" {
            check_metadata(property, &format!("{path}.properties[metadata]"), causes);
            continue;
        }
        check(
            property,
            &format!("{path}.properties[{name}]"),
            Place::Property,
            causes,
        );
    }
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        check(items, &format!("{path}.items"), Place::Item, causes);
    }
    if let Some(additional) = schema
        .get("additionalProperties")
        .filter(|one| one.is_object())
    {
        check(
            additional,
            &format!("{path}.additionalProperties"),
            Place::Additional,
            causes,
        );
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (at, branch) in schema
            .get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            check_branch(
                (branch, &format!("{path}.{key}[{at}]")),
                (schema, path),
                causes,
            );
        }
    }
    if let Some(branch) = schema.get("not") {
        check_branch((branch, &format!("{path}.not")), (schema, path), causes);
    }
}

fn check_type(schema: &Value, path: &str, place: Place, causes: &mut Vec<Cause>) {
    let kind = text(schema, "type");
    let is_int_or_string = has(schema, "x-kubernetes-int-or-string");
    let is_free = has(schema, "x-kubernetes-preserve-unknown-fields");
    let field = format!("{path}.type");
    if kind.is_empty() && !is_int_or_string && !is_free && place != Place::Root {
        let detail = match place {
            Place::Item => "must not be empty for specified array items",
            Place::Root | Place::Property | Place::Additional => {
                "must not be empty for specified object fields"
            }
        };
        causes.push(Cause::required(field, detail));
    } else if !kind.is_empty() && is_int_or_string {
        let detail = "must be empty if x-kubernetes-int-or-string is true";
        causes.push(Cause::invalid(
            field,
            &Value::String(kind.to_owned()),
            detail,
        ));
    } else if !kind.is_empty() && !TYPES.contains(&kind) {
        let supported: Vec<String> = TYPES.iter().map(|one| (*one).to_owned()).collect();
        causes.push(Cause::not_supported(
            field,
            &Value::String(kind.to_owned()),
            &supported,
        ));
    }
}

fn check_shape(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let kind = text(schema, "type");
    let has_properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .is_some_and(|one| !one.is_empty());
    if kind == "array" && !schema.get("items").is_some_and(Value::is_object) {
        causes.push(Cause::required(
            format!("{path}.items"),
            "must be specified",
        ));
    }
    if has_properties
        && schema
            .get("additionalProperties")
            .is_some_and(|one| one != &Value::Bool(false))
    {
        let detail = "additionalProperties and properties are mutual exclusive";
        causes.push(Cause::forbidden(
            format!("{path}.additionalProperties"),
            detail,
        ));
    }
    if schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(false)) {
        let field = format!("{path}.x-kubernetes-preserve-unknown-fields");
        causes.push(Cause::invalid(
            field,
            &Value::Bool(false),
            "must be true or undefined",
        ));
    }
    if has(schema, "x-kubernetes-embedded-resource") {
        if kind != "object" {
            let detail = "must be object if x-kubernetes-embedded-resource is true";
            causes.push(Cause::invalid(
                format!("{path}.type"),
                &Value::String(kind.to_owned()),
                detail,
            ));
        }
        if !has_properties && !has(schema, "x-kubernetes-preserve-unknown-fields") {
            let detail = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            causes.push(Cause::required(format!("{path}.properties"), detail));
        }
    }
    for key in [
        "$ref",
        "definitions",
        "dependencies",
        "patternProperties",
        "additionalItems",
        "id",
    ] {
        if schema.get(key).is_some() {
            causes.push(Cause::forbidden(
                format!("{path}.{key}"),
                &format!("{key} is not supported"),
            ));
        }
    }
    if has(schema, "uniqueItems") {
        let detail =
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        causes.push(Cause::forbidden(format!("{path}.uniqueItems"), detail));
    }
}

fn check_list(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let list_type = text(schema, "x-kubernetes-list-type");
    let keys: Vec<&str> = strings(schema, "x-kubernetes-list-map-keys");
    if list_type.is_empty() {
        if !keys.is_empty() {
            let field = format!("{path}.x-kubernetes-list-type");
            causes.push(Cause::required(
                field,
                "must be map if x-kubernetes-list-map-keys is non-empty",
            ));
        }
        return;
    }
    if !matches!(list_type, "atomic" | "set" | "map") {
        let field = format!("{path}.x-kubernetes-list-type");
        let supported = ["atomic", "map", "set"].map(str::to_owned);
        causes.push(Cause::not_supported(
            field,
            &Value::String(list_type.to_owned()),
            &supported,
        ));
    }
    if text(schema, "type") != "array" {
        let detail = "must be array if x-kubernetes-list-type is specified";
        causes.push(Cause::invalid(
            format!("{path}.type"),
            &Value::String(text(schema, "type").to_owned()),
            detail,
        ));
    }
    if list_type != "map" {
        return;
    }
    if keys.is_empty() {
        let field = format!("{path}.x-kubernetes-list-map-keys");
        causes.push(Cause::required(
            field,
            "must not be empty if x-kubernetes-list-type is map",
        ));
    }
    let Some(items) = schema.get("items") else {
        return;
    };
    let required = strings(items, "required");
    for key in keys {
        let property = items
            .get("properties")
            .and_then(|properties| properties.get(key));
        let Some(property) = property else {
            let field = format!("{path}.x-kubernetes-list-map-keys");
            let detail = "entries must all be names of item properties";
            causes.push(Cause::invalid(
                field,
                &Value::String(key.to_owned()),
                detail,
            ));
            continue;
        };
        if property.get("default").is_none() && !required.contains(&key) {
            let field = format!("{path}.items.properties[{key}].default");
            let detail = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            causes.push(Cause::required(field, detail));
        }
    }
}

fn strings<'a>(schema: &'a Value, key: &str) -> Vec<&'a str> {
    schema
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

fn check_rules(schema: &Value, path: &str, place: Place, causes: &mut Vec<Cause>) {
    let rules = schema
        .get("x-kubernetes-validations")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for (at, rule) in rules.enumerate() {
        let field = format!("{path}.x-kubernetes-validations[{at}].rule");
        let source = text(rule, "rule");
        if source.trim().is_empty() {
            causes.push(Cause::required(field, "rule is not specified"));
        } else if let Err(fault) = check_rule(source, schema, place == Place::Root) {
            causes.push(Cause::invalid(field, &go_rule(rule), &fault));
        }
        let message = text(rule, "messageExpression");
        if !message.is_empty()
            && let Err(fault) = check_rule(message, schema, place == Place::Root)
        {
            let field = format!("{path}.x-kubernetes-validations[{at}].messageExpression");
            let detail = format!("messageExpression {fault}");
            causes.push(Cause::invalid(field, &go_rule(rule), &detail));
        }
    }
}

/// A rule as Go prints its internal type.
fn go_rule(rule: &Value) -> Value {
    let mut out = Map::new();
    for (name, key) in [
        ("Rule", "rule"),
        ("Message", "message"),
        ("MessageExpression", "messageExpression"),
    ] {
        out.insert(name.to_owned(), Value::String(text(rule, key).to_owned()));
    }
    out.insert(
        "Reason".to_owned(),
        rule.get("reason").cloned().unwrap_or(Value::Null),
    );
    out.insert(
        "FieldPath".to_owned(),
        Value::String(text(rule, "fieldPath").to_owned()),
    );
    out.insert(
        "OptionalOldSelf".to_owned(),
        rule.get("optionalOldSelf").cloned().unwrap_or(Value::Null),
    );
    Value::Object(out)
}

fn check_default(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let Some(default) = schema.get("default") else {
        return;
    };
    let field = format!("{path}.default");
    let typed = parse_definition_of(schema);
    let mut faults = Vec::new();
    typed.check_values(default, None, "", &mut faults);
    typed.check_lists(default, "", &mut faults);
    causes.extend(faults.into_iter().map(|fault| Cause {
        field: if fault.field.is_empty() {
            field.clone()
        } else {
            format!("{field}.{}", fault.field)
        },
        ..fault
    }));
    let mut pruned = default.clone();
    if !typed.prune(&mut pruned).is_empty() {
        causes.push(Cause::invalid(
            field,
            default,
            "must not have unknown fields",
        ));
    }
}

/// Branches may only limit values, and only fields that the schema itself declares; both come with where they stand.
fn check_branch(
    (branch, path): (&Value, &str),
    (schema, declared_path): (&Value, &str),
    causes: &mut Vec<Cause>,
) {
    const FORBIDDEN: [&str; 6] = [
        "description",
        "default",
        "additionalProperties",
        "nullable",
        "x-kubernetes-preserve-unknown-fields",
        "x-kubernetes-embedded-resource",
    ];
    let is_int_or_string = has(schema, "x-kubernetes-int-or-string");
    for key in FORBIDDEN {
        if branch
            .get(key)
            .is_some_and(|value| value != &Value::Bool(false))
        {
            causes.push(Cause::forbidden(
                format!("{path}.{key}"),
                "must be undefined to be structural",
            ));
        }
    }
    if !text(branch, "type").is_empty() && !is_int_or_string {
        causes.push(Cause::forbidden(
            format!("{path}.type"),
            "must be empty to be structural",
        ));
    }
    for (name, property) in branch
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let at = format!("{path}.properties[{name}]");
        let declared_at = format!("{declared_path}.properties[{name}]");
        match schema
            .get("properties")
            .and_then(|properties| properties.get(name))
        {
            Some(declared) => check_branch((property, &at), (declared, &declared_at), causes),
            None => causes.push(Cause::required(
                declared_at,
                &format!("because it is defined in {at}"),
            )),
        }
    }
    if let (Some(items), Some(declared)) = (branch.get("items"), schema.get("items")) {
        let declared_at = format!("{declared_path}.items");
        check_branch(
            (items, &format!("{path}.items")),
            (declared, &declared_at),
            causes,
        );
    }
}

/// `metadata` is every object's; only its names may be limited.
fn check_metadata(schema: &Value, path: &str, causes: &mut Vec<Cause>) {
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten();
    let mut others =
        properties.filter(|(name, _)| !matches!(name.as_str(), "name" | "generateName"));
    if others.next().is_some() {
        let detail = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        causes.push(Cause::forbidden(path, detail));
    }
}
