//! The part of a form that is kept: in memory, or in a file that has no name.

use std::{
    fs::File,
    io::{self, Write},
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use protocol::openai::ErrorKind;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tracing::error;

use crate::fault::Fault;

/// Forms that are kept in files at once.
const FILES_MAX: usize = 32;
/// Bytes that are read of a file at once.
const CHUNK_BYTES: u64 = 128 << 10;

/// Where forms are kept whose model comes late.
#[derive(Debug)]
pub(crate) struct Spill {
    folder: PathBuf,
    places: Arc<Semaphore>,
    form_bytes_max: u64,
}

/// A form in a file without a name: the system removes it when the last handle is closed.
#[derive(Debug)]
pub(super) struct Spilled {
    file: Arc<File>,
    length: u64,
    _place: OwnedSemaphorePermit,
}

/// What is kept of a form.
#[derive(Debug)]
pub(super) enum Kept {
    /// Its first bytes, or all of a small one.
    Memory(Bytes),
    /// All of it.
    File(Spilled),
}

impl Spill {
    /// Keeps forms of so many bytes in this folder.
    pub(crate) fn new(folder: &Path, form_bytes_max: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            places: Arc::new(Semaphore::new(FILES_MAX)),
            form_bytes_max,
        }
    }

    /// Bytes that a form may have.
    pub(crate) const fn form_bytes_max(&self) -> u64 {
        self.form_bytes_max
    }

    /// A file for a form.
    ///
    /// # Errors
    /// Too many are kept now, or the folder cannot be written.
    pub(super) async fn begin(&self) -> Result<Spilled, Fault> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let message = "Too many forms name their model after their file. Name it before, or try again later.";
            Fault::new(ErrorKind::Unavailable, message)
        })?;
        let folder = self.folder.clone();
        let file = spawn_blocking(move || tempfile::tempfile_in(folder)).await;
        let file = file.map_err(io::Error::other).flatten();
        Ok(Spilled {
            file: Arc::new(file.map_err(|error| no_room(&error))?),
            length: 0,
            _place: place,
        })
    }
}

impl Spilled {
    /// Appends bytes.
    ///
    /// # Errors
    /// The disk does not take them.
    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<(), Fault> {
        let file = Arc::clone(&self.file);
        self.length += bytes.len() as u64;
        let written = spawn_blocking(move || (&*file).write_all(&bytes)).await;
        let written = written.map_err(io::Error::other).flatten();
        written.map_err(|error| no_room(&error))
    }
}

impl Kept {
    /// How many bytes it has.
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Memory(bytes) => bytes.len() as u64,
            Self::File(file) => file.length,
        }
    }

    /// The bytes of a range.
    pub(super) fn stream(&self, range: Range<u64>) -> BoxStream<'static, io::Result<Bytes>> {
        match self {
            Self::Memory(bytes) => {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                let bytes = bytes.slice(place(range.start)..place(range.end));
                stream::iter((!bytes.is_empty()).then_some(Ok(bytes))).boxed()
            }
            Self::File(spilled) => {
                let file = Arc::clone(&spilled.file);
                let chunks = stream::try_unfold(range.start, move |at| {
                    let file = Arc::clone(&file);
                    let length = range.end.saturating_sub(at).min(CHUNK_BYTES);
                    async move {
                        if length == 0 {
                            return Ok(None);
                        }
                        let read = spawn_blocking(move || {
                            let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
                            file.read_exact_at(&mut chunk, at)?;
                            Ok::<_, io::Error>(Bytes::from(chunk))
                        });
                        let chunk = read.await.map_err(io::Error::other).flatten()?;
                        Ok(Some((chunk, at + length)))
                    }
                });
                chunks.boxed()
            }
        }
    }
}

fn no_room(error: &io::Error) -> Fault {
    error!(%error, "a form cannot be kept in the data folder");
    let message =
        "The form cannot be kept now. Name its model before its file, or try again later.";
    Fault::new(ErrorKind::Unavailable, message)
}
