//! What a newcomer does first: `qd quickstart`, twice, with the weights out of their package.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{checked, qd, target};

#[test]
fn a_newcomer_sees_the_whole_stack_work_and_a_second_time_too() -> Result<()> {
    let turn = std::fs::File::create(target().join("stories.lock")).context("creating the lock")?;
    turn.lock().context("waiting for other stories")?;
    let folder = tempfile::tempdir().context("making a data folder")?;
    for attempt in 1..=2 {
        let mut quickstart = Command::new(qd());
        quickstart
            .args(["quickstart", "--output", "json", "--port", "0", "--data"])
            .arg(folder.path());
        let report = checked(quickstart.env_remove("KUBECONFIG"))?;
        let report: Value = serde_json::from_str(&report).context("reading the report")?;
        let answer = report["chat"]["answer"].as_str().unwrap_or_default();
        ensure!(
            answer.contains("Paris"),
            "attempt {attempt}: the model answered {answer:?}"
        );
        ensure!(
            report["run"]["status"] == "succeeded",
            "attempt {attempt}: {report}"
        );
        ensure!(
            report["key"]
                .as_str()
                .is_some_and(|key| key.starts_with("qd-")),
            "attempt {attempt}: {report}"
        );
    }
    Ok(())
}
