//! `qd up`: from the start to all APIs ready, and the resident memory of all its processes then.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    report::{Row, keep, results_folder},
    tree,
};

/// Counted starts, after one that is not.
const ROUNDS: usize = 7;

/// Measures fresh starts and restarts.
pub(crate) fn run() -> Result<()> {
    let mut fresh = Vec::new();
    let mut again = Vec::new();
    let mut memory = Vec::new();
    for round in 0..=ROUNDS {
        let folder = tempfile::tempdir().context("making a data folder")?;
        let first = start(folder.path())?;
        let second = start(folder.path())?;
        if 0 < round {
            fresh.push(first.seconds);
            again.push(second.seconds);
            memory.push(second.resident_mebibytes);
        }
    }
    keep(
        "up",
        &[
            Row::new(
                "qd up, empty data folder, all APIs ready",
                "s",
                median(fresh),
            ),
            Row::new("qd up, second start, all APIs ready", "s", median(again)),
            Row::new(
                "resident memory of all processes, no model",
                "MiB",
                median(memory),
            ),
        ],
        &results_folder(),
    )
}

struct Start {
    seconds: f64,
    resident_mebibytes: f64,
}

fn start(data: &std::path::Path) -> Result<Start> {
    let begin = Instant::now();
    let mut child = Command::new(qd())
        .args(["up", "--output", "json", "--port", "0", "--data"])
        .arg(data)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting `qd up`\nhint: cargo build --release -p qd")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?);
    let mut text = String::new();
    while serde_json::from_str::<Value>(&text).is_err() {
        ensure!(0 < lines.read_line(&mut text)?, "`qd up` ended early");
    }
    let seconds = begin.elapsed().as_secs_f64();
    let resident_mebibytes = tree::memory_bytes(&tree::processes(child.id())?) / f64::from(1 << 20);
    Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .context("stopping `qd up`")?;
    child.wait().context("waiting for `qd up`")?;
    Ok(Start {
        seconds,
        resident_mebibytes,
    })
}

fn qd() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name("qd")
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
