//! An engine dies: its Model says so and recovers, and the Route's second target answers meanwhile.

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use testkit::scripted_model::ScriptedModel;

use crate::harness::{PATIENCE, Stack, until};

#[test]
fn a_killed_engine_restarts_and_the_route_fails_over_meanwhile() -> Result<()> {
    let stack = Stack::start()?;
    stack.apply(&stack.example("model")?)?;
    stack.wait_for("model/smollm2", "Ready", PATIENCE)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let spare = runtime.block_on(ScriptedModel::start(vec!["the spare answers".into()]));
    stack.apply(&manifests(&spare.base_url()))?;
    stack.wait_for("route/both", "Ready", PATIENCE)?;
    let key = stack.key()?;
    let chat = || -> Result<String> {
        let body = json!({"model": "both", "max_tokens": 8, "temperature": 0, "messages": [{"role": "user", "content": "Hi"}]});
        let (status, answer) = stack.http_post(
            &format!("{}/chat/completions", stack.gateway()),
            &key,
            &body.to_string(),
        )?;
        ensure!(status == 200, "{status} {answer}");
        Ok(answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap_or_default()
            .to_owned())
    };
    ensure!(
        chat()? != "the spare answers",
        "the first target was not asked"
    );
    let engine = engine_process(&stack)?;
    kill(engine, Signal::SIGKILL).context("killing the engine")?;
    ensure!(
        chat()? == "the spare answers",
        "the route did not fail over"
    );
    let not_ready = [
        "wait",
        "model/smollm2",
        "--for=condition=Ready=False",
        "--timeout=30s",
    ];
    stack.kubectl(&not_ready)?;
    stack.wait_for("model/smollm2", "Ready", PATIENCE)?;
    let restarts = [
        "get",
        "pods",
        "-l",
        "quarterdeck.dev/model=smollm2",
        "-o",
        "jsonpath={.items[0].status.containerStatuses[0].restartCount}",
    ];
    ensure!(stack.kubectl(&restarts)? == "1");
    until(PATIENCE, "the first target to be used again", || {
        ensure!(chat()? != "the spare answers", "still the spare");
        Ok(())
    })?;
    drop(spare);
    Ok(())
}

fn manifests(spare: &str) -> String {
    format!(
        r#"
apiVersion: quarterdeck.dev/v1alpha1
kind: Model
metadata: {{name: spare, namespace: default}}
spec:
  engine: {{type: External, external: {{baseURL: "{spare}", model: scripted}}}}
---
apiVersion: quarterdeck.dev/v1alpha1
kind: Route
metadata: {{name: both, namespace: default}}
spec:
  match: {{models: [both]}}
  targets:
    strategy: Failover
    backends:
    - {{name: own, modelRef: {{name: smollm2}}, priority: 0}}
    - {{name: spare, modelRef: {{name: spare}}, priority: 1}}
"#
    )
}

/// The engine's process: the child of `qd up` whose command line says so.
fn engine_process(stack: &Stack) -> Result<Pid> {
    let parent = stack.pid()?;
    let children = std::fs::read_dir("/proc").context("reading /proc")?;
    for entry in children.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let is_child = status
            .lines()
            .any(|line| line == format!("PPid:\t{parent}"));
        if is_child && line.split('\0').nth(1) == Some("engine") {
            return Ok(Pid::from_raw(pid));
        }
    }
    anyhow::bail!("no engine among the children of {parent}")
}
