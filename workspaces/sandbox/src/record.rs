//! What is kept on disk of a running sandbox, for [`crate::Sandboxes::recover`] and nothing else.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::SandboxError;

/// A process that cannot be mistaken for another one which got its id later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessMark {
    pub pid: u32,
    /// Clock ticks from boot to its start.
    pub start_ticks: u64,
}

/// A sandbox as the next caller must know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub id: String,
    pub boot: String,
    pub helper: Option<ProcessMark>,
    pub init: Option<ProcessMark>,
    pub cgroups: Vec<PathBuf>,
}

impl ProcessMark {
    /// Marks a process that exists.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        start_ticks(pid).map(|start_ticks| Self { pid, start_ticks })
    }

    /// Whether that very process still exists.
    pub(crate) fn is_alive(&self) -> bool {
        start_ticks(self.pid) == Some(self.start_ticks)
    }
}

impl Record {
    /// Writes it so that a reader sees the old or the new one.
    pub(crate) fn save(&self, folder: &Path) -> Result<(), SandboxError> {
        let path = folder.join(format!("{}.json", self.id));
        let draft = folder.join(format!(".{}.draft", self.id));
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&draft)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            fs::rename(&draft, &path)
        };
        write().map_err(SandboxError::io(format!("write {}", path.display())))
    }

    /// All records of a folder; one that cannot be read is skipped, it was never whole.
    pub(crate) fn load_all(folder: &Path) -> Vec<Self> {
        let Ok(entries) = fs::read_dir(folder) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter(|entry| entry.path().extension().is_some_and(|kind| kind == "json"))
            .filter_map(|entry| fs::read(entry.path()).ok())
            .filter_map(|bytes| serde_json::from_slice(&bytes).ok())
            .collect()
    }

    pub(crate) fn exists(folder: &Path, id: &str) -> bool {
        folder.join(format!("{id}.json")).exists()
    }

    pub(crate) fn remove(folder: &Path, id: &str) {
        if let Err(error) = fs::remove_file(folder.join(format!("{id}.json")))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(sandbox = id, %error, "sandbox record not removed");
        }
    }
}

/// Identifies this boot of the kernel: process ids and cgroups of another one mean nothing.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and brackets; the fields after it do not. Field 22 is the start time, and Z is already dead.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_knows_its_process_from_another() {
        let own = ProcessMark::of(std::process::id()).unwrap();
        assert!(own.is_alive());
        let later = ProcessMark {
            start_ticks: own.start_ticks + 1,
            ..own
        };
        assert!(!later.is_alive());
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mark = ProcessMark::of(child.id());
        child.wait().unwrap();
        assert!(mark.is_none_or(|mark| !mark.is_alive()));
    }

    #[test]
    fn records_survive_and_half_written_ones_are_skipped() {
        let dir = tempfile::tempdir().unwrap();
        let record = Record {
            id: "a".to_owned(),
            boot: boot_id(),
            helper: ProcessMark::of(std::process::id()),
            init: None,
            cgroups: vec!["/sys/fs/cgroup/x".into()],
        };
        record.save(dir.path()).unwrap();
        fs::write(dir.path().join("b.json"), "{\"id\":").unwrap();
        assert_eq!(Record::load_all(dir.path()), vec![record]);
        Record::remove(dir.path(), "a");
        Record::remove(dir.path(), "a");
        assert!(!Record::exists(dir.path(), "a"));
    }
}
