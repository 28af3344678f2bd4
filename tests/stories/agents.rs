//! The example agent, through `qd run` and through the OpenAI surface.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::harness::Stack;

#[test]
fn the_example_agent_writes_with_the_model_and_counts_in_the_workspace() -> Result<()> {
    let stack = Stack::start()?;
    stack.apply_quickstart()?;
    let run = stack.qd(&["run", "scribe", "the sea", "--output", "json"])?;
    let run: Value = serde_json::from_str(&run).context("reading the run")?;
    ensure!(
        run["status"] == "succeeded" && 2 <= run["steps"].as_u64().unwrap_or_default(),
        "{run}"
    );
    let key = stack.key()?;
    let body = json!({"model": "scribe", "messages": [{"role": "user", "content": "the moon"}]})
        .to_string();
    let (status, answer) =
        stack.http_post(&format!("{}/chat/completions", stack.agents()), &key, &body)?;
    ensure!(status == 200, "{answer}");
    let text = answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default();
    ensure!(!text.is_empty(), "{answer}");
    let printed = stack.qd(&[
        "exec",
        "desk",
        "--",
        "sh",
        "-c",
        "id -u; echo $((6*7)); exit 3",
    ]);
    let said = format!("{:?}", printed.err().context("the exit code was lost")?);
    ensure!(
        said.contains("exit status: 3") && said.contains("42"),
        "{said}"
    );
    Ok(())
}
