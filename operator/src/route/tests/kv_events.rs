//! Events of caches: which engines are told to say what changes, and what the gateway learns of it.

use protocol::snapshot::KvEvents;
use serde_json::{Value, json};

use super::{build, found, in_order, route, validate, world};

#[track_caller]
fn check(engine: &Value, expected: Option<&KvEvents>) {
    let model = json!({"source": {"uri": "file:///w"}, "engine": engine});
    let mut world = world();
    world
        .models
        .insert("m".to_owned(), Some(found(&model, &[])));
    let backends = json!([{"name": "own", "modelRef": {"name": "m"}}]);
    let route = route(
        "r",
        1,
        &["chat"],
        &json!({"targets": {"backends": backends}}),
    );
    let entry = in_order(build(&validate(&route, &world).expect("valid"))).remove(0);
    assert_eq!(entry.targets[0].kv_events.as_ref(), expected);
}

#[test]
fn the_gateway_listens_to_engines_that_say_what_changes() {
    check(
        &json!({"native": {"kvEvents": true}}),
        Some(&KvEvents::Http),
    );
    check(&json!({"native": {"kvCache": "1Gi"}}), None);
    check(&json!({}), None);
}
