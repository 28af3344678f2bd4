//! Graphs from start to end: every kind of step, conditions, attempts, limits, failures.

use std::sync::Arc;

use protocol::runs::{RunEvent, RunStatus};
use serde_json::{Value, json};

use super::{
    fakes::Reply,
    harness::{GATEWAY_KEY, World, logged, read_events},
};

/// Write a text with the model, run a program over it, judge it, repeat once.
fn review() -> Value {
    json!({ "graph": {
        "state": {
            "draft": {}, "result": {}, "tries": { "reducer": "sum" }, "log": { "reducer": "append" }, "report": {}
        },
        "nodes": {
            "write": { "step": { "model": { "prompt": "Write about {{ input.topic }} ({{ state.tries }}).", "to": "draft" } } },
            "check": { "step": { "exec": {
                "tool": "box", "command": ["cat", "draft.txt"],
                "files": { "draft.txt": "{{ state.draft }}" }, "to": "result", "check": true
            } } },
            "count": { "step": { "set": { "values": { "tries": "1", "log": "[state.result.stdout]" } } } },
            "report": { "step": { "template": { "template": "{{ state.log | join(', ') }}", "to": "report" } } }
        },
        "edges": [
            { "from": "start", "arms": [{ "to": "write" }] },
            { "from": "write", "arms": [{ "to": "check" }] },
            { "from": "check", "arms": [{ "to": "count" }] },
            { "from": "count", "arms": [{ "when": "state.tries < 2", "to": "write" }, { "to": "report" }] },
            { "from": "report", "arms": [{ "to": "end" }] }
        ],
        "output": "{'report': state.report, 'tries': state.tries}"
    } })
}

#[tokio::test]
async fn a_graph_writes_runs_judges_and_repeats() {
    let world = World::new(Arc::new(|_, count| Reply::Text(format!("draft {count}")))).await;
    let runtime = world.start(world.definition(&review())).await;
    // Deltas are for those who listen: the model waits for one.
    world.model.hold();
    let run = runtime
        .create(&json!({ "topic": "tea" }), None)
        .await
        .unwrap();
    let listening = runtime.get(&format!("/v1/runs/{}/events", run.id));
    let listening = listening.send().await.unwrap();
    world.model.release();
    let events = read_events(listening).await;
    let run = runtime.run(&run.id).await;
    assert_eq!(run.error, None);
    assert_eq!(run.status, RunStatus::Succeeded);
    assert_eq!(
        run.output,
        Some(json!({ "report": "draft 0, draft 1", "tries": 2 }))
    );
    assert_eq!((run.steps, run.resumes), (7, 0));
    let asked = world.model.asked.lock().clone();
    assert_eq!(
        asked[1].body["messages"],
        json!([
            { "role": "system", "content": "You are worker." },
            { "role": "user", "content": "Write about tea (1)." }
        ])
    );
    assert_eq!(asked[0].authorization, format!("Bearer {GATEWAY_KEY}"));
    assert_ne!(asked[0].idempotency_key, asked[1].idempotency_key);
    let deltas: Vec<&str> = events
        .iter()
        .filter(|event| event.event == "delta")
        .map(|event| event.event.as_str())
        .collect();
    assert_eq!(deltas.len(), 4, "each draft is two words");
    let nodes: Vec<String> = logged(&events)
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::StepFinished { node, .. } => Some(node),
            _ => None,
        })
        .collect();
    assert_eq!(
        nodes,
        [
            "write", "check", "count", "write", "check", "count", "report"
        ]
    );
    runtime.stop().await.unwrap();
}

fn one(step: &Value, extra: &Value) -> Value {
    let mut node = json!({ "step": step });
    node.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    json!({ "graph": {
        "state": { "out": {} },
        "nodes": { "only": node },
        "edges": [{ "from": "start", "arms": [{ "to": "only" }] }],
        "output": "state.out"
    } })
}

#[track_caller]
fn assert_failed(error: Option<&str>, expected: &str) {
    let error = error.unwrap_or_default();
    assert!(
        error.contains(expected),
        "`{error}` does not say `{expected}`"
    );
}

#[tokio::test]
async fn a_failing_step_ends_the_run_with_the_reason() {
    let cases = [
        (
            json!({ "exec": { "tool": "box", "command": ["fail"], "to": "out", "check": true } }),
            "no such program",
        ),
        (
            json!({ "exec": { "tool": "box", "command": ["rm", "-r"], "to": "out" } }),
            "`rm` may not be run here",
        ),
        (
            json!({ "template": { "template": "{{ state.nothing.more }}", "to": "out" } }),
            "undefined",
        ),
        (
            json!({ "set": { "values": { "out": "input.missing" } } }),
            "missing",
        ),
        (
            json!({ "template": { "template": "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}", "to": "out" } }),
            "fuel",
        ),
    ];
    for (step, expected) in cases {
        let world = World::silent().await;
        let runtime = world.start(world.definition(&one(&step, &json!({})))).await;
        let (run, _) = runtime.finish(&json!({})).await;
        assert_eq!(run.status, RunStatus::Failed);
        assert_failed(run.error.as_deref(), expected);
        runtime.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_failing_attempt_is_repeated_under_another_id() {
    let world = World::new(Arc::new(|_, count| {
        if count < 2 {
            Reply::Status(500)
        } else {
            Reply::Text("ok".to_owned())
        }
    }))
    .await;
    let step = json!({ "model": { "prompt": "hi", "to": "out" } });
    let runtime = world
        .start(world.definition(&one(&step, &json!({ "attempts": 3 }))))
        .await;
    let (run, _) = runtime.finish(&json!("x")).await;
    assert_eq!(run.output, Some(json!("ok")));
    let keys: Vec<String> = world
        .model
        .asked
        .lock()
        .iter()
        .map(|asked| asked.idempotency_key.clone())
        .collect();
    assert_eq!(keys[1], format!("{}-2", keys[0]));
    assert_eq!(keys[2], format!("{}-3", keys[0]));
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_unavailable_or_breaks_off_is_waited_for_without_an_attempt() {
    let world = World::new(Arc::new(|_, count| match count {
        0 => Reply::Status(503),
        1 => Reply::Broken("half an".to_owned()),
        _ => Reply::Text("whole".to_owned()),
    }))
    .await;
    let step = json!({ "model": { "prompt": "hi", "to": "out" } });
    let runtime = world.start(world.definition(&one(&step, &json!({})))).await;
    let (run, _) = runtime.finish(&json!("x")).await;
    assert_eq!(run.output, Some(json!("whole")));
    let keys: Vec<String> = world
        .model
        .asked
        .lock()
        .iter()
        .map(|asked| asked.idempotency_key.clone())
        .collect();
    assert!(
        keys.iter().all(|key| *key == keys[0]),
        "the same attempt keeps its id: {keys:?}"
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_not_repeated() {
    let world = World::new(Arc::new(|_, _| Reply::Status(400))).await;
    let step = json!({ "model": { "prompt": "hi", "to": "out" } });
    let runtime = world
        .start(world.definition(&one(&step, &json!({ "attempts": 5 }))))
        .await;
    let (run, _) = runtime.finish(&json!("x")).await;
    assert_failed(run.error.as_deref(), "400 Bad Request: scripted");
    assert_eq!(world.model.count(), 1);
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_model_that_is_not_known_yet_is_asked_again_for_a_moment() {
    for (known_after, expected) in [(2, RunStatus::Succeeded), (1000, RunStatus::Failed)] {
        let world = World::new(Arc::new(move |_, count| match count < known_after {
            true => Reply::Status(404),
            false => Reply::Text("here".to_owned()),
        }))
        .await;
        let step = json!({ "model": { "prompt": "hi", "to": "out" } });
        let runtime = world.start(world.definition(&one(&step, &json!({})))).await;
        let (run, _) = runtime.finish(&json!("x")).await;
        assert_eq!(run.status, expected, "{:?}", run.error);
        runtime.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_step_that_takes_too_long_is_given_up() {
    let world = World::silent().await;
    let step = json!({ "model": { "prompt": "hi", "to": "out" } });
    let runtime = world
        .start(world.definition(&one(&step, &json!({ "timeoutSeconds": 1 }))))
        .await;
    let (run, _) = runtime.finish(&json!("x")).await;
    assert_failed(run.error.as_deref(), "not done within 1 seconds");
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn limits_stop_a_run() {
    let endless = json!({ "graph": {
        "state": { "n": { "reducer": "sum" } },
        "nodes": { "again": { "step": { "set": { "values": { "n": "1" } } } } },
        "edges": [
            { "from": "start", "arms": [{ "to": "again" }] },
            { "from": "again", "arms": [{ "to": "again" }] }
        ]
    } });
    let waiting = one(
        &json!({ "model": { "prompt": "hi", "to": "out" } }),
        &json!({}),
    );
    let calling = one(
        &json!({ "exec": { "tool": "box", "command": ["echo"], "to": "out" } }),
        &json!({}),
    );
    let cases = [
        (endless, json!({ "stepsMax": 5 }), "limit of 5 steps"),
        (waiting, json!({ "wallSeconds": 1 }), "limit of 1 seconds"),
        (
            calling,
            json!({ "toolCallsMax": 0 }),
            "limit of 0 tool calls",
        ),
    ];
    for (program, limits, expected) in cases {
        let world = World::silent().await;
        let mut definition = world.definition(&program);
        definition.limits = serde_json::from_value(limits).unwrap();
        let runtime = world.start(definition).await;
        let (run, _) = runtime.finish(&json!("x")).await;
        assert_failed(run.error.as_deref(), expected);
        runtime.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_cancelled_run_stops_at_once_and_stays_cancelled() {
    let world = World::silent().await;
    let step = json!({ "model": { "prompt": "hi", "to": "out" } });
    let runtime = world.start(world.definition(&one(&step, &json!({})))).await;
    let run = runtime.create(&json!("x"), None).await.unwrap();
    while world.model.count() == 0 {
        tokio::task::yield_now().await;
    }
    let response = runtime
        .post(&format!("/v1/runs/{}/cancel", run.id), &json!({}))
        .send()
        .await
        .unwrap();
    let cancelled: protocol::runs::Run = response.json().await.unwrap();
    assert_eq!(cancelled.status, RunStatus::Cancelled);
    let events = runtime.events(&run.id).await;
    assert_eq!(
        logged(&events).last(),
        Some(&RunEvent::Finished {
            status: RunStatus::Cancelled,
            output: None,
            error: None
        })
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn no_credential_reaches_the_log() {
    let world = World::new(Arc::new(|_, _| Reply::Text("hello".to_owned()))).await;
    let runtime = world.start(world.definition(&review())).await;
    let (run, _) = runtime.finish(&json!({ "topic": "tea" })).await;
    assert_eq!(run.status, RunStatus::Succeeded);
    runtime.stop().await.unwrap();
    let mut bytes = Vec::new();
    for file in std::fs::read_dir(world.data.path()).unwrap() {
        // SQLite removes its side files when the last connection closes, which may be now.
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap_or_default());
    }
    assert!(!bytes.is_empty());
    for secret in [GATEWAY_KEY, &world.workspace.token, super::harness::KEY] {
        let found = bytes
            .windows(secret.len())
            .any(|window| window == secret.as_bytes());
        assert!(!found, "`{secret}` is in the data folder");
    }
}

#[tokio::test]
async fn runs_that_wait_leave_their_places_to_others() {
    let world = World::new(Arc::new(|body, _| {
        match body["messages"][1]["content"].as_str() {
            Some("slow") => Reply::Status(503),
            _ => Reply::Text("quick answer".to_owned()),
        }
    }))
    .await;
    let step = json!({ "model": { "prompt": "{{ input }}", "to": "out" } });
    let runtime = world.start(world.definition(&one(&step, &json!({})))).await;
    // Twice as many as there are places.
    for _ in 0..16 {
        runtime.create(&json!("slow"), None).await.unwrap();
    }
    let (run, _) = runtime.finish(&json!("quick")).await;
    assert_eq!(run.output, Some(json!("quick answer")));
    runtime.stop().await.unwrap();
}
