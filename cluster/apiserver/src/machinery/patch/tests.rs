//! Patch tables: what becomes of objects, and how faults are answered.

use serde_json::json;

use super::*;
use crate::machinery::builtin;

#[track_caller]
fn check_json(patch: &Value, expected: &Result<Value, u16>) {
    let object = json!({"metadata": {"name": "a"}, "spec": {"replicas": 5, "list": [1, 2]}});
    assert_eq!(
        &json_patch(&object, patch).map_err(|error| error.code),
        expected
    );
}

#[test]
fn json_patches_apply_whole_or_not_at_all() {
    check_json(
        &json!([{"op": "replace", "path": "/spec/replicas", "value": 6}]),
        &Ok(json!({"metadata": {"name": "a"}, "spec": {"replicas": 6, "list": [1, 2]}})),
    );
    check_json(
        &json!([{"op": "test", "path": "/spec/replicas", "value": 6}]),
        &Err(422),
    );
    check_json(&json!([{"op": "remove", "path": "/spec/none"}]), &Err(422));
    check_json(&json!({"op": "remove"}), &Err(400));
    check_json(
        &json!([{"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["x.io/f"]}]),
        &Ok(
            json!({"metadata": {"name": "a", "finalizers": ["x.io/f"]}, "spec": {"replicas": 5, "list": [1, 2]}}),
        ),
    );
}

fn deployment() -> Value {
    json!({"metadata": {"labels": {"a": "1", "b": "2"}, "finalizers": ["a/b", "e/f"]},
        "spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}},
            "template": {"spec": {"containers": [
                {"name": "c", "image": "i", "args": ["x"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 80}, {"containerPort": 81}]},
                {"name": "side", "image": "s"}]}}}})
}

#[track_caller]
fn check(patch: &Value, pointer: &str, expected: Result<Value, (u16, &str)>) {
    let schema = builtin::schema("apps", "v1", "Deployment").unwrap();
    let result = strategic_merge_patch(&deployment(), patch, schema);
    let expected = expected.map_err(|(code, message)| (code, message.to_owned()));
    assert_eq!(
        result
            .map(|out| out.pointer(pointer).cloned().unwrap_or(Value::Null))
            .map_err(|error| (error.code, error.message)),
        expected
    );
}

fn containers(patch: &Value) -> Value {
    json!({"spec": {"template": {"spec": {"containers": patch}}}})
}

const CONTAINERS: &str = "/spec/template/spec/containers";

#[test]
fn merged_lists_are_merged_by_their_key() {
    check(
        &containers(
            &json!([{"name": "c", "env": [{"name": "C", "value": "3"}, {"name": "A", "$patch": "delete"}]}]),
        ),
        "/spec/template/spec/containers/0/env",
        Ok(json!([{"name": "C", "value": "3"}, {"name": "B", "value": "2"}])),
    );
    check(
        &containers(&json!([{"name": "new", "image": "n", "args": null}])),
        "/spec/template/spec/containers/0",
        Ok(json!({"name": "new", "image": "n"})),
    );
    check(
        &containers(&json!([{"name": "c", "$patch": "delete"}])),
        CONTAINERS,
        Ok(json!([{"name": "side", "image": "s"}])),
    );
    check(
        &containers(
            &json!([{"name": "c", "env": [{"$patch": "replace"}, {"name": "ONLY", "value": "1"}]}]),
        ),
        "/spec/template/spec/containers/0/env",
        Ok(json!([{"name": "ONLY", "value": "1"}])),
    );
    check(
        &containers(&json!([{"name": "c", "args": ["y"]}])),
        "/spec/template/spec/containers/0/args",
        Ok(json!(["y"])),
    );
}

#[test]
fn maps_are_merged_replaced_or_emptied() {
    check(
        &json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
        "/metadata/labels",
        Ok(json!({"b": "2", "c": "3"})),
    );
    check(
        &json!({"metadata": {"labels": {"$patch": "replace", "z": "1"}}}),
        "/metadata/labels",
        Ok(json!({"z": "1"})),
    );
    check(
        &json!({"metadata": {"labels": {"$patch": "delete"}}}),
        "/metadata/labels",
        Ok(json!({})),
    );
    check(
        &json!({"metadata": {"annotations": {"$patch": "replace", "z": "1"}}}),
        "/metadata/annotations",
        Ok(Value::Null),
    );
    check(
        &json!({"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}),
        "/spec/strategy",
        Ok(json!({"type": "Recreate"})),
    );
}

#[test]
fn primitive_lists_are_united_and_deleted_from() {
    check(
        &json!({"metadata": {"finalizers": ["c/d"]}}),
        "/metadata/finalizers",
        Ok(json!(["c/d", "a/b", "e/f"])),
    );
    check(
        &json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}}),
        "/metadata/finalizers",
        Ok(json!(["e/f"])),
    );
}

#[test]
fn the_wanted_order_is_kept() {
    let patch = json!({"spec": {"template": {"spec": {
        "$setElementOrder/containers": [{"name": "new"}, {"name": "side"}, {"name": "c"}],
        "containers": [{"name": "new", "image": "n"}]}}}});
    check(
        &patch,
        CONTAINERS,
        Ok(
            json!([{"name": "new", "image": "n"}, {"name": "side", "image": "s"}, deployment().pointer("/spec/template/spec/containers/0").cloned().unwrap()]),
        ),
    );
    check(
        &json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "side"}, {"name": "c"}]}}}}),
        "/spec/template/spec/containers/0/name",
        Ok(json!("side")),
    );
}

#[test]
fn faults_are_answered_as_the_real_server_answers_them() {
    check(
        &containers(&json!([{"image": "x"}])),
        "",
        Err((
            500,
            "map: map[image:x] does not contain declared merge key: name",
        )),
    );
    check(
        &json!({"spec": {"$patch": "frobnicate"}}),
        "",
        Err((
            500,
            "unknown patch type: frobnicate in map: map[$patch:frobnicate]",
        )),
    );
    check(
        &json!({"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {"maxSurge": 1}}}}),
        "",
        Err((400, "invalid patch format of retainKeys")),
    );
    check(
        &json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "side"}, {"name": "c"}],
            "containers": [{"name": "c", "image": "1"}, {"name": "side", "image": "2"}]}}}}),
        "",
        Err((
            500,
            "The order in patch list:\n[map[image:1 name:c] map[image:2 name:side]]\n doesn't match $setElementOrder list:\n[map[name:side] map[name:c]]\n",
        )),
    );
}
