//! schemathesis asks the gateway for everything that OpenAI's document allows, and for much that it does not.

use std::{fs, process::Command};

use anyhow::{Context, Result};
use protocol::key::hash_key;
use serde_json::json;
use testkit::fluent_provider::{API_KEY, FluentProvider, MODEL};

use super::{KEY, document::Document, programs::program, runtime};
use crate::{gateway::Gateway, harness::checked};

/// What must hold for every answer: no fault of the server's, a status and a body that the document has, no entry without
/// a key, no method that it does not name.
///
/// What an operation makes of a wrong value is the model server's to say: the gateway passes on what it does not read.
const CHECKS: &str = "not_a_server_error,response_schema_conformance,content_type_conformance,status_code_conformance,\
    ignored_auth,unsupported_method";

/// Runs schemathesis for a time.
fn run(seconds: u32) -> Result<()> {
    let tokio = runtime()?;
    let folder = tempfile::tempdir()?;
    let provider = tokio.block_on(FluentProvider::start());
    let target = json!({"name": "own", "model": MODEL, "endpoints": [provider.base_url()], "credential": API_KEY});
    let snapshot = json!({"keys": [{"id": "default/story", "hash": hash_key(KEY)}], "routes": [{
        "namespace": "default", "name": "all", "models": ["*"], "targets": [target],
    }]});
    let gateway = tokio.block_on(Gateway::start(folder.path(), &snapshot, &[]))?;
    let document = folder.path().join("openapi.json");
    let text = Document::read()?.whole(&gateway.url()).to_string();
    fs::write(&document, text).context("writing the document")?;
    let mut command = Command::new(program("schemathesis", "schemathesis")?);
    command
        .current_dir(folder.path())
        .arg("run")
        .arg(&document)
        .args(["--url", &gateway.url(), "--checks", CHECKS])
        .args(["--header", &format!("Authorization: Bearer {KEY}")])
        .args([
            "--max-time",
            &seconds.to_string(),
            "--continue-on-failure",
            "--no-color",
        ])
        .args([
            "--phases",
            "fuzzing,coverage",
            "--request-timeout",
            "10",
            "--warnings",
            "off",
        ])
        .args(["--suppress-health-check", "all"]);
    checked(&mut command)?;
    gateway.stop()
}

#[test]
fn schemathesis_finds_no_answer_against_the_document() -> Result<()> {
    run(15)
}

#[test]
#[ignore = "takes four minutes: cargo nextest run -p tests --run-ignored only"]
fn schemathesis_finds_no_answer_against_the_document_in_minutes() -> Result<()> {
    run(240)
}
