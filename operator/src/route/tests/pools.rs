//! InferencePools as backends: what the gateway learns of them, and what the status says when one cannot be asked.

use std::sync::Arc;

use crds::condition::{ConditionKind, Reason};
use jiff::Timestamp;
use protocol::snapshot::RouteEntry;
use serde_json::{Value, json};

use super::{Observed, Programmed, Verdict, build, in_order, route, status, validate, world};
use crate::route::{dereference::FoundPool, validate::ValidRoute};

/// A pool whose ready Pods answer there.
pub(super) fn found(extra: &Value, endpoints: &[&str]) -> FoundPool {
    let mut spec =
        json!({"selector": {"matchLabels": {"app": "vllm"}}, "targetPorts": [{"number": 8000}]});
    for (key, value) in extra.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    let object = json!({"metadata": {"name": "vllm", "namespace": "n"}, "spec": spec});
    FoundPool {
        pool: Arc::new(serde_json::from_value(object).expect("a pool")),
        endpoints: endpoints.iter().map(|url| (*url).to_owned()).collect(),
    }
}

/// A Route to one backend, of the pool `vllm` as it is found.
fn valid(backend: &Value, pool: Option<FoundPool>) -> (crds::Route, ValidRoute) {
    let mut world = world();
    world.pools.insert("vllm".to_owned(), pool);
    let targets = json!({"targets": {"affinity": "Prefix", "backends": [backend]}});
    let route = route("r", 1, &["chat"], &targets);
    let valid = validate(&route, &world).expect("valid");
    (route, valid)
}

fn entry(backend: &Value, pool: FoundPool) -> RouteEntry {
    let (_, valid) = valid(backend, Some(pool));
    assert_eq!(valid.unresolved, []);
    in_order(build(&valid)).remove(0)
}

#[test]
fn the_pods_of_a_pool_are_a_target_that_is_asked_for_what_the_client_asks_for() {
    let check = |extra: Value, expected: Value| {
        let mut backend =
            json!({"name": "pool", "inferencePoolRef": {"name": "vllm"}, "weight": 3});
        for (key, value) in extra.as_object().expect("an object") {
            backend[key] = value.clone();
        }
        let urls = ["http://10.0.0.8:8000/v1", "http://10.0.0.9:8000/v1"];
        let entry = entry(&backend, found(&json!({}), &urls));
        let mut told =
            json!({"name": "pool", "model": "", "endpoints": urls, "weight": 3, "priority": 0});
        for (key, value) in expected.as_object().expect("an object") {
            told[key] = value.clone();
        }
        assert_eq!(json!(entry.targets), json!([told]));
    };
    check(json!({}), json!({}));
    check(json!({"modelOverride": "llama"}), json!({"model": "llama"}));
    let adapters = json!([{"name": "poet"}, {"name": "sql", "path": "/adapters/sql"}]);
    let told = json!([{"name": "poet", "model": "poet"}, {"name": "sql", "model": "sql", "path": "/adapters/sql"}]);
    check(json!({"adapters": adapters}), json!({"adapters": told}));
}

/// The reason of a condition, and what its message holds.
#[track_caller]
fn check_told(pool: Option<FoundPool>, kind: ConditionKind, expected: (Reason, &str)) {
    let backend = json!({"name": "pool", "inferencePoolRef": {"name": "vllm"}});
    let (route, valid) = valid(&backend, pool);
    let programmed = Programmed {
        verdict: Verdict::holds(Reason::Programmed, ""),
        version: None,
        is_current: true,
        is_settling: false,
    };
    let status = status(&Observed {
        route: &route,
        valid: Ok(&valid),
        programmed: &programmed,
        now: Timestamp::UNIX_EPOCH,
    });
    let mut conditions = status.conditions.iter();
    let told = conditions
        .find(|condition| condition.kind == kind.as_str())
        .expect("a condition");
    let (reason, message) = expected;
    assert_eq!(told.reason, reason.as_str(), "{}", told.message);
    assert!(told.message.contains(message), "{}", told.message);
}

#[test]
fn a_pool_that_cannot_be_asked_is_told_in_the_status() {
    check_told(
        None,
        ConditionKind::ResolvedRefs,
        (
            Reason::RefNotFound,
            "spec.targets.backends[0].inferencePoolRef names the InferencePool `vllm`, which does not exist",
        ),
    );
    let h2c = found(&json!({"appProtocol": "kubernetes.io/h2c"}), &[]);
    check_told(
        Some(h2c),
        ConditionKind::ResolvedRefs,
        (
            Reason::RefNotFound,
            "spec.appProtocol is `kubernetes.io/h2c`",
        ),
    );
    check_told(
        Some(found(&json!({}), &[])),
        ConditionKind::Available,
        (
            Reason::MinimumReplicasUnavailable,
            "0 of 1 backends can take requests, no Pod of the InferencePool `vllm` is ready",
        ),
    );
    check_told(
        Some(found(&json!({}), &["http://10.0.0.8:8000/v1"])),
        ConditionKind::Available,
        (Reason::MinimumReplicasAvailable, "1 of 1 backends"),
    );
}
