//! The runs API: keys, idempotency, lists, events, restarts.

use std::sync::Arc;

use protocol::runs::{Run, RunList, RunStatus};
use serde_json::{Value, json};

use super::{
    fakes::Reply,
    harness::{KEY, OTHER_KEY, Runtime, World, http_client, logged, read_events},
};

fn echo() -> Value {
    json!({ "graph": {
        "state": { "out": {} },
        "nodes": { "echo": { "step": { "template": { "template": "{{ input }}", "to": "out" } } } },
        "edges": [{ "from": "start", "arms": [{ "to": "echo" }] }],
        "output": "state.out"
    } })
}

async fn error(request: reqwest::RequestBuilder) -> (u16, String) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    (status, body["error"]["code"].as_str().unwrap().to_owned())
}

async fn with_three_agents(world: &World) -> Runtime {
    let mut private = world.entry("private", world.definition(&echo()));
    private.keys = vec!["team/main".to_owned()];
    let mut suspended = world.entry("asleep", world.definition(&echo()));
    suspended.suspended = true;
    let worker = world.entry("worker", world.definition(&echo()));
    Runtime::start(world.data.path(), vec![worker, private, suspended], None).await
}

#[track_caller]
fn check(actual: &(u16, String), status: u16, code: &str) {
    assert_eq!((actual.0, actual.1.as_str()), (status, code));
}

const RUNS: &str = "/v1/agents/team/worker/runs";

#[tokio::test]
async fn keys_decide_what_is_seen() {
    let world = World::silent().await;
    let runtime = with_three_agents(&world).await;
    let run = runtime.create(&json!("mine"), None).await.unwrap();
    let nobody = http_client();
    let get = |path: &str| nobody.get(format!("http://{}{path}", runtime.address));
    let private = "/v1/agents/team/private/runs";
    let mine = format!("/v1/runs/{}", run.id);
    check(&error(get(RUNS)).await, 401, "invalid_api_key");
    check(
        &error(get(RUNS).bearer_auth("wrong")).await,
        401,
        "invalid_api_key",
    );
    check(
        &error(get(RUNS).basic_auth("a", Some(KEY))).await,
        401,
        "invalid_api_key",
    );
    check(
        &error(get(RUNS).bearer_auth("qd-old-key")).await,
        401,
        "invalid_api_key",
    );
    check(
        &error(get(private).bearer_auth(OTHER_KEY)).await,
        404,
        "model_not_found",
    );
    assert_eq!(
        get(private).bearer_auth(KEY).send().await.unwrap().status(),
        200
    );
    check(
        &error(get(&mine).bearer_auth(OTHER_KEY)).await,
        404,
        "not_found",
    );
    assert_eq!(
        get(&mine).bearer_auth(KEY).send().await.unwrap().status(),
        200
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused_in_openais_shape() {
    let world = World::silent().await;
    let runtime = with_three_agents(&world).await;
    let body = json!({ "input": 1 });
    let large = json!({ "input": "x".repeat(5 << 20) });
    let nobody = "/v1/agents/team/nobody/runs";
    let asleep = "/v1/agents/team/asleep/runs";
    check(&error(runtime.get(nobody)).await, 404, "model_not_found");
    check(
        &error(runtime.post(asleep, &body)).await,
        503,
        "unavailable",
    );
    check(
        &error(runtime.post(RUNS, &json!({ "inptu": 1 }))).await,
        400,
        "invalid_request",
    );
    check(
        &error(runtime.post(RUNS, &large)).await,
        413,
        "request_too_large",
    );
    check(
        &error(runtime.get("/v1/runs/nonsense")).await,
        404,
        "not_found",
    );
    check(&error(runtime.get("/nothing")).await, 404, "not_found");
    check(
        &error(runtime.post("/v1/models", &body)).await,
        405,
        "method_not_allowed",
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn an_idempotency_key_starts_one_run() {
    let world = World::silent().await;
    let runtime = world.start(world.definition(&echo())).await;
    let first = runtime.create(&json!("a"), Some("k")).await.unwrap();
    let second = runtime.create(&json!("a"), Some("k")).await.unwrap();
    assert_eq!(first.id, second.id);
    let other = runtime
        .post("/v1/agents/team/worker/runs", &json!({ "input": "b" }))
        .header("idempotency-key", "k");
    assert_eq!(error(other).await, (400, "invalid_request".to_owned()));
    let third = runtime.create(&json!("a"), None).await.unwrap();
    let list: RunList = runtime
        .get("/v1/agents/team/worker/runs")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let ids: Vec<String> = list.data.into_iter().map(|run| run.id).collect();
    assert_eq!(ids, [third.id, first.id], "newest first");
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_goes_on_after_the_last_event_that_it_has() {
    let world = World::silent().await;
    let runtime = world.start(world.definition(&echo())).await;
    let (run, events) = runtime.finish(&json!("hello")).await;
    let ids: Vec<String> = events.iter().filter_map(|event| event.id.clone()).collect();
    assert_eq!(ids, ["1", "2", "3", "4"]);
    let kinds: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(
        kinds,
        ["started", "step_started", "step_finished", "finished"]
    );
    for (last, rest) in [("0", 4), ("3", 1), ("4", 0), ("99", 0)] {
        let response = runtime
            .get(&format!("/v1/runs/{}/events", run.id))
            .header("last-event-id", last)
            .send()
            .await
            .unwrap();
        assert_eq!(read_events(response).await.len(), rest, "after {last}");
    }
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_run_finishes_on_the_definition_that_it_started_with() {
    let world = World::new(Arc::new(|_, count| {
        if count == 0 {
            Reply::Silent
        } else {
            Reply::Text("done".to_owned())
        }
    }))
    .await;
    let program = |suffix: &str| {
        json!({ "graph": {
            "state": { "out": {} },
            "nodes": { "ask": { "step": { "model": { "prompt": "hi", "to": "out" } } } },
            "edges": [{ "from": "start", "arms": [{ "to": "ask" }] }],
            "output": format!("state.out + '{suffix}'")
        } })
    };
    let before = world.start(world.definition(&program(" before"))).await;
    let run = before.create(&json!("x"), None).await.unwrap();
    while world.model.count() == 0 {
        tokio::task::yield_now().await;
    }
    before.stop().await.unwrap();
    let after = world.start(world.definition(&program(" after"))).await;
    let events = after.events(&run.id).await;
    let finished: Run = after.run(&run.id).await;
    assert_eq!(
        (finished.status, finished.output),
        (RunStatus::Succeeded, Some(json!("done before")))
    );
    assert_eq!(finished.resumes, 0, "a shutdown is no crash");
    assert_eq!(finished.revision, run.revision);
    assert_eq!(logged(&events).len(), 3);
    let next = after.finish(&json!("x")).await.0;
    assert_eq!(next.output, Some(json!("done after")));
    assert_ne!(next.revision, run.revision);
    after.stop().await.unwrap();
}

#[tokio::test]
async fn probes_and_metrics_answer_without_a_key() {
    let world = World::silent().await;
    let runtime = world.start(world.definition(&echo())).await;
    runtime.finish(&json!("x")).await;
    for (path, expected) in [
        ("/healthz", "ok"),
        ("/readyz", "ok"),
        (
            "/metrics",
            "quarterdeck_agents_runs_total{status=\"succeeded\"} 1",
        ),
    ] {
        let response = http_client();
        let response = response
            .get(format!("http://{}{path}", runtime.address))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.unwrap();
        assert!(text.contains(expected), "{path}: {text}");
    }
    runtime.stop().await.unwrap();
}
