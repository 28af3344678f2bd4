//! The CRDs as YAML: crds/yaml, and the same as templates of the chart `quarterdeck-crds`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::root;

/// `kubectl apply` keeps the whole object in an annotation of at most 256 KiB; ours stay far below.
const CRD_BYTES_MAX: usize = 96 << 10;

/// Writes the files, or compares them.
pub(crate) fn run(check: bool) -> Result<()> {
    for crd in crds::all() {
        let name = crd.metadata.name.clone().context("a CRD without a name")?;
        let yaml = crds::yaml(&crd);
        if CRD_BYTES_MAX < yaml.len() {
            bail!(
                "{name} is {} bytes, over the limit of {CRD_BYTES_MAX}",
                yaml.len()
            );
        }
        let file = format!("{name}.yaml");
        settle(
            &root().join("crds/yaml").join(&file),
            &yaml,
            check,
            "cargo xtask crds",
        )?;
        settle(
            &root().join("charts/quarterdeck-crds/templates").join(&file),
            &template(&yaml),
            check,
            "cargo xtask crds",
        )?;
    }
    Ok(())
}

/// The CRD as a chart template: kept on uninstall unless the values say otherwise.
fn template(yaml: &str) -> String {
    const KEEP: &str = "metadata:\n  {{- if .Values.keep }}\n  annotations:\n    helm.sh/resource-policy: keep\n  {{- end }}\n";
    // Descriptions may hold braces, which the template language would read.
    yaml.replace("{{", "{{ \"{{\" }}")
        .replacen("metadata:\n", KEEP, 1)
}

/// Writes a generated file, or fails if it differs.
pub(crate) fn settle(path: &Path, content: &str, check: bool, chore: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|current| current == content) {
        return Ok(());
    }
    if check {
        bail!(
            "{} is not what the sources generate; run `{chore}` and commit it",
            path.display()
        );
    }
    let parent = path
        .parent()
        .map(PathBuf::from)
        .context("a file without a folder")?;
    fs::create_dir_all(&parent).with_context(|| format!("creating {}", parent.display()))?;
    crate::say(&format!("writing {}", path.display()));
    fs::write(path, content).with_context(|| format!("writing {}", path.display()))
}
