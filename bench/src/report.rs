//! Results: one table for people, one JSON file for history.

use std::{
    fmt,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde::{Serialize, Serializer};

/// One figure.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    work: String,
    /// The figure's unit.
    unit: String,
    /// Our figure.
    ours: f64,
    /// The peer's figure in the same run, where there is a peer on this machine.
    peer: Option<f64>,
    /// Who the peer is.
    peer_name: Option<String>,
    /// Ours divided by the peer's.
    ratio: Option<f64>,
    /// What we have promised to reach, if anything.
    must_reach: Option<Target>,
    /// Whether we did.
    is_reached: Option<bool>,
}

/// A promise about a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// Ours divided by the peer's, at least.
    RatioAtLeast(f64),
    /// Ours divided by the peer's, at most.
    RatioAtMost(f64),
    /// Our figure, at least.
    AtLeast(f64),
    /// Our figure, at most.
    AtMost(f64),
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bound) => write!(formatter, "≥ {bound}x"),
            Self::RatioAtMost(bound) => write!(formatter, "≤ {bound}x"),
            Self::AtLeast(bound) => write!(formatter, "≥ {bound}"),
            Self::AtMost(bound) => write!(formatter, "≤ {bound}"),
        }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Row {
    /// A figure without a peer.
    pub(crate) fn new(work: &str, unit: &str, ours: f64) -> Self {
        Self {
            work: work.to_owned(),
            unit: unit.to_owned(),
            ours,
            peer: None,
            peer_name: None,
            ratio: None,
            must_reach: None,
            is_reached: None,
        }
    }

    /// The peer's figure beside ours, if it was measured.
    #[must_use]
    pub(crate) fn against(self, peer_name: &str, peer: f64) -> Self {
        if peer.is_nan() {
            return self;
        }
        Self {
            peer: Some(peer),
            peer_name: Some(peer_name.to_owned()),
            ratio: Some(self.ours / peer),
            ..self
        }
    }

    /// Whether there is a figure at all.
    pub(crate) const fn is_measured(&self) -> bool {
        !self.ours.is_nan()
    }

    /// Whether a peer stands beside it.
    pub(crate) const fn has_peer(&self) -> bool {
        self.peer.is_some()
    }

    /// Whether a promise was broken.
    pub(crate) fn is_missed(&self) -> bool {
        self.is_reached == Some(false)
    }

    /// What the figure is promised to be; comes after the peer.
    #[must_use]
    pub(crate) fn must_reach(self, target: Target) -> Self {
        let is_reached = match target {
            Target::RatioAtLeast(bound) => self.ratio.is_some_and(|ratio| bound <= ratio),
            Target::RatioAtMost(bound) => self.ratio.is_some_and(|ratio| ratio <= bound),
            Target::AtLeast(bound) => bound <= self.ours,
            Target::AtMost(bound) => self.ours <= bound,
        };
        Self {
            must_reach: Some(target),
            is_reached: Some(is_reached),
            ..self
        }
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    name: &'a str,
    date: String,
    commit: String,
    machine: String,
    rows: &'a [Row],
}

/// Where results are kept in the repository.
pub(crate) fn results_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("results")
}

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest
        .parent()
        .map_or_else(|| manifest.clone(), PathBuf::from)
}

/// Waits until no other benchmark runs on this machine's checkout; they go on as the file is dropped.
pub(crate) fn alone() -> Result<File> {
    let path = root().join("target/bench.lock");
    let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
    if file.try_lock().is_err() {
        say("another benchmark runs; waiting for its end");
        file.lock()
            .with_context(|| format!("locking {}", path.display()))?;
    }
    Ok(file)
}

/// Prints the rows and writes them to the folder.
pub(crate) fn keep(name: &str, rows: &[Row], folder: &Path) -> Result<()> {
    // Nothing can be done about a closed terminal.
    let _ = std::io::stdout().write_all(table(rows).as_bytes());
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processor
        .lines()
        .find_map(|line| line.strip_prefix("model name\t: "))
        .unwrap_or("unknown processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let report = Report {
        name,
        date: output("date", &["-u", "+%Y-%m-%dT%H:%M:%SZ"])?,
        commit: commit()?,
        machine: format!("{model}, {cores} cores"),
        rows,
    };
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let path = folder.join(format!("{name}.json"));
    let text = serde_json::to_string_pretty(&report).context("writing the report as JSON")?;
    fs::write(&path, text + "\n").with_context(|| format!("writing {}", path.display()))
}

/// What the checkout holds: a commit, and a mark if files differ from it, results aside.
fn commit() -> Result<String> {
    let commit = output("git", &["rev-parse", "--short", "HEAD"])?;
    let changed = output(
        "git",
        &[
            "status",
            "--porcelain",
            "--untracked-files=no",
            "--",
            ":/",
            ":!/bench/results",
        ],
    )?;
    Ok(if changed.is_empty() {
        commit
    } else {
        format!("{commit}-dirty")
    })
}

fn table(rows: &[Row]) -> String {
    let heads = ["work", "unit", "ours", "peer", "ratio", "must reach", ""];
    let mut lines = vec![heads.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..heads.len())
        .map(|column| {
            let lengths = lines.iter().map(|line| line[column].chars().count());
            lengths.max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for line in &lines {
        let padded = line.iter().zip(&widths).enumerate().map(|(column, cell)| {
            let (cell, width) = cell;
            // Numbers end at the same place, words begin there.
            if (2..5).contains(&column) {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            }
        });
        let padded: Vec<_> = padded.collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn cells(row: &Row) -> [String; 7] {
    let number = |number: f64| {
        if 100.0 <= number.abs() {
            format!("{number:.0}")
        } else {
            format!("{number:.2}")
        }
    };
    let optional = |value: Option<f64>| value.map_or_else(String::new, number);
    [
        row.work.clone(),
        row.unit.clone(),
        number(row.ours),
        optional(row.peer),
        row.ratio
            .map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
        row.must_reach
            .map_or_else(String::new, |target| target.to_string()),
        match row.is_reached {
            Some(true) => "reached".to_owned(),
            Some(false) => "MISSED".to_owned(),
            None => String::new(),
        },
    ]
}

/// Talks to the person at the terminal.
pub(crate) fn say(line: &str) {
    // Nothing can be done about a closed terminal.
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn output(program: &str, args: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(args)
        .current_dir(root())
        .output()
        .with_context(|| format!("starting {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests;
