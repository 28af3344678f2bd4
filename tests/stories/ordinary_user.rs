//! Without root: the same stack, and programs still run in a sandbox.

use anyhow::{Context, Result, ensure};

use crate::harness::{PATIENCE, Stack, until};

#[test]
fn an_ordinary_user_runs_the_whole_stack_and_sandboxes_too() -> Result<()> {
    let stack = Stack::start_as(54_321)?;
    stack.apply_quickstart()?;
    let key = stack.key()?;
    let input = "{\"input\": \"the sea\"}";
    let (status, run) = stack.http_post(
        &format!("{}/agents/default/scribe/runs", stack.agents()),
        &key,
        input,
    )?;
    ensure!(status == 201, "{run}");
    let id = run["id"].as_str().context("a run without an id")?;
    until(PATIENCE, "the run's end", || {
        let run = stack.http_get(&format!("{}/runs/{id}", stack.agents()), &key)?;
        ensure!(run["status"] == "succeeded", "{run}");
        Ok(())
    })?;
    let devices = stack.kubectl(&[
        "exec",
        "desk",
        "-c",
        "workspace",
        "--",
        "cat",
        "/proc/net/dev",
    ])?;
    let names: Vec<&str> = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()))
        .collect();
    ensure!(
        names == ["lo"],
        "the workspace sees more than its loopback: {names:?}"
    );
    Ok(())
}
