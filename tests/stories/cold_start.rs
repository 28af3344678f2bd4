//! A Model that sleeps: requests wake it, are held until it serves, and it sleeps again when nobody asks.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{PATIENCE, Stack, until};

/// Requests that come at once for a Model without engines.
const BURST: usize = 20;

#[test]
fn a_sleeping_model_wakes_for_held_requests_and_sleeps_again() -> Result<()> {
    let mut stack = Stack::start()?;
    stack.apply(&manifests(&stack.weights_uri(), "120s"))?;
    stack.wait_for("model/sleeper", "Ready", PATIENCE)?;
    stack.wait_for("route/sleeper", "Ready", PATIENCE)?;
    let key = stack.key()?;
    ensure!(engines(&stack)? == 0, "it has engines before anybody asks");
    burst(&stack, &key)?;
    ensure!(engines(&stack)? == 1, "no engine is there");
    // It is not stopped while the stack is down, and asked again it answers; then nobody asks.
    stack.signal(Signal::SIGTERM)?;
    stack.up()?;
    burst(&stack, &key)?;
    let begun = Instant::now();
    until(PATIENCE, "the model to sleep again", || {
        ensure!(engines(&stack)? == 0, "an engine is still there");
        Ok(())
    })?;
    ensure!(
        Duration::from_secs(8) < begun.elapsed(),
        "it slept too early"
    );
    burst(&stack, &key)
}

#[test]
fn requests_for_a_model_that_never_gets_ready_are_refused_in_time() -> Result<()> {
    let stack = Stack::start()?;
    stack.apply(&manifests("file:///nowhere/w.gguf", "3s"))?;
    stack.wait_for("route/sleeper", "Ready", PATIENCE)?;
    let key = stack.key()?;
    let (status, answer) = chat(&stack, &key)?;
    ensure!(
        status == 503 && answer["error"]["code"] == "unavailable",
        "{status} {answer}"
    );
    Ok(())
}

/// Asks many times at once; all are answered.
fn burst(stack: &Stack, key: &str) -> Result<()> {
    thread::scope(|scope| {
        let asked: Vec<_> = (0..BURST)
            .map(|_| scope.spawn(|| chat(stack, key)))
            .collect();
        for each in asked {
            let (status, answer) = each.join().ok().context("a client panicked")??;
            ensure!(status == 200, "{status} {answer}\n{}", stack.log_tail());
        }
        Ok(())
    })
}

fn chat(stack: &Stack, key: &str) -> Result<(u16, serde_json::Value)> {
    let body = json!({"model": "sleeper", "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]});
    let url = format!("{}/chat/completions", stack.gateway());
    stack.http_post(&url, key, &body.to_string())
}

/// Pods of the Model.
fn engines(stack: &Stack) -> Result<usize> {
    let selector = "-lquarterdeck.dev/model=sleeper";
    let pods = stack.kubectl(&["get", "pods", selector, "-o", "name"])?;
    Ok(pods.lines().count())
}

fn manifests(source: &str, cold_start: &str) -> String {
    format!(
        r"
apiVersion: quarterdeck.dev/v1alpha1
kind: Model
metadata: {{name: sleeper, namespace: default}}
spec:
  source: {{uri: '{source}'}}
  scaling: {{min: 0, idle: 10s}}
---
apiVersion: quarterdeck.dev/v1alpha1
kind: Route
metadata: {{name: sleeper, namespace: default}}
spec:
  match: {{models: [sleeper]}}
  targets: {{backends: [{{name: own, modelRef: {{name: sleeper}}}}]}}
  coldStart: {{timeout: {cold_start}}}
"
    )
}
