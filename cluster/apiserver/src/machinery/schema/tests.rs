//! Schema tables: what is pruned, defaulted and complained about.

use serde_json::{Value, json};

use super::*;

fn widget() -> Value {
    json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["image"],
            "x-kubernetes-validations": [
                {"rule": "self.minReplicas <= self.replicas", "message": "minReplicas must be <= replicas"},
                {"rule": "!has(oldSelf.frozen) || oldSelf.frozen == self.frozen", "message": "frozen is immutable"}],
            "properties": {
                "image": {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[a-z0-9:/.-]+$"},
                "replicas": {"type": "integer", "default": 2, "minimum": 0, "maximum": 10},
                "minReplicas": {"type": "integer", "default": 0},
                "frozen": {"type": "string"},
                "mode": {"type": "string", "enum": ["fast", "slow"]},
                "port": {"x-kubernetes-int-or-string": true},
                "when": {"type": "string", "format": "date-time"},
                "cfg": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "tags": {"type": "array", "maxItems": 3, "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                "env": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "value": {"type": "string", "default": "v"}}}},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "nullable": {"type": "string", "nullable": true},
                "either": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}]},
                "tpl": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true}}},
        "status": {"type": "object", "properties": {"phase": {"type": "string"}}}}})
}

fn structural() -> Structural {
    Structural::from_crd_schema(&widget()).unwrap()
}

fn object(spec: &Value) -> Value {
    json!({"apiVersion": "g.example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "spec": spec})
}

#[track_caller]
fn check_pruned(spec: &Value, expected: &Value, sentences: &[&str]) {
    let mut value = object(spec);
    assert_eq!(structural().prune(&mut value), sentences);
    assert_eq!(value, object(expected));
}

#[test]
fn undeclared_fields_are_pruned_and_named() {
    check_pruned(&json!({"image": "x"}), &json!({"image": "x"}), &[]);
    check_pruned(
        &json!({"bogus": 1}),
        &json!({}),
        &["unknown field \"spec.bogus\""],
    );
    check_pruned(
        &json!({"cfg": {"any": {"thing": 1}}}),
        &json!({"cfg": {"any": {"thing": 1}}}),
        &[],
    );
    check_pruned(
        &json!({"env": [{"name": "a", "x": 1}]}),
        &json!({"env": [{"name": "a"}]}),
        &["unknown field \"spec.env[0].x\""],
    );
    check_pruned(
        &json!({"labels": {"a": "b"}}),
        &json!({"labels": {"a": "b"}}),
        &[],
    );
    check_pruned(
        &json!({"tpl": {"kind": "X", "spec": {}}}),
        &json!({"tpl": {"kind": "X", "spec": {}}}),
        &[],
    );
}

#[test]
fn metadata_is_pruned_by_its_own_schema() {
    let mut value = json!({"metadata": {"name": "a", "bogus": 1, "labels": {"x": "y"}}});
    assert_eq!(
        structural().prune(&mut value),
        ["unknown field \"metadata.bogus\""]
    );
}

#[track_caller]
fn check_defaulted(spec: &Value, expected: &Value) {
    let mut value = object(spec);
    structural().apply_defaults(&mut value);
    assert_eq!(value, object(expected));
}

#[test]
fn missing_fields_get_their_defaults() {
    check_defaulted(&json!({}), &json!({"minReplicas": 0, "replicas": 2}));
    check_defaulted(
        &json!({"replicas": 5}),
        &json!({"minReplicas": 0, "replicas": 5}),
    );
    check_defaulted(
        &json!({"replicas": null, "nullable": null, "mode": null}),
        &json!({"replicas": 2, "nullable": null, "minReplicas": 0}),
    );
    check_defaulted(
        &json!({"env": [{"name": "a"}]}),
        &json!({"env": [{"name": "a", "value": "v"}], "minReplicas": 0, "replicas": 2}),
    );
}

#[track_caller]
fn check_faults(spec: &Value, old: Option<&Value>, expected: &[&str]) {
    let defaulted = |spec: &Value| {
        let mut value = object(spec);
        structural().apply_defaults(&mut value);
        value
    };
    let old = old.map(defaulted);
    let causes = structural().validate(&defaulted(spec), old.as_ref(), Context::default());
    let mut sentences: Vec<String> = causes.iter().map(Cause::sentence).collect();
    let mut expected: Vec<String> = expected.iter().map(|one| (*one).to_owned()).collect();
    sentences.sort();
    expected.sort();
    assert_eq!(sentences, expected);
}

const UNCHECKED: &str = "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

#[test]
fn faults_are_worded_as_the_real_server_words_them() {
    check_faults(&json!({"image": "x"}), None, &[]);
    check_faults(&json!({}), None, &["spec.image: Required value", UNCHECKED]);
    check_faults(
        &json!({"image": 5}),
        None,
        &[
            "spec.image: Invalid value: \"integer\": spec.image in body must be of type string: \"integer\"",
            UNCHECKED,
        ],
    );
    check_faults(
        &json!({"image": "UPPER CASE", "replicas": 99, "mode": "warp", "when": "yesterday"}),
        None,
        &[
            "spec.image: Invalid value: \"UPPER CASE\": spec.image in body should match '^[a-z0-9:/.-]+$'",
            "spec.mode: Unsupported value: \"warp\": supported values: \"fast\", \"slow\"",
            "spec.replicas: Invalid value: 99: spec.replicas in body should be less than or equal to 10",
            "spec.when: Invalid value: \"yesterday\": spec.when in body must be of type date-time: \"yesterday\"",
            UNCHECKED,
        ],
    );
    check_faults(
        &json!({"image": "x", "tags": ["a", "a"]}),
        None,
        &["spec.tags[1]: Duplicate value: \"a\""],
    );
    check_faults(
        &json!({"image": "x", "env": [{"name": "a"}, {"name": "a"}]}),
        None,
        &["spec.env[1]: Duplicate value: {\"name\":\"a\"}"],
    );
    check_faults(
        &json!({"image": "x", "port": 1.5}),
        None,
        &[
            "spec.port: Invalid value: \"number\": spec.port in body must be of type integer,string: \"number\"",
            UNCHECKED,
        ],
    );
    check_faults(
        &json!({"image": "x", "tags": ["a", "b", "c", "d"]}),
        None,
        &[
            "spec.tags: Too many: 4: must have at most 3 items",
            UNCHECKED,
        ],
    );
    check_faults(
        &json!({"image": "x", "port": "http", "when": "2026-01-01T00:00:00Z"}),
        None,
        &[],
    );
    check_faults(
        &json!({"image": "x", "tpl": {"spec": {}}}),
        None,
        &[
            "spec.tpl.apiVersion: Required value: must not be empty",
            "spec.tpl.kind: Required value: must not be empty",
            UNCHECKED,
        ],
    );
    check_faults(&json!({"image": "x", "either": {"a": "1"}}), None, &[]);
}

#[test]
fn rules_run_with_and_without_the_old_object() {
    check_faults(
        &json!({"image": "x", "minReplicas": 5}),
        None,
        &["spec: Invalid value: minReplicas must be <= replicas"],
    );
    let old = json!({"image": "x", "frozen": "one"});
    check_faults(&json!({"image": "x", "frozen": "one"}), Some(&old), &[]);
    check_faults(
        &json!({"image": "x", "frozen": "two"}),
        Some(&old),
        &["spec: Invalid value: frozen is immutable"],
    );
}

#[test]
fn what_was_invalid_before_may_stay_so() {
    let old = json!({"image": "UPPER CASE", "replicas": 1});
    check_faults(
        &json!({"image": "UPPER CASE", "replicas": 2}),
        Some(&old),
        &[],
    );
}

#[test]
fn rules_that_cannot_run_say_why() {
    let causes = structural().validate(&object(&json!({"image": "x"})), None, Context::default());
    assert_eq!(
        causes.iter().map(Cause::sentence).collect::<Vec<_>>(),
        [
            "spec: Invalid value: \"object\": no such key: minReplicas evaluating rule: minReplicas must be <= replicas"
        ]
    );
}

#[track_caller]
fn check_schema(pointer: &str, value: &Value, expected: &[&str]) {
    let mut schema = widget();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    schema
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap()
        .insert(name.to_owned(), value.clone());
    let causes = check_crd_schema(&schema, "s");
    assert_eq!(
        causes.iter().map(Cause::sentence).collect::<Vec<_>>(),
        expected
    );
}

#[test]
fn schemas_must_be_structural() {
    let spec = "/properties/spec/properties";
    check_schema("/type", &json!("object"), &[]);
    check_schema(
        &format!("{spec}/x"),
        &json!({"items": {"type": "string"}}),
        &[
            "s.properties[spec].properties[x].type: Required value: must not be empty for specified object fields",
        ],
    );
    check_schema(
        &format!("{spec}/replicas/default"),
        &json!("x"),
        &[
            "s.properties[spec].properties[replicas].default: Invalid value: \"string\":  in body must be of type integer: \"string\"",
        ],
    );
    check_schema(
        "/properties/spec/x-kubernetes-validations",
        &json!([{"rule": "self.nope > 1"}]),
        &[
            "s.properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.nope \\u003e 1\",\"Message\":\"\",\
            \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: compilation failed: ERROR: \
            <input>:1:5: undefined field 'nope'\n | self.nope > 1\n | ....^",
        ],
    );
    check_schema(
        "/properties/spec/x-kubernetes-validations",
        &json!([{"rule": "self.env.all(e, e.name != '')"}]),
        &[],
    );
    check_schema(
        "/x-kubernetes-validations",
        &json!([{"rule": "self.metadata.name == self.spec.image"}]),
        &[],
    );
}
