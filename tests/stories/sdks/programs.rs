//! The programs of `target/sdks`, where `cargo xtask sdks` puts them.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::harness::{checked, root, target};

/// What runs a script.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Runtime {
    /// The Python of an environment.
    Python(&'static str),
    /// Node.js.
    Node,
}

impl Runtime {
    /// A command that runs a script of `tests/stories/sdks`.
    fn command(self, script: &str) -> Result<Command> {
        match self {
            Self::Python(environment) => {
                let mut command = Command::new(python(environment)?);
                command.arg(scripts().join(script));
                // Scripts stand beside each other: nobody's cache belongs there.
                command.env("PYTHONDONTWRITEBYTECODE", "1");
                Ok(command)
            }
            Self::Node => {
                // Packages are looked for beside the script.
                let folder = place("npm")?;
                for name in ["seen.mjs", script] {
                    let copy = folder.join(name);
                    let text = fs::read(scripts().join(name)).context("reading a script")?;
                    if fs::read(&copy).ok().as_ref() != Some(&text) {
                        fs::write(&copy, text).context("copying a script")?;
                    }
                }
                let mut command = Command::new(node()?);
                command.arg(folder.join(script));
                Ok(command)
            }
        }
    }

    /// Runs a script against a base URL with a key, and reads its report.
    pub(crate) fn run(self, script: &str, url: &str, key: &str) -> Result<Value> {
        let mut command = self.command(script)?;
        // What clients of this machine are told by its environment is nothing to them.
        for name in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
        ] {
            command.env_remove(name);
        }
        let said = checked(command.args([url, key]))?;
        serde_json::from_str(&said).with_context(|| format!("reading the report of {script}"))
    }
}

fn place(name: &str) -> Result<PathBuf> {
    let folder = target().join("sdks").join(name);
    ensure!(
        folder.join("made-of").exists(),
        "there is no {name} in target/sdks\nhint: cargo xtask sdks"
    );
    Ok(folder)
}

fn scripts() -> PathBuf {
    root().join("tests/stories/sdks")
}

/// The Python of an environment.
pub(crate) fn python(environment: &str) -> Result<PathBuf> {
    program(environment, "python")
}

/// A program of an environment.
pub(crate) fn program(environment: &str, name: &str) -> Result<PathBuf> {
    Ok(place(environment)?.join("bin").join(name))
}

/// Node.js: the machine's own, if it has one.
pub(crate) fn node() -> Result<PathBuf> {
    if Command::new("node").arg("--version").output().is_ok() {
        return Ok(PathBuf::from("node"));
    }
    Ok(place("node")?.join("bin/node"))
}

/// The folder in which scripts find JavaScript's packages.
pub(crate) fn packages() -> Result<PathBuf> {
    place("npm")
}
