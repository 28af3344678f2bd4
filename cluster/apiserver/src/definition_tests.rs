//! Definitions in force: versions of one stored object, defaults that come later, the end with all instances.

use serde_json::{Value, json};

use crate::api_tests::Server;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(default: &Value) -> Value {
    let schema = |default: &Value| {
        let mut mode = json!({"type": "string"});
        if !default.is_null() {
            mode["default"] = default.clone();
        }
        let spec =
            json!({"type": "object", "properties": {"size": {"type": "integer"}, "mode": mode}});
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}})
    };
    let version = |name: &str, stored: bool| json!({"name": name, "served": true, "storage": stored, "schema": schema(default)});
    json!({
        "metadata": {"name": "boxes.shop.example.com"},
        "spec": {
            "group": "shop.example.com", "scope": "Namespaced",
            "names": {"plural": "boxes", "kind": "Box"},
            "versions": [version("v1alpha1", false), version("v1", true)],
        },
    })
}

fn boxes(version: &str) -> String {
    format!("/apis/shop.example.com/{version}/namespaces/default/boxes")
}

fn a_box(version: &str, name: &str) -> Value {
    json!({
        "apiVersion": format!("shop.example.com/{version}"), "kind": "Box",
        "metadata": {"name": name}, "spec": {"size": 1},
    })
}

#[tokio::test]
async fn every_version_shows_the_same_objects() {
    let server = Server::start().await;
    Server::made(
        server
            .call("POST", DEFINITIONS, definition(&Value::Null))
            .await,
    );
    Server::made(
        server
            .call("POST", &boxes("v1alpha1"), a_box("v1alpha1", "a"))
            .await,
    );
    let (_, found) = server.get(&format!("{}/a", boxes("v1"))).await;
    assert_eq!(found["apiVersion"], "shop.example.com/v1");
    let (_, list) = server.get(&boxes("v1alpha1")).await;
    assert_eq!(list["items"][0]["apiVersion"], "shop.example.com/v1alpha1");
    let path = format!("{}/a", boxes("v1alpha1"));
    let changed = server
        .call("PATCH", &path, json!({"spec": {"size": 2}}))
        .await;
    assert_eq!(Server::made(changed)["metadata"]["generation"], 2);
    let (_, found) = server.get(&format!("{}/a", boxes("v1"))).await;
    assert_eq!(found["spec"]["size"], 2);
}

#[tokio::test]
async fn a_default_that_comes_later_shows_in_older_objects() {
    let server = Server::start().await;
    Server::made(
        server
            .call("POST", DEFINITIONS, definition(&Value::Null))
            .await,
    );
    Server::made(server.call("POST", &boxes("v1"), a_box("v1", "a")).await);
    let path = format!("{DEFINITIONS}/boxes.shop.example.com");
    let later = json!({"spec": definition(&json!("fast"))["spec"]});
    Server::made(server.call("PATCH", &path, later).await);
    let (_, found) = server.get(&format!("{}/a", boxes("v1"))).await;
    assert_eq!(found["spec"]["mode"], "fast");
}

#[tokio::test]
async fn a_definition_goes_with_its_last_instance() {
    let server = Server::start().await;
    Server::made(
        server
            .call("POST", DEFINITIONS, definition(&Value::Null))
            .await,
    );
    let mut held = a_box("v1", "held");
    held["metadata"]["finalizers"] = json!(["shop.example.com/hold"]);
    Server::made(server.call("POST", &boxes("v1"), held).await);
    Server::made(server.call("POST", &boxes("v1"), a_box("v1", "free")).await);
    let path = format!("{DEFINITIONS}/boxes.shop.example.com");
    Server::made(server.call("DELETE", &path, Value::Null).await);
    let (_, left) = server.get(&boxes("v1")).await;
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1), "{left}");
    assert_eq!(
        server
            .call("POST", &boxes("v1"), a_box("v1", "new"))
            .await
            .0,
        405
    );
    let release = json!({"metadata": {"finalizers": null}});
    Server::made(
        server
            .call("PATCH", &format!("{}/held", boxes("v1")), release)
            .await,
    );
    assert_eq!(server.get(&path).await.0, 404);
    assert_eq!(server.get(&boxes("v1")).await.0, 404);
    Server::made(
        server
            .call("POST", DEFINITIONS, definition(&Value::Null))
            .await,
    );
    let (_, none) = server.get(&boxes("v1")).await;
    assert_eq!(none["items"], json!([]));
}

#[tokio::test]
async fn names_that_are_taken_are_not_accepted() {
    let server = Server::start().await;
    Server::made(
        server
            .call("POST", DEFINITIONS, definition(&Value::Null))
            .await,
    );
    let mut other = definition(&Value::Null);
    other["metadata"]["name"] = json!("crates.shop.example.com");
    other["spec"]["names"]["plural"] = json!("crates");
    Server::made(server.call("POST", DEFINITIONS, other).await);
    let (_, found) = server
        .get(&format!("{DEFINITIONS}/crates.shop.example.com"))
        .await;
    assert_eq!(
        found["status"]["conditions"][0]["reason"], "SingularConflict",
        "{found}"
    );
    let crates = "/apis/shop.example.com/v1/namespaces/default/crates";
    assert_eq!(server.get(crates).await.0, 404);
    let first = format!("{DEFINITIONS}/boxes.shop.example.com");
    Server::made(server.call("DELETE", &first, Value::Null).await);
    assert_eq!(server.get(crates).await.0, 200, "the names are free now");
}
