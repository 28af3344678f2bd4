//! Adapters: what the gateway learns of those of a Model.

use serde_json::{Value, json};

use super::{build, found, in_order, route, validate, world};

/// The adapters of a Route's only backend.
#[track_caller]
fn check(model: &Value, backend: &Value, expected: &Value) {
    let mut world = world();
    world.models.insert("m".to_owned(), Some(found(model, &[])));
    let mut backend = backend.clone();
    backend["name"] = json!("own");
    backend["modelRef"] = json!({"name": "m"});
    let route = route(
        "r",
        1,
        &["chat"],
        &json!({"targets": {"backends": [backend]}}),
    );
    let entry = in_order(build(&validate(&route, &world).expect("valid"))).remove(0);
    assert_eq!(json!(entry.targets[0].adapters), *expected);
}

#[test]
fn adapters_reach_the_gateway_with_their_names_at_the_engine() {
    let source = json!({"uri": "file:///w"});
    let native = json!({"servedName": "served", "source": source, "adapters": [{"name": "poet", "source": source}]});
    let of_native = json!([{"name": "poet", "model": "served:poet"}]);
    check(&native, &json!({}), &of_native);
    let external = json!({"engine": {"type": "External", "external": {"baseURL": "https://llm.example/v1",
        "adapters": [{"name": "poet"}, {"name": "sql", "path": "/adapters/sql"}]}}});
    let of_external = json!([{"name": "poet", "model": "poet"}, {"name": "sql", "model": "sql", "path": "/adapters/sql"}]);
    check(&external, &json!({}), &of_external);
    // A backend with a name of its own for the model is that one thing.
    check(
        &native,
        &json!({"modelOverride": "served:poet"}),
        &json!([]),
    );
}
