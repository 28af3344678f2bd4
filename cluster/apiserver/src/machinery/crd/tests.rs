//! Definition tables: what is filled in, and what is complained about.

use super::*;

fn definition() -> Value {
    json!({"metadata": {"name": "widgets.g.example.com"}, "spec": {"group": "g.example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

#[test]
fn names_are_filled_in() {
    let mut definition = definition();
    default(&mut definition);
    let names = definition.pointer("/spec/names").cloned();
    assert_eq!(
        names,
        Some(
            json!({"plural": "widgets", "kind": "Widget", "singular": "widget", "listKind": "WidgetList"})
        )
    );
    assert_eq!(
        definition.pointer("/spec/conversion/strategy"),
        Some(&json!("None"))
    );
}

#[track_caller]
fn check(pointer: &str, value: &Value, expected: &[&str]) {
    let mut definition = definition();
    default(&mut definition);
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = definition
        .pointer_mut(parent)
        .unwrap()
        .as_object_mut()
        .unwrap();
    parent.insert(name.to_owned(), value.clone());
    let sentences: Vec<String> = validate(&definition).iter().map(Cause::sentence).collect();
    assert_eq!(sentences, expected);
}

#[test]
fn faults_are_worded_as_the_real_server_words_them() {
    check("/spec/scope", &json!("Namespaced"), &[]);
    check(
        "/metadata/name",
        &json!("wrong.g.example.com"),
        &[
            "metadata.name: Invalid value: \"wrong.g.example.com\": must be spec.names.plural+\".\"+spec.group",
        ],
    );
    check(
        "/spec/scope",
        &json!("Everywhere"),
        &[
            "spec.scope: Unsupported value: \"Everywhere\": supported values: \"Cluster\", \"Namespaced\"",
        ],
    );
    check(
        "/spec/versions/0/storage",
        &json!(false),
        &[
            "spec.versions: Invalid value: [{\"Name\":\"v1\",\"Served\":true,\"Storage\":false,\"Deprecated\":false,\
                \"DeprecationWarning\":null,\"Schema\":null,\"Subresources\":null,\"AdditionalPrinterColumns\":null,\
                \"SelectableFields\":null}]: must have exactly one version marked as storage version",
            "status.storedVersions: Invalid value: null: must have at least one stored version",
        ],
    );
    check(
        "/spec/versions/0/additionalPrinterColumns",
        &json!([{"name": "A", "type": "text", "jsonPath": ".a"}]),
        &[
            "spec.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
        ],
    );
    check(
        "/spec/versions/0/subresources",
        &json!({"scale": {"specReplicasPath": ".replicas", "statusReplicasPath": ".status.replicas"}}),
        &[
            "spec.subresources.scale.specReplicasPath: Invalid value: \".replicas\": should be a json path under .spec",
        ],
    );
}
