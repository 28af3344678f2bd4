//! Fetching what a listing names: several files at a time, one progress over all of them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use futures::{FutureExt, StreamExt, TryStreamExt, stream};

use super::cache::{Entry, remove_if_there, settle};
use super::client::Client;
use super::disk;
use super::download::{Download, Note, Remote, note_path};
use super::error::FetchError;
use super::{Phase, Progress};

/// Files that are fetched at once.
const FILES_AT_ONCE: usize = 4;
const UNKNOWN: u64 = u64::MAX;

/// A file that is to come to a place.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) remote: Remote,
    pub(super) place: PathBuf,
}

/// How many bytes of how many have come, over all files.
struct Tally<'a> {
    progress: Progress<'a>,
    done: Vec<AtomicU64>,
    total: Vec<AtomicU64>,
}

impl<'a> Tally<'a> {
    fn new(wanted: &[Wanted], progress: Progress<'a>) -> Self {
        let totals = wanted
            .iter()
            .map(|wanted| AtomicU64::new(wanted.remote.bytes.unwrap_or(UNKNOWN)));
        Self {
            progress,
            done: wanted.iter().map(|_| AtomicU64::new(0)).collect(),
            total: totals.collect(),
        }
    }

    fn note(&self, file: usize, done: u64, total: Option<u64>) {
        let set = |counts: &[AtomicU64], value| {
            if let Some(count) = counts.get(file) {
                count.store(value, Ordering::Relaxed);
            }
        };
        set(&self.done, done);
        if let Some(total) = total {
            set(&self.total, total);
        }
        let sum = |counts: &[AtomicU64]| {
            let counts = counts.iter().map(|count| count.load(Ordering::Relaxed));
            counts.fold(0_u64, u64::saturating_add)
        };
        let total = Some(sum(&self.total)).filter(|total| *total != UNKNOWN);
        (self.progress)(Phase::Downloading, sum(&self.done), total);
    }
}

/// Fetches files to their places; those that are there already are not fetched again.
pub(super) async fn fetch_all(
    client: &Client,
    entry: &Entry,
    wanted: &[Wanted],
    progress: Progress<'_>,
) -> Result<Vec<Note>, FetchError> {
    let missing = wanted.iter().map(|wanted| {
        let have = length(&entry.part(&wanted.place)).max(length(&wanted.place));
        wanted.remote.bytes.unwrap_or(0).saturating_sub(have)
    });
    let missing = missing.fold(0, u64::saturating_add);
    disk::check_room(entry.partial(), missing)?;
    let tally = Tally::new(wanted, progress);
    let mut fetches = Vec::with_capacity(wanted.len());
    for (index, wanted) in wanted.iter().enumerate() {
        fetches.push(fetch_one(client, entry, wanted, (index, &tally)).boxed());
    }
    // In order, so that each note belongs to its file.
    stream::iter(fetches)
        .buffered(FILES_AT_ONCE)
        .try_collect()
        .await
}

async fn fetch_one(
    client: &Client,
    entry: &Entry,
    wanted: &Wanted,
    (index, tally): (usize, &Tally<'_>),
) -> Result<Note, FetchError> {
    let Wanted { remote, place } = wanted;
    let part = entry.part(place);
    if let Some(note) = Note::of_whole(&part, remote, length(place)) {
        let bytes = length(place);
        tally.note(index, bytes, Some(bytes));
        return Ok(note);
    }
    // It is another version, and its note is about to be that of this one.
    remove_if_there(place)?;
    let progress = |done, total| tally.note(index, done, total);
    let note = Download::new(client, remote, part.clone(), &progress)
        .run()
        .await?;
    settle(&part, place)?;
    Ok(note)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Forgets a file that has turned out to be wrong.
pub(super) fn forget(entry: &Entry, place: &Path) {
    // A note without its file says nothing.
    drop(std::fs::remove_file(place));
    drop(std::fs::remove_file(note_path(&entry.part(place))));
}
