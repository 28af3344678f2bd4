//! A full disk: errors, never corruption, and everything that was acknowledged is there afterwards.

use std::fs;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, Stack, run, until};

const DISK_BYTES: u64 = 24 << 20;

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing_that_was_acknowledged() -> Result<()> {
    let mut stack = Stack::start_on_disk(DISK_BYTES)?;
    let filler = stack.path("data/filler");
    stack.kubectl(&["create", "configmap", "note-0"])?;
    fill(&filler)?;
    let large = "x".repeat(64 << 10);
    let mut acknowledged = vec!["note-0".to_owned()];
    let refusal = loop {
        let name = format!("note-{}", acknowledged.len());
        let created = run(stack.kubectl_command().args([
            "create",
            "configmap",
            &name,
            &format!("--from-literal=text={large}"),
        ]))?;
        if !created.status.success() {
            break String::from_utf8_lossy(&created.stderr).into_owned();
        }
        acknowledged.push(name);
        ensure!(acknowledged.len() < 1000, "the disk is never full");
    };
    ensure!(refusal.contains("the disk is full"), "{refusal}");
    all_there(&stack, &acknowledged)?;
    stack.signal(Signal::SIGKILL)?;
    fs::remove_file(&filler).context("making room")?;
    stack.up()?;
    all_there(&stack, &acknowledged)?;
    until(PATIENCE, "writes to be taken again", || {
        stack.kubectl(&["create", "configmap", "after"])
    })?;
    Ok(())
}

/// Takes all the room that there is.
fn fill(path: &std::path::Path) -> Result<()> {
    let full = fs::write(path, vec![0_u8; usize::try_from(DISK_BYTES)?]);
    ensure!(full.is_err(), "the disk took more than it holds");
    Ok(())
}

fn all_there(stack: &Stack, names: &[String]) -> Result<()> {
    let there = stack.kubectl(&["get", "configmaps", "-o", "name"])?;
    for name in names {
        ensure!(
            there.contains(&format!("configmap/{name}\n")),
            "{name} was acknowledged and is lost"
        );
    }
    let notes = there
        .lines()
        .filter(|line| line.starts_with("configmap/note-"))
        .count();
    ensure!(
        notes == names.len(),
        "{notes} notes, {} acknowledged",
        names.len()
    );
    Ok(())
}
