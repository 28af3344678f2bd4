//! kill -9 of everything, in the middle of a run: nothing acknowledged is lost, nothing is done twice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Stack, until};

/// An agent that writes a line, works for a while, and counts the lines.
const AGENT: &str = r#"
apiVersion: quarterdeck.dev/v1alpha1
kind: Agent
metadata: {name: diary, namespace: default}
spec:
  model: {name: smollm2}
  tools:
  - {name: desk, workspace: {ref: desk}}
  graph:
    state: {first: {}, second: {}, count: {}}
    nodes:
      write: {exec: {tool: desk, command: [sh, -c, "echo once >> diary"], to: first, check: true}}
      work: {exec: {tool: desk, command: [sh, -c, "sleep 5"], to: second}}
      count: {exec: {tool: desk, command: [wc, -l, diary], to: count, check: true}}
    edges:
    - {from: start, to: write}
    - {from: write, to: work}
    - {from: work, to: count}
    - {from: count, to: end}
    output: "state.count.stdout"
"#;

#[test]
fn a_run_that_was_killed_finishes_after_the_restart_and_nothing_is_lost_or_doubled() -> Result<()> {
    let mut stack = Stack::start()?;
    stack.apply_quickstart()?;
    stack.apply(AGENT)?;
    stack.wait_for("agent/diary", "Ready", PATIENCE)?;
    let key = stack.key()?;
    let chat = json!({"model": "smollm2", "max_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}).to_string();
    for _ in 0..3 {
        let (status, answer) = stack.http_post(
            &format!("{}/chat/completions", stack.gateway()),
            &key,
            &chat,
        )?;
        ensure!(status == 200, "{answer}");
    }
    let (status, run) = stack.http_post(
        &format!("{}/agents/default/diary/runs", stack.agents()),
        &key,
        "{\"input\": \"x\"}",
    )?;
    ensure!(status == 201, "{run}");
    let id = run["id"]
        .as_str()
        .context("a run without an id")?
        .to_owned();
    until(PATIENCE, "the run's second step", || {
        let run = read_run(&stack, &key, &id)?;
        ensure!(run["steps"].as_u64() >= Some(1), "{run}");
        Ok(())
    })?;
    // Acknowledged the moment before the crash.
    stack.apply("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: last-words, namespace: default}\ndata: {a: b}\n")?;
    let usage = usage_of(&stack, &key)?;
    stack.signal(Signal::SIGKILL)?;
    stack.up()?;
    ensure!(stack.kubectl(&["get", "configmap", "last-words", "-o", "jsonpath={.data.a}"])? == "b");
    let run = until(Duration::from_secs(120), "the run's end", || {
        let run = read_run(&stack, &key, &id)?;
        ensure!(run["status"] == "succeeded", "{run}");
        Ok(run)
    })?;
    ensure!(
        run["resumes"].as_u64() >= Some(1),
        "the run was not interrupted: {run}"
    );
    ensure!(
        run["output"]
            .as_str()
            .is_some_and(|output| output.starts_with("1 ")),
        "written other than once: {run}"
    );
    ensure!(usage_of(&stack, &key)? == usage, "the ledger changed");
    Ok(())
}

fn read_run(stack: &Stack, key: &str, id: &str) -> Result<Value> {
    stack.http_get(&format!("{}/runs/{id}", stack.agents()), key)
}

fn usage_of(stack: &Stack, key: &str) -> Result<Value> {
    until(PATIENCE, "the gateway", || {
        let usage = stack.http_get(&format!("{}/usage", stack.gateway()), key)?;
        ensure!(
            usage["data"]
                .as_array()
                .is_some_and(|rows| !rows.is_empty()),
            "{usage}"
        );
        Ok(usage)
    })
}
