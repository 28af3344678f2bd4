//! The gate: what every change must pass, in the order that fails soonest.

use anyhow::Result;

use crate::{crd_yaml, process, sdks, stack, tidy, tools, weights};

/// Runs all of it.
pub(crate) fn run() -> Result<()> {
    process::run("cargo", &["fmt", "--all", "--check"])?;
    tidy::run()?;
    process::run(
        "cargo",
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ],
    )?;
    crd_yaml::run(true)?;
    tools::fetch()?;
    stack::run(true)?;
    weights::fetch()?;
    sdks::fetch()?;
    // The stories run the binary as a user would, so it must be there before them.
    process::run("cargo", &["build", "--workspace", "--all-targets"])?;
    if process::has_cargo_command("nextest") {
        return process::run("cargo", &["nextest", "run", "--workspace"]);
    }
    process::run("cargo", &["test", "--workspace"])
}
