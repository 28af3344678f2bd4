//! Golden files: what code makes of a fixture, kept beside it and compared.
//!
//! `UPDATE_GOLDEN=1` writes the files that differ; read what it wrote before you commit it.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The golden files of one folder.
///
/// Files that no check named are strays: they are found when the set is closed.
#[derive(Debug)]
pub struct Golden {
    folder: PathBuf,
    known: BTreeSet<String>,
    faults: Vec<String>,
}

impl Golden {
    /// The golden files of a folder, in which these fixtures lie too.
    pub fn new(folder: impl Into<PathBuf>, fixtures: &[&str]) -> Self {
        Self {
            folder: folder.into(),
            known: fixtures.iter().map(|&name| name.to_owned()).collect(),
            faults: Vec::new(),
        }
    }

    /// Compares a file with what it should hold.
    pub fn check(&mut self, name: &str, actual: &str) {
        self.known.insert(name.to_owned());
        let path = self.folder.join(name);
        let expected = fs::read_to_string(&path).ok();
        if expected.as_deref() == Some(actual) {
            return;
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let written = fs::write(&path, actual);
            self.faults.extend(
                written
                    .err()
                    .map(|error| format!("{}: {error}", path.display())),
            );
            return;
        }
        let shown = expected.unwrap_or_else(|| "(the file is missing)".to_owned());
        self.faults.push(format!(
            "{} differs\n--- expected\n{shown}\n--- actual\n{actual}",
            path.display()
        ));
    }

    /// What is wrong: files that differ, are missing, or belong to nothing.
    pub fn close(mut self) -> Vec<String> {
        for name in names(&self.folder) {
            if !self.known.contains(&name) {
                let path = self.folder.join(name);
                self.faults
                    .push(format!("{} belongs to no fixture", path.display()));
            }
        }
        self.faults
    }
}

/// The names in a folder, sorted; none if there is no folder.
pub fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
