//! The rules that no compiler knows: sizes, layers, names, docs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{process, root};

mod layers;
mod text;

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    place: String,
    rule: String,
}

impl Finding {
    fn new(place: impl Into<String>, rule: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            rule: rule.into(),
        }
    }
}

/// Checks the whole repository and lists every broken rule.
pub(crate) fn run() -> Result<()> {
    let mut findings = Vec::new();
    for path in files()? {
        let relative = path.strip_prefix(root()).unwrap_or(&path).to_path_buf();
        findings.extend(check_size(&path, &relative)?);
        if let Ok(content) = fs::read_to_string(&path) {
            findings.extend(text::check(&relative, &content));
        }
    }
    findings.extend(layers::check(&root())?);
    findings.extend(check_map()?);
    for finding in &findings {
        crate::say(&format!("{}: {}", finding.place, finding.rule));
    }
    if !findings.is_empty() {
        bail!("{} broken rules", findings.len());
    }
    Ok(())
}

/// All files that git knows or would take.
fn files() -> Result<Vec<PathBuf>> {
    let list = process::output(
        "git",
        &["ls-files", "--cached", "--others", "--exclude-standard"],
    )?;
    Ok(list
        .lines()
        .map(|line| root().join(line))
        .filter(|path| path.is_file())
        .collect())
}

fn check_size(path: &Path, relative: &Path) -> Result<Option<Finding>> {
    const FILE_BYTES_MAX: u64 = 1 << 20;
    let bytes = fs::metadata(path)
        .with_context(|| format!("looking at {}", path.display()))?
        .len();
    let rule = format!("is {bytes} bytes; files over {FILE_BYTES_MAX} do not belong in git");
    Ok((FILE_BYTES_MAX < bytes).then(|| Finding::new(relative.display().to_string(), rule)))
}

/// ARCHITECTURE.md names every component, and nothing that is not there.
fn check_map() -> Result<Vec<Finding>> {
    let map =
        fs::read_to_string(root().join("ARCHITECTURE.md")).context("reading ARCHITECTURE.md")?;
    let mut findings = Vec::new();
    for member in layers::members(&root())? {
        if !map.contains(&format!("`{member}/`")) {
            findings.push(Finding::new(
                "ARCHITECTURE.md",
                format!("does not name `{member}/`"),
            ));
        }
    }
    for word in map
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|word| word.ends_with('/'))
    {
        if !root().join(word).is_dir() {
            findings.push(Finding::new(
                "ARCHITECTURE.md",
                format!("names `{word}`, which is not there"),
            ));
        }
    }
    Ok(findings)
}
