//! Files out of tar archives: only plain files that an engine may read, and never more than an archive can honestly hold.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, EntryType};

use super::cache::remove_if_there;
use super::choose::is_candidate;
use super::error::FetchError;
use super::name::FileName;
use super::registry::Packing;

/// How much longer than its archive what is in it may be; weights hardly shrink.
const RATIO_MAX: u64 = 64;
const SMALL_BYTES_MAX: u64 = 256 << 20;
const FILES_MAX: usize = 100_000;
const BUFFER_BYTES: usize = 1 << 18;

/// Unpacks the files that an engine may read into `folder` and returns their names. Blocks.
pub(super) fn unpack(
    archive: &Path,
    packing: Packing,
    folder: &Path,
    progress: &dyn Fn(u64),
) -> Result<Vec<FileName>, FetchError> {
    let fail = |source| FetchError::cache(archive, source);
    let file = File::open(archive).map_err(fail)?;
    let limit = file
        .metadata()
        .map_err(fail)?
        .len()
        .saturating_mul(RATIO_MAX)
        .max(SMALL_BYTES_MAX);
    let file = BufReader::with_capacity(BUFFER_BYTES, file);
    let reader: Box<dyn Read> = match packing {
        Packing::Plain => Box::new(file),
        Packing::Gzip => Box::new(MultiGzDecoder::new(file)),
    };
    // What is read past the limit looks like a cut archive.
    let mut archive = Archive::new(reader.take(limit));
    let broken = |what: &str| FetchError::Broken(format!("a layer's archive is broken: {what}"));
    let unreadable = |error: io::Error| broken(&error.to_string());
    let (mut names, mut done) = (Vec::new(), 0);
    for (count, entry) in archive.entries().map_err(unreadable)?.enumerate() {
        if FILES_MAX <= count {
            return Err(broken("it has too many files"));
        }
        let mut entry = entry.map_err(unreadable)?;
        // Links could lead anywhere; weights are plain files.
        if !matches!(
            entry.header().entry_type(),
            EntryType::Regular | EntryType::Continuous
        ) {
            continue;
        }
        let path = String::from_utf8(entry.path_bytes().into_owned())
            .map_err(|_| broken("a name is not UTF-8"))?;
        let name = FileName::try_from(path.trim_start_matches("./"))?;
        if !is_candidate(&name) {
            continue;
        }
        let bytes = entry.size();
        if limit < bytes {
            return Err(broken("a file is longer than the archive can hold"));
        }
        let before = done;
        copy(&mut entry, &name.under(folder), &mut |count| {
            done = before + count;
            progress(done);
        })?;
        if done - before != bytes {
            return Err(broken("it ends in the middle of a file"));
        }
        names.push(name);
    }
    Ok(names)
}

/// Copies an archive's file to a new file.
fn copy(
    from: &mut dyn Read,
    place: &Path,
    progress: &mut dyn FnMut(u64),
) -> Result<(), FetchError> {
    let fail = |source| FetchError::cache(place, source);
    if let Some(folder) = place.parent() {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    // A later layer replaces the file of an earlier one.
    remove_if_there(place)?;
    let mut to = File::create_new(place).map_err(fail)?;
    let (mut buffer, mut done) = (vec![0; BUFFER_BYTES], 0);
    loop {
        let count = from
            .read(&mut buffer)
            .map_err(|error| FetchError::Broken(format!("a layer's archive is broken: {error}")))?;
        if count == 0 {
            return to.sync_all().map_err(fail);
        }
        to.write_all(&buffer[..count]).map_err(fail)?;
        done += count as u64;
        progress(done);
    }
}
