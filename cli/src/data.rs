//! The data folder: everything that `qd up` keeps, and who may use it.

use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A folder with the state of one embedded cluster.
#[derive(Debug, Clone)]
pub(crate) struct DataFolder {
    root: PathBuf,
}

/// Proof that no other process uses the folder; released when dropped, also by a crash.
#[derive(Debug)]
pub(crate) struct DataLock {
    _file: File,
}

impl DataFolder {
    /// A folder at this place, which need not exist yet.
    pub(crate) const fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The user's own folder.
    pub(crate) fn of_user() -> Result<Self> {
        let home =
            std::env::home_dir().context("there is no home folder; name a folder with --data")?;
        Ok(Self::new(home.join(".local/share/quarterdeck")))
    }

    /// The folder itself.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    /// The kubeconfig of the embedded cluster's administrator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// The gateway key that this machine's commands use.
    pub(crate) fn gateway_key(&self) -> PathBuf {
        self.root.join("gateway-key")
    }

    /// Creates the folder, readable by its owner only, and locks it.
    pub(crate) fn lock(&self) -> Result<DataLock> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder
            .create(&self.root)
            .with_context(|| format!("creating {}", self.root.display()))?;
        let path = self.root.join("lock");
        let file = File::create(&path).with_context(|| format!("creating {}", path.display()))?;
        if file.try_lock().is_err() {
            bail!(
                "another `qd up` uses {}\nhint: stop it, or choose another folder with --data",
                self.root.display()
            );
        }
        Ok(DataLock { _file: file })
    }
}
