//! Table tables: what is printed of objects.

use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-01-01T01:00:00Z";

#[track_caller]
fn check(group: &str, kind: &str, object: &Value, expected: &Value) {
    let request = Request {
        objects: std::slice::from_ref(object),
        metadata: json!({}),
        include: Include::None,
        now: NOW,
        has_headers: true,
    };
    let table = render(&Columns::for_builtin(group, kind), &request);
    assert_eq!(table.pointer("/rows/0/cells"), Some(expected));
}

fn metadata() -> Value {
    json!({"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"})
}

#[test]
fn ages_lose_detail_as_they_grow() {
    for (seconds, expected) in [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (123, "2m3s"),
        (600, "10m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 60, "3h1m"),
        (8 * 3600 + 60, "8h"),
        (2 * 86400, "2d"),
        (2 * 86400 + 3600, "2d1h"),
        (9 * 86400, "9d"),
        (800 * 86400, "2y70d"),
    ] {
        assert_eq!(age::human(seconds), expected);
    }
}

#[test]
fn a_pod_says_how_it_is() {
    let pod = |status: &Value| json!({"metadata": metadata(), "spec": {"nodeName": "local", "containers": [{"name": "a"}, {"name": "b"}]}, "status": status});
    let running = json!({"phase": "Running", "podIP": "127.1.2.3", "containerStatuses": [
        {"ready": true, "restartCount": 1, "state": {"running": {}}, "lastState": {"terminated": {"finishedAt": "2026-01-01T00:59:55Z"}}},
        {"ready": false, "restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]});
    check(
        "",
        "Pod",
        &pod(&running),
        &json!([
            "n",
            "1/2",
            "CrashLoopBackOff",
            "1 (5s ago)",
            "60m",
            "127.1.2.3",
            "local",
            "<none>",
            "<none>"
        ]),
    );
    let pending = json!({"phase": "Pending"});
    check(
        "",
        "Pod",
        &pod(&pending),
        &json!([
            "n", "0/2", "Pending", "0", "60m", "<none>", "local", "<none>", "<none>"
        ]),
    );
    let initializing = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]});
    check(
        "",
        "Pod",
        &pod(&initializing),
        &json!([
            "n",
            "0/2",
            "Init:ErrImagePull",
            "0",
            "60m",
            "<none>",
            "local",
            "<none>",
            "<none>"
        ]),
    );
}

#[test]
fn workloads_and_services_say_what_they_have() {
    let deployment = json!({"metadata": metadata(), "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
        "template": {"spec": {"containers": [{"name": "c", "image": "i:1"}]}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}});
    check(
        "apps",
        "Deployment",
        &deployment,
        &json!(["n", "2/3", 3, 1, "60m", "c", "i:1", "app=web"]),
    );
    let service = json!({"metadata": metadata(), "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    check(
        "",
        "Service",
        &service,
        &json!([
            "n",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30080/TCP,53/UDP",
            "60m",
            "a=b"
        ]),
    );
    let job = json!({"metadata": metadata(), "spec": {"completions": 1, "template": {}}, "status": {"succeeded": 1,
        "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:00:04Z", "conditions": [{"type": "Complete", "status": "True"}]}});
    check(
        "batch",
        "Job",
        &job,
        &json!([
            "n", "Complete", "1/1", "4s", "60m", "<none>", "<none>", "<none>"
        ]),
    );
    check(
        "",
        "ConfigMap",
        &json!({"metadata": metadata(), "data": {"a": "b"}}),
        &json!(["n", 1, "60m"]),
    );
    check(
        "rbac.authorization.k8s.io",
        "Role",
        &json!({"metadata": metadata()}),
        &json!(["n", "2026-01-01T00:00:00Z"]),
    );
}

#[test]
fn custom_columns_follow_their_paths() {
    let columns = Columns::for_custom(&json!([
        {"name": "Image", "type": "string", "jsonPath": ".spec.image"},
        {"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"},
        {"name": "Cond", "type": "string", "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status", "priority": 1},
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]));
    let object =
        json!({"kind": "W", "metadata": metadata(), "spec": {"image": "x", "replicas": 2}});
    let request = Request {
        objects: &[object],
        metadata: json!({"resourceVersion": "1"}),
        include: Include::Metadata,
        now: NOW,
        has_headers: false,
    };
    assert_eq!(
        render(&columns, &request),
        json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {"resourceVersion": "1"}, "columnDefinitions": null,
            "rows": [{"cells": ["n", "x", 2, null, "60m"], "object": {"kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1", "metadata": metadata()}}]})
    );
}
