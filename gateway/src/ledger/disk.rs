//! A disk that can be full, for tests.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{Ledger, journal::Medium};

/// A file that takes nothing while the disk is full, after a part of what it was given.
pub(crate) struct Disk {
    file: File,
    is_full: Arc<AtomicBool>,
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_full.load(Ordering::SeqCst) {
            return self.file.write(bytes);
        }
        match bytes {
            [] | [_] => Err(io::ErrorKind::StorageFull.into()),
            [bytes @ .., _] => self.file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Medium for Disk {
    fn sync(&mut self) -> io::Result<()> {
        self.file.sync()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.file.cut(length)
    }
}

impl Disk {
    /// A ledger on a disk, and whether the disk is full.
    pub(crate) fn ledger(folder: &Path) -> (Ledger, Arc<AtomicBool>) {
        let is_full = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&is_full);
        let create = move |path: &Path| {
            let file = File::options().append(true).create_new(true).open(path)?;
            let is_full = Arc::clone(&shared);
            Ok(Box::new(Self { file, is_full }) as Box<dyn Medium>)
        };
        (
            Ledger::open_with(folder, Arc::new(create)).unwrap(),
            is_full,
        )
    }
}
