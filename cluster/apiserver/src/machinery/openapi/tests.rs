//! Documents: what the real clients look for in them.

use serde_json::{Value, json};

use super::*;

const VERBS: [&str; 8] = [
    "get",
    "list",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "watch",
];

fn resource<'a>(
    kind: &'a str,
    list_kind: &'a str,
    plural: &'a str,
    source: Source<'a>,
) -> Resource<'a> {
    Resource {
        kind,
        list_kind,
        plural,
        is_namespaced: true,
        verbs: &VERBS,
        subresources: &["status"],
        source,
    }
}

#[track_caller]
fn check_references(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    for name in found {
        assert!(
            document["components"]["schemas"].get(&name).is_some(),
            "{name} is missing"
        );
    }
}

#[test]
fn a_built_in_document_tells_kubectl_how_to_validate_and_patch() {
    let document = document(
        "apps",
        "v1",
        &[resource(
            "Deployment",
            "DeploymentList",
            "deployments",
            Source::Builtin,
        )],
    );
    check_references(&document);
    let patch =
        &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(
        patch["x-kubernetes-group-version-kind"],
        json!({"group": "apps", "version": "v1", "kind": "Deployment"})
    );
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|parameter| parameter["name"].as_str())
        .collect();
    assert_eq!(
        names,
        ["dryRun", "fieldManager", "fieldValidation", "force"]
    );
    let containers = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"]["properties"]
        ["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(
        containers["items"]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.Container"
    );
    let strategy = &document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]
        ["strategy"];
    assert_eq!(
        strategy["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.apps.v1.DeploymentStrategy"}])
    );
}

#[test]
fn a_custom_document_describes_the_whole_object() {
    let schema = json!({"type": "object", "description": "A widget.", "properties": {"spec": {"type": "object", "description": "What is wanted."}}});
    let document = document(
        "g.example.com",
        "v1",
        &[resource(
            "Widget",
            "WidgetList",
            "widgets",
            Source::Custom(&schema),
        )],
    );
    check_references(&document);
    let widget = &document["components"]["schemas"]["com.example.g.v1.Widget"];
    assert_eq!(
        widget["x-kubernetes-group-version-kind"],
        json!([{"group": "g.example.com", "version": "v1", "kind": "Widget"}])
    );
    assert_eq!(
        widget["properties"]["spec"]["description"],
        "What is wanted."
    );
    assert!(widget["properties"]["metadata"]["allOf"].is_array());
    assert!(
        document["paths"]
            .get("/apis/g.example.com/v1/namespaces/{namespace}/widgets")
            .is_some()
    );
}
