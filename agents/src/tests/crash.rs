//! Crashes: the process dies at each commit, before and after it is on disk; the run ends as if nothing had happened.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use protocol::{
    agent::Definition,
    runs::{Run, RunEvent, RunStatus},
};
use serde_json::{Value, json};

use super::{
    fakes::{Reply, Script},
    harness::{Runtime, World, logged},
};
use crate::{
    runtime::AgentsError,
    store::{CommitHook, CommitPoint, Verdict},
};

/// More commits than any of the scenarios makes.
const COMMITS_MAX: u64 = 40;

fn graph() -> Value {
    json!({ "graph": {
        "state": { "text": {}, "out": {}, "n": { "reducer": "sum" }, "log": { "reducer": "append" } },
        "nodes": {
            "write": { "step": { "model": { "prompt": "{{ state.n }}", "to": "text" } } },
            "run": { "step": { "exec": { "tool": "box", "command": ["echo", "{{ state.text }}"], "to": "out" } } },
            "note": { "step": { "set": { "values": { "n": "1", "log": "[state.out.stdout]" } } } }
        },
        "edges": [
            { "from": "start", "arms": [{ "to": "write" }] },
            { "from": "write", "arms": [{ "to": "run" }] },
            { "from": "run", "arms": [{ "to": "note" }] },
            { "from": "note", "arms": [{ "when": "state.n < 2", "to": "write" }, { "to": "end" }] }
        ],
        "output": "state.log"
    } })
}

/// Answers by what it is asked, so that a repeat gets the same.
fn graph_script() -> Script {
    Arc::new(|body, _| {
        let prompt = body["messages"][1]["content"].as_str().unwrap();
        Reply::Text(format!("text {prompt}"))
    })
}

fn loop_script() -> Script {
    Arc::new(|body, _| match body["messages"].as_array().unwrap().len() {
        2 => Reply::Calls(
            ["one", "two", "three"]
                .map(|word| {
                    (
                        "box__exec".to_owned(),
                        json!({ "command": ["echo", word] }).to_string(),
                    )
                })
                .to_vec(),
        ),
        6 => Reply::Calls(vec![(
            "box__exec".to_owned(),
            json!({ "command": ["echo", "four"] }).to_string(),
        )]),
        _ => Reply::Text("all done".to_owned()),
    })
}

/// What must be equal with and without a crash.
#[derive(Debug, PartialEq)]
struct Ending {
    status: RunStatus,
    output: Option<Value>,
    steps: u32,
    events: Vec<RunEvent>,
    /// Programs that were really run, sorted: those of one turn run at once.
    ran: Vec<Vec<String>>,
}

async fn ending(world: &World, runtime: &Runtime, run: &Run) -> Ending {
    let events = logged(&runtime.events(&run.id).await);
    let run = runtime.run(&run.id).await;
    let mut ran = world.workspace.ran.lock().clone();
    ran.sort();
    Ending {
        status: run.status,
        output: run.output,
        steps: run.steps,
        events,
        ran,
    }
}

fn crash_at(point: CommitPoint, number: u64) -> (CommitHook, Arc<AtomicBool>) {
    let crashed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&crashed);
    let hook: CommitHook = Arc::new(move |at, commit| {
        if (at, commit) == (point, number) {
            told.store(true, Ordering::SeqCst);
            return Verdict::Crash;
        }
        Verdict::Continue
    });
    (hook, crashed)
}

async fn check_all_commits(program: Value, script: fn() -> Script) {
    let definition = |world: &World| -> Definition { world.definition(&program) };
    let world = World::new(script()).await;
    let runtime = world.start(definition(&world)).await;
    let run = runtime.create(&json!("go"), Some("k")).await.unwrap();
    let expected = ending(&world, &runtime, &run).await;
    assert_eq!(expected.status, RunStatus::Succeeded);
    let asked_without_crash = world.model.count();
    runtime.stop().await.unwrap();
    let mut crashes = 0;
    for number in 0..COMMITS_MAX {
        for point in [CommitPoint::Before, CommitPoint::After] {
            let world = World::new(script()).await;
            let (hook, crashed) = crash_at(point, number);
            let agents = vec![world.entry("worker", definition(&world))];
            let mut dying = Runtime::start(world.data.path(), agents, Some(hook)).await;
            if let Some(run) = dying.create(&json!("go"), Some("k")).await {
                finished(&dying, &run.id, &crashed).await;
            }
            let has_crashed = crashed.load(Ordering::SeqCst);
            if has_crashed {
                assert!(matches!(dying.ended().await, Err(AgentsError::LogClosed)));
            }
            if !has_crashed {
                assert!(5 < crashes, "the scenario has only {crashes} crash points");
                return;
            }
            crashes += 1;
            let runtime = world.start(definition(&world)).await;
            let run = runtime.create(&json!("go"), Some("k")).await.unwrap();
            assert_eq!(
                ending(&world, &runtime, &run).await,
                expected,
                "{point:?} commit {number}"
            );
            let run = runtime.run(&run.id).await;
            assert!(run.resumes <= 1, "{point:?} commit {number}: {run:?}");
            let asked = world.model.count();
            assert!(
                asked <= asked_without_crash + 1,
                "{point:?} commit {number}: asked {asked} times"
            );
            runtime.stop().await.unwrap();
        }
    }
    panic!("the scenario makes more than {COMMITS_MAX} commits");
}

/// Waits until the run has ended or the runtime has crashed.
async fn finished(runtime: &Runtime, id: &str, crashed: &AtomicBool) {
    while !crashed.load(Ordering::SeqCst) {
        let Ok(response) = runtime.get(&format!("/v1/runs/{id}")).send().await else {
            continue;
        };
        if let Ok(run) = response.json::<Run>().await
            && run.status.is_final()
        {
            return;
        }
    }
}

#[tokio::test]
async fn a_graph_survives_a_crash_at_each_commit() {
    check_all_commits(graph(), graph_script).await;
}

#[tokio::test]
async fn a_loop_with_parallel_calls_survives_a_crash_at_each_commit() {
    check_all_commits(super::loops::turns(5), loop_script).await;
}

#[tokio::test]
async fn a_full_disk_delays_a_run_and_refuses_new_ones() {
    let world = World::new(graph_script()).await;
    let is_full = Arc::new(AtomicBool::new(false));
    let full = Arc::clone(&is_full);
    let hook: CommitHook = Arc::new(move |point, number| {
        if point == CommitPoint::Before && (4..8).contains(&number) {
            full.store(true, Ordering::SeqCst);
            return Verdict::Full;
        }
        Verdict::Continue
    });
    let agents = vec![world.entry("worker", world.definition(&graph()))];
    let runtime = Runtime::start(world.data.path(), agents, Some(hook)).await;
    let run = runtime.create(&json!("go"), None).await.unwrap();
    let ending = ending(&world, &runtime, &run).await;
    assert!(is_full.load(Ordering::SeqCst));
    assert_eq!((ending.status, ending.steps), (RunStatus::Succeeded, 6));
    assert_eq!(ending.ran.len(), 2, "nothing is done twice");
    runtime.stop().await.unwrap();

    let world = World::new(graph_script()).await;
    let always: CommitHook = Arc::new(|point, _| {
        if point == CommitPoint::Before {
            Verdict::Full
        } else {
            Verdict::Continue
        }
    });
    let agents = vec![world.entry("worker", world.definition(&graph()))];
    let runtime = Runtime::start(world.data.path(), agents, Some(always)).await;
    let refused = runtime
        .post("/v1/agents/team/worker/runs", &json!({ "input": 1 }))
        .send()
        .await
        .unwrap();
    assert_eq!(refused.status(), 503);
    let body: Value = refused.json().await.unwrap();
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .contains("disk is full"),
        "{body}"
    );
    assert_eq!(runtime.get("/readyz").send().await.unwrap().status(), 503);
    runtime.stop().await.unwrap();
    let runtime = world.start(world.definition(&graph())).await;
    let list: Value = runtime
        .get("/v1/agents/team/worker/runs")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(list["data"], json!([]), "what was refused is not there");
    runtime.stop().await.unwrap();
}
