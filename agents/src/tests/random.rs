//! Random graphs with random crashes end as they do without.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use proptest::{prelude::*, test_runner::TestRunner};
use protocol::runs::{Run, RunEvent, RunStatus};
use serde_json::{Value, json};

use super::{
    fakes::Reply,
    harness::{Runtime, World, logged},
};
use crate::store::{CommitHook, CommitPoint, Verdict};

/// Worlds that are tried.
const CASES: u32 = 24;
/// Crashes of one run at most.
const CRASHES_MAX: usize = 4;

/// A step that nothing but the state and the outside world's memory can make differ.
fn step(kind: u8, node: usize) -> Value {
    match kind % 5 {
        0 => {
            json!({ "set": { "values": { "n": "1", "log": format!("['{node}:' + string(state.n)]") } } })
        }
        1 => {
            json!({ "template": { "template": format!("{node}-{{{{ state.n }}}}-{{{{ state.log | length }}}}"), "to": "text" } })
        }
        2 => {
            json!({ "exec": { "tool": "box", "command": ["echo", format!("{node} {{{{ state.n }}}}")], "to": "result" } })
        }
        3 => json!({ "model": { "prompt": format!("{node} {{{{ state.n }}}}"), "to": "text" } }),
        _ => json!({ "set": { "values": { "map": format!("{{'k{node}': state.n}}"), "n": "1" } } }),
    }
}

/// A graph of these kinds of steps; each step leads to some step or the end, depending on what was counted.
fn graph(kinds: &[u8], targets: &[(u8, u8, u8)]) -> Value {
    let count = kinds.len();
    let name = |index: u8| match usize::from(index) % (count + 1) {
        index if index == count => "end".to_owned(),
        index => format!("s{index}"),
    };
    let mut nodes = serde_json::Map::new();
    let mut edges = vec![json!({ "from": "start", "arms": [{ "to": "s0" }] })];
    for (index, kind) in kinds.iter().enumerate() {
        nodes.insert(format!("s{index}"), json!({ "step": step(*kind, index) }));
        let (first, second, bound) = targets[index];
        // The next one is always among the targets, so that every step can be reached.
        let next = if index + 1 == count {
            "end".to_owned()
        } else {
            format!("s{}", index + 1)
        };
        edges.push(json!({ "from": format!("s{index}"), "arms": [
            { "when": format!("state.n < {}", bound % 4), "to": name(first) },
            { "when": format!("state.n % 3 == {}", bound % 3), "to": next },
            { "to": name(second) }
        ] }));
    }
    json!({ "graph": {
        "state": {
            "n": { "reducer": "sum" }, "log": { "reducer": "append" }, "map": { "reducer": "merge" },
            "text": {}, "result": {}
        },
        "nodes": nodes, "edges": edges
    } })
}

#[derive(Debug, PartialEq)]
struct Ending {
    status: RunStatus,
    output: Option<Value>,
    error: Option<String>,
    events: Vec<RunEvent>,
    ran: Vec<Vec<String>>,
}

async fn world() -> World {
    World::new(Arc::new(|body, _| {
        Reply::Text(format!(
            "answer to {}",
            body["messages"][1]["content"].as_str().unwrap()
        ))
    }))
    .await
}

/// Runs the graph and crashes after so many commits each time; `None` if a crash came later than the run's end.
async fn ending(program: &Value, crashes: &[u64]) -> Ending {
    let world = world().await;
    let mut definition = world.definition(program);
    definition.limits.steps_max = 12;
    for commits in crashes {
        let left = AtomicU64::new(*commits);
        let hook: CommitHook = Arc::new(move |point, _| {
            if point == CommitPoint::Before {
                return Verdict::Continue;
            }
            match left.fetch_sub(1, Ordering::SeqCst) {
                0 => Verdict::Crash,
                _ => Verdict::Continue,
            }
        });
        let agents = vec![world.entry("worker", definition.clone())];
        let mut dying = Runtime::start(world.data.path(), agents, Some(hook)).await;
        let watch = async {
            if let Some(run) = runtime_run(&dying).await {
                while let Ok(response) = dying.get(&format!("/v1/runs/{}", run.id)).send().await {
                    if response
                        .json::<Run>()
                        .await
                        .is_ok_and(|run| run.status.is_final())
                    {
                        return true;
                    }
                }
            }
            false
        };
        if watch.await {
            dying.stop().await.ok();
        } else {
            dying.ended().await.ok();
        }
    }
    let runtime = world.start(definition).await;
    let run = runtime_run(&runtime).await.unwrap();
    let events = logged(&runtime.events(&run.id).await);
    let run = runtime.run(&run.id).await;
    runtime.stop().await.unwrap();
    let ran = world.workspace.ran.lock().clone();
    Ending {
        status: run.status,
        output: run.output,
        error: run.error,
        events,
        ran,
    }
}

async fn runtime_run(runtime: &Runtime) -> Option<Run> {
    runtime
        .create(&json!({ "go": true }), Some("the-run"))
        .await
}

#[test]
fn random_graphs_with_random_crashes_end_as_without() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let strategy = (1_usize..6).prop_flat_map(|count| {
        (
            prop::collection::vec(any::<u8>(), count),
            prop::collection::vec(any::<(u8, u8, u8)>(), count),
            prop::collection::vec(1_u64..8, 1..=CRASHES_MAX),
        )
    });
    let config = ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let result = TestRunner::new(config).run(&strategy, |(kinds, targets, crashes)| {
        let program = graph(&kinds, &targets);
        let (without, with) = runtime.block_on(async {
            (
                ending(&program, &[]).await,
                ending(&program, &crashes).await,
            )
        });
        prop_assert_eq!(with, without);
        Ok(())
    });
    result.unwrap();
}
