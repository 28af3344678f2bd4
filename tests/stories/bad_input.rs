//! Bad input: refused with the field's path, or reported with what to do, and mended by mending the input.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::harness::{PATIENCE, Stack, run};

const INVALID: &str = r#"
apiVersion: quarterdeck.dev/v1alpha1
kind: Model
metadata: {name: odd, namespace: default}
spec:
  source: {uri: "ftp://example/weights.gguf"}
  replicas: -1
"#;

#[test]
fn an_invalid_model_is_refused_with_the_paths_of_its_fields() -> Result<()> {
    let stack = Stack::start()?;
    fs::write(stack.path("odd.yaml"), INVALID).context("writing the manifest")?;
    let file = stack.path("odd.yaml").display().to_string();
    for args in [
        vec!["apply", "-f", &file],
        vec!["apply", "--server-side", "-f", &file],
    ] {
        let output = run(stack.kubectl_command().args(&args))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{args:?} was accepted");
        ensure!(
            said.contains("spec.replicas") && said.contains("spec.source"),
            "{args:?}: {said}"
        );
    }
    fs::write(
        stack.path("odd.yaml"),
        INVALID.replace("replicas", "replcas"),
    )
    .context("writing the manifest")?;
    let output = run(stack.kubectl_command().args(["apply", "-f", &file]))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(said.contains("unknown field \"spec.replcas\""), "{said}");
    Ok(())
}

#[test]
fn a_model_without_weights_says_what_to_do_and_recovers_when_they_appear() -> Result<()> {
    let stack = Stack::start()?;
    let late = stack.path("late.gguf");
    let model = stack
        .example("model")?
        .replace(&stack.weights_uri(), &format!("file://{}", late.display()));
    stack.apply(&model)?;
    let unready = [
        "wait",
        "model/smollm2",
        "--for=jsonpath={.status.conditions[?(@.type==\"ArtifactReady\")].reason}=SourceNotFound",
        "--timeout=60s",
    ];
    stack.kubectl(&unready)?;
    let ready = stack.kubectl(&["get", "model", "smollm2", "-o", "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.status.conditions[?(@.type==\"Ready\")].message}"])?;
    ensure!(
        ready.starts_with("False") && ready.contains("late.gguf"),
        "{ready}"
    );
    std::os::unix::fs::symlink(stack.path("smollm2.gguf"), &late)
        .context("putting the weights there")?;
    stack.wait_for("model/smollm2", "Ready", PATIENCE * 2)
}
