//! Results: one table for people, one JSON file for history.

use std::{fs, io::Write, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use serde::Serialize;

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    pub(crate) work: String,
    /// The figure's unit.
    pub(crate) unit: String,
    /// Our figure.
    pub(crate) ours: f64,
    /// The peer's figure in the same run, where there is a peer on this machine.
    pub(crate) peer: Option<f64>,
    /// Who the peer is.
    pub(crate) peer_name: Option<String>,
    /// Ours divided by the peer's.
    pub(crate) ratio: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    date: String,
    commit: String,
    machine: String,
    rows: &'a [Row],
}

/// Prints the rows and writes them to bench/results.
pub(crate) fn keep(name: &str, rows: &[Row]) -> Result<()> {
    for row in rows {
        let peer = row
            .peer
            .zip(row.ratio)
            .map_or_else(String::new, |(peer, ratio)| {
                format!("  peer {peer:.2}  ratio {ratio:.2}")
            });
        say(&format!(
            "{:<44} {:>10.2} {}{peer}",
            row.work, row.ours, row.unit
        ));
    }
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report = Report {
        name,
        date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
        commit: output("git", &["rev-parse", "--short", "HEAD"])?,
        machine: format!("{model}, {cores} cores"),
        rows,
    };
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results");
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&report).context("writing the report as JSON")?;
    fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

/// Talks to the person at the terminal.
pub(crate) fn say(line: &str) {
    // Nothing can be done about a closed terminal.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .output()
        .with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
