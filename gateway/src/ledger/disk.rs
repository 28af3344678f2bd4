//! A disk that can be full, for tests.

use std::{
    fs::File,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Durability, Ledger, journal::Medium};

/// A file that takes nothing while the disk is full, after a part of what it was given.
pub(crate) struct Disk {
    file: File,
    is_full: Arc<AtomicBool>,
}

impl Medium for Disk {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.is_full.load(Ordering::SeqCst) {
            return self.file.write_at(bytes, offset);
        }
        if let [bytes @ .., _] = bytes {
            self.file.write_at(bytes, offset)?;
        }
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }
}

impl Disk {
    /// A ledger on a disk, and whether the disk is full.
    pub(crate) fn ledger(folder: &Path, durability: Durability) -> (Ledger, Arc<AtomicBool>) {
        let is_full = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&is_full);
        let create = move |path: &Path| {
            let file = File::create_new(path)?;
            let is_full = Arc::clone(&shared);
            Ok(Arc::new(Self { file, is_full }) as Arc<dyn Medium>)
        };
        let ledger = Ledger::open_with(folder, durability, Arc::new(create));
        (ledger.unwrap(), is_full)
    }
}
