#![expect(
    clippy::needless_pass_by_value,
    reason = "rows of a table read best as values"
)]

use serde_json::{Value, json};

use super::*;

const T0: i64 = 1_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(T0 + seconds).unwrap()
}

fn pod(spec: Value) -> WantedPod {
    pod_with(
        json!({"name": "web", "namespace": "shop", "uid": "u1"}),
        spec,
    )
}

fn pod_with(metadata: Value, spec: Value) -> WantedPod {
    let pod: k8s_openapi::api::core::v1::Pod =
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap();
    WantedPod::of(std::sync::Arc::new(pod))
}

fn running() -> ContainerState {
    ContainerState::Running {
        id: "c".to_owned(),
        since: at(0),
        stopping: false,
    }
}

fn exited(code: i32) -> ContainerState {
    ContainerState::Exited(Exit {
        code,
        signal: None,
        reason: String::new(),
        message: None,
        container_id: None,
        started_at: Some(at(-1)),
        finished_at: Some(at(0)),
    })
}

fn container(state: ContainerState) -> ObservedContainer {
    ObservedContainer {
        state,
        started: true,
        ready: true,
        ..ObservedContainer::default()
    }
}

fn observed(containers: &[(&str, ObservedContainer)]) -> ObservedPod {
    ObservedPod {
        ground: Ground::Ready,
        started_at: Some(at(-100)),
        containers: containers
            .iter()
            .map(|(name, state)| ((*name).to_owned(), state.clone()))
            .collect(),
        ..ObservedPod::default()
    }
}

/// Actions in short: `prepare`, `start NAME`, `stop NAME`, …
fn words(decision: &Decision) -> String {
    let words: Vec<String> = decision
        .actions
        .iter()
        .map(|action| match action {
            Action::Prepare => "prepare".to_owned(),
            Action::Start { container, attempt } => format!("start {container}#{attempt}"),
            Action::Stop { container, .. } => format!("stop {container}"),
            Action::Fail { reason, .. } => format!("fail {reason}"),
            Action::TearDown => "tear down".to_owned(),
            Action::Delete => "delete".to_owned(),
        })
        .collect();
    words.join(", ")
}

#[track_caller]
fn check(pod: &WantedPod, observed: &ObservedPod, expected: &str) -> Decision {
    let decision = decide(pod, observed, &Backoff::default(), at(0));
    assert_eq!(words(&decision), expected);
    decision
}

fn two_stages() -> WantedPod {
    pod(json!({
        "initContainers": [{"name": "one"}, {"name": "side", "restartPolicy": "Always"}, {"name": "two"}],
        "containers": [{"name": "main"}, {"name": "helper"}]
    }))
}

#[test]
fn the_ground_is_prepared_before_anything_starts() {
    let pod = pod(json!({"containers": [{"name": "main"}]}));
    check(&pod, &ObservedPod::default(), "prepare");
    let refused = |seconds| ObservedPod {
        ground: Ground::Refused {
            message: String::new(),
            retry_at: at(seconds),
        },
        ..ObservedPod::default()
    };
    assert_eq!(check(&pod, &refused(5), "").look_again, Some(at(5)));
    check(&pod, &refused(0), "prepare");
    check(&pod, &observed(&[]), "start main#0");
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_stay() {
    let pod = two_stages();
    let done = || container(exited(0));
    check(&pod, &observed(&[]), "start one#0");
    check(&pod, &observed(&[("one", container(running()))]), "");
    check(&pod, &observed(&[("one", done())]), "start side#0");
    let not_started = ObservedContainer {
        started: false,
        ..container(running())
    };
    check(
        &pod,
        &observed(&[("one", done()), ("side", not_started)]),
        "",
    );
    check(
        &pod,
        &observed(&[("one", done()), ("side", container(running()))]),
        "start two#0",
    );
    check(
        &pod,
        &observed(&[
            ("one", done()),
            ("side", container(running())),
            ("two", done()),
        ]),
        "start main#0, start helper#0",
    );
    let all = observed(&[
        ("one", done()),
        ("side", container(exited(1))),
        ("two", done()),
        ("main", container(running())),
        ("helper", container(running())),
    ]);
    check(&pod, &all, "start side#1");
}

#[test]
fn a_failed_init_container_is_tried_again_unless_the_pod_says_never() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "one"}], "containers": [{"name": "main"}]});
    check(
        &pod(spec("Always")),
        &observed(&[("one", container(exited(1)))]),
        "start one#1",
    );
    check(
        &pod(spec("Never")),
        &observed(&[("one", container(exited(1)))]),
        "tear down",
    );
}

#[test]
fn restarts_follow_the_policy_and_the_back_off() {
    let spec =
        |policy: &str| pod(json!({"restartPolicy": policy, "containers": [{"name": "main"}]}));
    let crashed = |crashes, code| {
        observed(&[(
            "main",
            ObservedContainer {
                crashes,
                restart_count: crashes - 1,
                ..container(exited(code))
            },
        )])
    };
    check(&spec("Always"), &crashed(1, 0), "start main#1");
    check(&spec("OnFailure"), &crashed(1, 1), "start main#1");
    check(&spec("OnFailure"), &crashed(1, 0), "tear down");
    check(&spec("Never"), &crashed(1, 1), "tear down");
    assert_eq!(
        check(&spec("Always"), &crashed(2, 1), "").look_again,
        Some(at(10))
    );
    assert_eq!(
        check(&spec("Always"), &crashed(9, 1), "").look_again,
        Some(at(300))
    );
}

#[test]
fn an_unhealthy_container_is_stopped_once() {
    let pod = pod(json!({"containers": [{"name": "main"}]}));
    let sick = |stopping| ObservedContainer {
        unhealthy: Some("liveness".to_owned()),
        ..container(ContainerState::Running {
            id: String::new(),
            since: at(0),
            stopping,
        })
    };
    check(&pod, &observed(&[("main", sick(false))]), "stop main");
    check(&pod, &observed(&[("main", sick(true))]), "");
}

#[test]
fn a_deleted_pod_stops_in_order_and_goes_only_when_nothing_is_left() {
    let metadata = json!({"name": "web", "namespace": "shop", "uid": "u1", "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 5});
    let pod = pod_with(
        metadata,
        json!({"initContainers": [{"name": "side", "restartPolicy": "Always"}], "containers": [{"name": "main"}]}),
    );
    let (up, down) = (|| container(running()), || container(exited(0)));
    let decision = check(
        &pod,
        &observed(&[("side", up()), ("main", up())]),
        "stop main",
    );
    assert!(
        matches!(&decision.actions[0], Action::Stop { grace, .. } if *grace == Duration::from_secs(5))
    );
    check(
        &pod,
        &observed(&[
            ("side", up()),
            ("main", container(ContainerState::Starting)),
        ]),
        "",
    );
    check(
        &pod,
        &observed(&[("side", up()), ("main", down())]),
        "stop side",
    );
    check(
        &pod,
        &observed(&[("side", down()), ("main", down())]),
        "tear down",
    );
    let gone = |deleted| ObservedPod {
        ground: Ground::Gone,
        deleted,
        ..observed(&[("side", down()), ("main", down())])
    };
    check(&pod, &gone(false), "delete");
    check(&pod, &gone(true), "");
    check(&pod, &ObservedPod::default(), "delete");
}

#[test]
fn a_pod_past_its_deadline_fails_and_is_stopped() {
    let pod = pod(json!({"activeDeadlineSeconds": 100, "containers": [{"name": "main"}]}));
    check(
        &pod,
        &observed(&[("main", container(running()))]),
        "fail DeadlineExceeded",
    );
    let early = ObservedPod {
        started_at: Some(at(-99)),
        ..observed(&[("main", container(running()))])
    };
    assert_eq!(check(&pod, &early, "").look_again, Some(at(1)));
    let failed = ObservedPod {
        failed: Some((String::new(), String::new())),
        ..observed(&[("main", container(running()))])
    };
    check(&pod, &failed, "stop main");
}

#[test]
fn the_outcome_is_that_of_the_main_containers() {
    #[track_caller]
    fn check(policy: &str, codes: [i32; 2], expected: Option<Outcome>) {
        let pod =
            pod(json!({"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}]}));
        let state = observed(&[
            ("a", container(exited(codes[0]))),
            ("b", container(exited(codes[1]))),
        ]);
        assert_eq!(outcome(&pod, &state), expected);
    }
    check("Never", [0, 0], Some(Outcome::Succeeded));
    check("Never", [0, 1], Some(Outcome::Failed));
    check("OnFailure", [0, 0], Some(Outcome::Succeeded));
    check("OnFailure", [0, 1], None);
    check("Always", [0, 0], None);
}
