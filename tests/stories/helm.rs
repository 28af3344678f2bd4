//! helm: a small chart of ours is installed, upgraded, rolled back and uninstalled, each time awaited.

use anyhow::{Result, ensure};

use crate::harness::{PATIENCE, Stack, root, until};

#[test]
fn a_chart_is_installed_upgraded_rolled_back_and_uninstalled() -> Result<()> {
    let stack = Stack::start()?;
    let chart = root().join("tests/testdata/chart").display().to_string();
    let greeting = || {
        stack.kubectl(&[
            "get",
            "configmap",
            "hi-greeting",
            "-o",
            "jsonpath={.data.greeting}",
        ])
    };
    stack.helm(&["install", "hi", &chart, "--wait", "--timeout", "60s"])?;
    ensure!(greeting()? == "hello");
    ensure!(
        stack.kubectl(&[
            "get",
            "deployment",
            "hi",
            "-o",
            "jsonpath={.status.readyReplicas}"
        ])? == "1"
    );
    stack.helm(&[
        "upgrade",
        "hi",
        &chart,
        "--set",
        "greeting=hey,replicas=2",
        "--wait",
        "--timeout",
        "60s",
    ])?;
    ensure!(greeting()? == "hey");
    stack.kubectl(&["rollout", "status", "deployment/hi", "--timeout=60s"])?;
    ensure!(stack.helm(&["list", "-q"])?.trim() == "hi");
    ensure!(stack.helm(&["history", "hi"])?.contains("superseded"));
    stack.helm(&["rollback", "hi", "1", "--wait", "--timeout", "60s"])?;
    ensure!(greeting()? == "hello");
    stack.helm(&["uninstall", "hi", "--wait", "--timeout", "60s"])?;
    until(PATIENCE, "the Pods to be collected", || {
        let left = stack.kubectl(&["get", "deployments,services,configmaps,pods", "-o", "name"])?;
        ensure!(!left.contains("/hi"), "left behind: {left}");
        Ok(())
    })
}
