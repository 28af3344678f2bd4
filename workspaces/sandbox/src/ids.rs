//! Ranges of host user ids, each lent to one sandbox at a time.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::SandboxError;

/// Ids in a range: what an image expects to have.
pub(crate) const RANGE_IDS: u32 = 65_536;
/// The first range: above what systemd-nspawn (to 0x6fffffff) and subordinate ids use, below ids that are negative as `int`.
const FIRST_ID: u32 = 0x7000_0000;
/// Ranges up to systemd's foreign range.
const RANGES: u32 = 4_000;

/// Host ids that stand for 0..65536 inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct IdRange {
    pub first: u32,
}

/// The ledger of lent ranges, a locked file so that two callers with one state directory never lend the same.
#[derive(Debug)]
pub(crate) struct IdLedger {
    path: PathBuf,
}

impl IdLedger {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Lends the lowest free range to a sandbox; the same one again if it has one.
    pub(crate) fn lend(&self, id: &str) -> Result<IdRange, SandboxError> {
        self.change(|lent| {
            if let Some(index) = lent.get(id) {
                return Ok(range(*index));
            }
            let used: std::collections::BTreeSet<u32> = lent.values().copied().collect();
            let index = (0..RANGES)
                .find(|index| !used.contains(index))
                .ok_or(SandboxError::NoIds { ranges: RANGES })?;
            lent.insert(id.to_owned(), index);
            Ok(range(index))
        })
    }

    /// Takes a range back. Nothing on disk carries its ids: writable mounts are id-mapped.
    pub(crate) fn take_back(&self, id: &str) -> Result<(), SandboxError> {
        self.change(|lent| {
            lent.remove(id);
            Ok(())
        })
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, u32>) -> Result<T, SandboxError>,
    ) -> Result<T, SandboxError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&self.path)
            .map_err(SandboxError::io(format!("open {}", self.path.display())))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(SandboxError::io("lock the id ledger"))?;
        let mut lent = read(&mut file)?;
        let before = lent.clone();
        let outcome = change(&mut lent)?;
        if lent != before {
            write(&mut file, &lent).map_err(SandboxError::io("write the id ledger"))?;
        }
        Ok(outcome)
    }
}

fn range(index: u32) -> IdRange {
    IdRange {
        first: FIRST_ID + index * RANGE_IDS,
    }
}

fn read(file: &mut File) -> Result<BTreeMap<String, u32>, SandboxError> {
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(SandboxError::io("read the id ledger"))?;
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    serde_json::from_str(text.trim_end_matches(' '))
        .map_err(SandboxError::io("parse the id ledger"))
}

/// Overwrites in place with one write: a shorter text is padded, so that no crash leaves half of two texts.
fn write(file: &mut File, lent: &BTreeMap<String, u32>) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(lent)?;
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if text.len() < length {
        text.resize(length, b' ');
    }
    file.rewind()?;
    file.write_all(&text)?;
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_lent_to_one_sandbox_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = IdLedger::new(dir.path().join("ids.json"));
        let first = ledger.lend("a").unwrap();
        assert_eq!(first, IdRange { first: FIRST_ID });
        assert_eq!(ledger.lend("a").unwrap(), first);
        let second = ledger.lend("b").unwrap();
        assert_eq!(second.first, FIRST_ID + RANGE_IDS);
        ledger.take_back("a").unwrap();
        let again = IdLedger::new(dir.path().join("ids.json"));
        assert_eq!(again.lend("c").unwrap(), first);
        assert_eq!(again.lend("b").unwrap(), second);
    }

    #[test]
    fn ranges_end_before_ids_turn_negative() {
        assert!(
            range(RANGES - 1)
                .first
                .checked_add(RANGE_IDS)
                .is_some_and(|end| end <= 0x7ffe_0000)
        );
    }
}
