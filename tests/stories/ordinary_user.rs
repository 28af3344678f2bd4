//! Without root: the same stack, and programs still run in a sandbox.

use anyhow::{Result, ensure};

use crate::harness::Stack;

#[test]
fn an_ordinary_user_runs_the_whole_stack_and_sandboxes_too() -> Result<()> {
    let stack = Stack::start_as(54_321)?;
    stack.apply_quickstart()?;
    let isolated = stack.kubectl(&[
        "get",
        "workspace",
        "desk",
        "-o",
        "jsonpath={.status.isolation}",
    ])?;
    ensure!(
        !isolated.is_empty(),
        "the workspace does not say how it is isolated"
    );
    let key = stack.key()?;
    let input = "{\"input\": \"the sea\"}";
    let (status, run) = stack.http_post(
        &format!("{}/agents/default/scribe/runs", stack.agents()),
        &key,
        input,
    )?;
    ensure!(status == 201, "{run}");
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
