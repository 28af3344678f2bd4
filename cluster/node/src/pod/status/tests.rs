#![expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read best as values"
)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::pod::restore::restored;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn pod(spec: Value, status: Value) -> WantedPod {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u1", "generation": 3});
    WantedPod::of(Arc::new(
        serde_json::from_value(json!({"metadata": metadata, "spec": spec, "status": status}))
            .unwrap(),
    ))
}

fn main_pod(policy: &str) -> WantedPod {
    pod(
        json!({"restartPolicy": policy, "containers": [{"name": "main", "image": "builtin://qd"}]}),
        json!({}),
    )
}

fn status_of(pod: &WantedPod, container: ObservedContainer) -> PodStatus {
    let observed = ObservedPod {
        ground: Ground::Ready,
        ip: Some([127, 88, 0, 2].into()),
        containers: [("main".to_owned(), container)].into(),
        ..ObservedPod::default()
    };
    let backoff = Backoff::default();
    let context = StatusContext {
        host_ip: [127, 0, 0, 1].into(),
        backoff: &backoff,
        now: at(5),
        previous: &[],
    };
    pod_status(pod, &observed, context)
}

fn exit(code: i32) -> Exit {
    Exit {
        code,
        signal: None,
        reason: "Error".to_owned(),
        message: None,
        container_id: Some("process://x".to_owned()),
        started_at: Some(at(0)),
        finished_at: Some(at(1)),
    }
}

/// `phase, Ready, waiting reason`.
#[track_caller]
fn check(policy: &str, container: ObservedContainer, expected: (&str, &str, &str)) {
    let status = status_of(&main_pod(policy), container);
    let ready = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "Ready")
        .unwrap();
    let state = status.container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap();
    let reason = state
        .waiting
        .and_then(|waiting| waiting.reason)
        .unwrap_or_default();
    let got = (
        status.phase.as_deref().unwrap(),
        ready.status.as_str(),
        reason.as_str(),
    );
    assert_eq!(got, expected);
}

#[test]
fn phase_and_readiness_follow_the_containers() {
    let running = |ready| ObservedContainer {
        state: ContainerState::Running {
            id: "x".to_owned(),
            since: at(0),
            stopping: false,
        },
        started: true,
        ready,
        ..ObservedContainer::default()
    };
    let ended = |code, crashes| ObservedContainer {
        state: ContainerState::Exited(exit(code)),
        crashes,
        ..ObservedContainer::default()
    };
    let refused = ContainerState::Refused {
        reason: "ErrImagePull".to_owned(),
        message: "no".to_owned(),
        retry_at: at(9),
    };
    check(
        "Always",
        ObservedContainer::default(),
        ("Pending", "False", "ContainerCreating"),
    );
    check(
        "Always",
        ObservedContainer {
            state: refused,
            ..ObservedContainer::default()
        },
        ("Pending", "False", "ErrImagePull"),
    );
    check("Always", running(false), ("Running", "False", ""));
    check("Always", running(true), ("Running", "True", ""));
    check(
        "Always",
        ended(1, 2),
        ("Running", "False", "CrashLoopBackOff"),
    );
    check("Never", ended(0, 1), ("Succeeded", "False", ""));
    check("Never", ended(1, 1), ("Failed", "False", ""));
}

#[test]
fn a_transition_time_moves_only_with_its_status() {
    let pod = main_pod("Always");
    let first = status_of(&pod, ObservedContainer::default());
    let previous: Vec<PodCondition> = first.conditions.unwrap();
    let observed = ObservedPod {
        ground: Ground::Ready,
        ..ObservedPod::default()
    };
    let backoff = Backoff::default();
    let foreign = PodCondition {
        type_: "example.com/gate".to_owned(),
        status: "True".to_owned(),
        ..PodCondition::default()
    };
    let previous = [previous, vec![foreign.clone()]].concat();
    let context = StatusContext {
        host_ip: [127, 0, 0, 1].into(),
        backoff: &backoff,
        now: at(60),
        previous: &previous,
    };
    let second = pod_status(&pod, &observed, context);
    for condition in second
        .conditions
        .iter()
        .flatten()
        .filter(|condition| condition.type_ != foreign.type_)
    {
        assert_eq!(
            condition.last_transition_time,
            Some(Time(at(5))),
            "{}",
            condition.type_
        );
    }
    assert!(
        second.conditions.unwrap().contains(&foreign),
        "conditions of others stay"
    );
}

#[test]
fn after_a_restart_of_the_node_running_containers_have_ended_and_run_again() {
    let running = json!({"containerStatuses": [{"name": "main", "image": "", "imageID": "", "ready": true, "restartCount": 2, "containerID": "process://x", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]});
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "one"}], "containers": [{"name": "main"}]});
    let again = restored(&pod(spec("Always"), running.clone()));
    let main = again.container("main");
    assert_eq!(
        (main.state.clone(), main.restart_count),
        (ContainerState::Absent, 3),
        "it waits for the init containers"
    );
    assert_eq!(main.last_exit.as_ref().map(|exit| exit.code), Some(137));
    let without_init = json!({"restartPolicy": "Always", "containers": [{"name": "main"}]});
    let again = restored(&pod(without_init, running.clone()));
    assert_eq!(
        again
            .container("main")
            .exit()
            .map(|exit| exit.reason.as_str()),
        Some("ContainerStatusUnknown")
    );
    assert_eq!(again.ground, Ground::Absent);
    let never = restored(&pod(spec("Never"), running));
    assert_eq!(
        never.ground,
        Ground::Gone,
        "a Pod that must not restart has failed"
    );
}
