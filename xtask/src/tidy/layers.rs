//! Which crate may know which: the layout is the architecture.

use std::{fs, path::Path};

use anyhow::{Context, Result};

use super::Finding;

/// What of ours each crate may use (dev-dependencies are free to add `testkit` and `protocol`).
const MAY_USE: &[(&str, &[&str])] = &[
    ("crds", &[]),
    ("libs/protocol", &[]),
    ("libs/telemetry", &[]),
    ("libs/testkit", &["crds", "protocol"]),
    ("operator", &["crds", "protocol", "telemetry"]),
    ("engine/core", &[]),
    ("engine/models", &["engine-core"]),
    (
        "engine/server",
        &["engine-core", "engine-models", "protocol", "telemetry"],
    ),
    ("gateway", &["protocol", "telemetry"]),
    ("agents", &["protocol", "telemetry"]),
    ("workspaces/sandbox", &[]),
    (
        "workspaces/daemon",
        &["workspaces-sandbox", "protocol", "telemetry"],
    ),
    ("cluster/apiserver", &["telemetry"]),
    ("cluster/controllers", &[]),
    ("cluster/node", &["workspaces-sandbox", "telemetry"]),
    ("console", &["protocol"]),
    ("xtask", &["crds"]),
];

/// Composition happens here: these may use everything.
const COMPOSE: &[&str] = &["cli", "tests", "bench"];

/// Data planes run without a cluster, so nothing of them speaks its API.
const WITHOUT_KUBERNETES: &[&str] = &[
    "libs",
    "engine",
    "gateway",
    "agents",
    "workspaces",
    "console",
];

/// The workspace's members, as folders.
pub(super) fn members(root: &Path) -> Result<Vec<String>> {
    let manifest = fs::read_to_string(root.join("Cargo.toml")).context("reading Cargo.toml")?;
    let list = manifest
        .split("members = [")
        .nth(1)
        .and_then(|rest| rest.split(']').next())
        .unwrap_or_default();
    Ok(list
        .split('"')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect())
}

/// Checks every crate's dependencies.
pub(super) fn check(root: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let members = members(root)?;
    let ours: Vec<String> = members.iter().map(|member| package_name(member)).collect();
    for member in &members {
        let place = format!("{member}/Cargo.toml");
        let manifest =
            fs::read_to_string(root.join(&place)).with_context(|| format!("reading {place}"))?;
        for rule in check_manifest(member, &manifest, &ours) {
            findings.push(Finding::new(&place, rule));
        }
    }
    Ok(findings)
}

fn check_manifest(member: &str, manifest: &str, ours: &[String]) -> Vec<String> {
    let mut rules = Vec::new();
    let used = dependencies(manifest);
    if !manifest.contains("[lints]\nworkspace = true") {
        rules.push("does not take the workspace's lints".to_owned());
    }
    let speaks_kubernetes = used
        .iter()
        .any(|name| matches!(*name, "kube" | "k8s-openapi"));
    let family = member.split('/').next().unwrap_or(member);
    if speaks_kubernetes && WITHOUT_KUBERNETES.contains(&family) {
        rules.push("speaks Kubernetes; data planes must run without it".to_owned());
    }
    if COMPOSE.contains(&member) {
        return rules;
    }
    let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| *name == member) else {
        rules.push("is not in the table of layers (xtask/src/tidy/layers.rs)".to_owned());
        return rules;
    };
    for name in used
        .iter()
        .filter(|name| ours.iter().any(|own| own == *name))
    {
        if !allowed.contains(name) {
            rules.push(format!("uses `{name}`, which the layers do not allow"));
        }
    }
    rules
}

/// The names under `[dependencies]`.
fn dependencies(manifest: &str) -> Vec<&str> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let names = section.lines().filter(|line| !line.starts_with('#'));
    names
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect()
}

/// A member's package name: its path with dashes; libraries and the binary go by their own names.
fn package_name(member: &str) -> String {
    match member {
        "cli" => "qd".to_owned(),
        library if library.starts_with("libs/") => library.trim_start_matches("libs/").to_owned(),
        other => other.replace('/', "-"),
    }
}

#[cfg(test)]
mod tests {
    use super::check_manifest;

    #[track_caller]
    fn check(member: &str, dependency: &str, expected: &[&str]) {
        let manifest =
            format!("[lints]\nworkspace = true\n\n[dependencies]\n{dependency}.workspace = true\n");
        let ours = ["gateway", "protocol", "agents", "telemetry"].map(str::to_owned);
        assert_eq!(check_manifest(member, &manifest, &ours), expected);
    }

    #[test]
    fn a_crate_uses_only_what_its_layer_allows() {
        check("gateway", "protocol", &[]);
        check("gateway", "serde", &[]);
        check(
            "gateway",
            "agents",
            &["uses `agents`, which the layers do not allow"],
        );
        check(
            "agents",
            "kube",
            &["speaks Kubernetes; data planes must run without it"],
        );
        check("cli", "agents", &[]);
    }
}
