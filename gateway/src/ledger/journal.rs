//! The journal: rows as they come, appended to a file before anybody is told.
//!
//! A record is its payload's length and CRC-32 (both 32 bits, little endian), then the payload, a row as JSON. Records
//! lie in segments; what the store has taken is marked there, in the same transaction as its rows, so that each record
//! counts once however often it is read. Of a record that a crash cut off nothing was acknowledged: reading ends there.

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use super::Entry;

/// Bytes of a segment.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes from which on the next segment is made.
const PREPARE_BYTES: u64 = SEGMENT_BYTES / 2;
/// Bytes in front of a payload.
const HEADER: usize = 8;
/// Bytes of one payload; rows are far below, as all names in them are bounded.
const PAYLOAD_MAX: usize = 1 << 20;
/// Bytes that are read at a time.
const READ_BYTES: usize = 256 << 10;

/// A place in the journal: a segment's number and a byte of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// What rows are appended to.
pub(super) trait Medium: Send + Sync {
    /// Writes at this byte; whatever ends this process later, the bytes are there.
    ///
    /// # Errors
    /// The disk's; a part may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Returns when everything that was written is on disk, so that it survives the machine too.
    ///
    /// # Errors
    /// The disk's.
    fn sync(&self) -> io::Result<()>;

    /// Cuts off what is behind `length` bytes.
    ///
    /// # Errors
    /// The disk's.
    fn cut(&self, length: u64) -> io::Result<()>;
}

impl Medium for File {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&self, length: u64) -> io::Result<()> {
        self.set_len(length)?;
        self.sync_data()
    }
}

/// Creates the file of a segment.
pub(super) type Create = dyn Fn(&Path) -> io::Result<Arc<dyn Medium>> + Send + Sync;

/// Creates segments as files full of zeros, which a crash does not lose: the sync of a write that changes neither a
/// file's size nor its blocks needs no commit of the file system's own journal, so half the time and half the work.
pub(super) fn create_filled(path: &Path) -> io::Result<Arc<dyn Medium>> {
    match fill(path) {
        Ok(file) => Ok(Arc::new(file)),
        Err(error) => {
            // A full disk has no room for a part of it either.
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// Creates segments as empty files: nobody waits for their syncs.
pub(super) fn create_empty(path: &Path) -> io::Result<Arc<dyn Medium>> {
    Ok(Arc::new(File::create(path)?))
}

fn fill(path: &Path) -> io::Result<File> {
    let mut file = File::create(path)?;
    io::copy(&mut io::repeat(0).take(SEGMENT_BYTES), &mut file)?;
    file.sync_all()?;
    Ok(file)
}

/// The end of the journal that is written to.
pub(super) struct Journal {
    folder: PathBuf,
    create: Arc<Create>,
    /// The segment that is written to; `None` until rows come.
    medium: Option<Arc<dyn Medium>>,
    /// The segment behind it, which is made while there is time.
    next: Option<JoinHandle<io::Result<Arc<dyn Medium>>>>,
    end: Position,
    /// Up to where the segment is synced, or somebody was given it to sync.
    synced: u64,
    /// Segments that were left before that.
    unsynced: Vec<Unsynced>,
    buffer: Vec<u8>,
}

/// A segment with rows that are written, and perhaps not on disk.
pub(super) struct Unsynced {
    medium: Arc<dyn Medium>,
    /// The folder that the segment is new in.
    folder: Option<PathBuf>,
}

impl Unsynced {
    /// Returns when they are on disk, and the file's name with them.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.medium.sync()?;
        match &self.folder {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    }
}

impl Journal {
    /// A journal that goes on with a new segment of this number.
    pub(super) fn new(folder: &Path, segment: u64, create: Arc<Create>) -> Self {
        Self {
            folder: folder.to_owned(),
            create,
            medium: None,
            next: None,
            end: Position { segment, offset: 0 },
            synced: 0,
            unsynced: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Appends rows, which survive this process when it returns where the journal ends now.
    ///
    /// # Errors
    /// The disk does not take them; none of them will be read.
    pub(super) fn append<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> io::Result<Position> {
        self.buffer.clear();
        for entry in entries {
            encode(entry, &mut self.buffer)?;
        }
        let length = self.buffer.len() as u64;
        if 0 < self.end.offset && SEGMENT_BYTES < self.end.offset + length {
            self.leave();
        }
        let medium = match self.medium.take() {
            Some(medium) => medium,
            None => self.open()?,
        };
        let written = medium.write_at(&self.buffer, self.end.offset);
        if written.is_err() {
            // A part of the rows may be there: nobody must find them.
            let _ = medium.cut(self.end.offset);
        }
        self.medium = Some(medium);
        if let Err(error) = written {
            self.leave();
            return Err(error);
        }
        self.end.offset += length;
        Ok(self.end)
    }

    /// Appends rows, which survive the machine when it returns where the journal ends now.
    ///
    /// # Errors
    /// The disk does not take them; none of them will be read.
    pub(super) fn append_synced<'a>(
        &mut self,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> io::Result<Position> {
        let end = self.append(entries)?;
        let unsynced = self.take_unsynced();
        if let Err(error) = unsynced.iter().try_for_each(Unsynced::sync) {
            let begin = end.offset - self.buffer.len() as u64;
            if let Some(medium) = &self.medium {
                let _ = medium.cut(begin);
            }
            self.leave();
            return Err(error);
        }
        if PREPARE_BYTES <= end.offset && self.next.is_none() {
            self.prepare();
        }
        Ok(end)
    }

    /// What is to be synced for all rows so far to be on disk.
    pub(super) fn take_unsynced(&mut self) -> Vec<Unsynced> {
        self.note_unsynced();
        std::mem::take(&mut self.unsynced)
    }

    fn note_unsynced(&mut self) {
        if let Some(medium) = &self.medium
            && self.synced < self.end.offset
        {
            let folder = (self.synced == 0).then(|| self.folder.clone());
            let medium = Arc::clone(medium);
            self.unsynced.push(Unsynced { medium, folder });
            self.synced = self.end.offset;
        }
    }

    /// The segment that rows go to next.
    fn open(&mut self) -> io::Result<Arc<dyn Medium>> {
        let prepared = self.next.take().and_then(|next| next.join().ok());
        match prepared {
            Some(Ok(medium)) => Ok(medium),
            _ => (self.create)(&path(&self.folder, self.end.segment)),
        }
    }

    fn prepare(&mut self) {
        let next = path(&self.folder, self.end.segment + 1);
        let create = Arc::clone(&self.create);
        let making = thread::Builder::new().name("ledger-segment".to_owned());
        // Without a thread the segment is made when it is needed.
        self.next = making.spawn(move || create(&next)).ok();
    }

    fn leave(&mut self) {
        self.note_unsynced();
        self.medium = None;
        self.synced = 0;
        self.end = Position {
            segment: self.end.segment + 1,
            offset: 0,
        };
    }
}

fn encode(entry: &Entry, buffer: &mut Vec<u8>) -> io::Result<()> {
    let start = buffer.len();
    buffer.extend_from_slice(&[0; HEADER]);
    serde_json::to_writer(&mut *buffer, entry)?;
    let payload = &buffer[start + HEADER..];
    if PAYLOAD_MAX < payload.len() {
        // Nobody would read it, nor what is behind it.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let checksum = crc32fast::hash(payload);
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
    buffer[start + 4..start + HEADER].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// Reads the journal from a position on.
pub(super) struct Reader {
    folder: PathBuf,
    position: Position,
    file: Option<File>,
    /// Bytes of the segment, of which those before `taken` were read.
    buffer: Vec<u8>,
    taken: usize,
}

impl Reader {
    pub(super) fn new(folder: &Path, position: Position) -> Self {
        Self {
            folder: folder.to_owned(),
            position,
            file: None,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    /// Behind the last record that was read.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// Goes back to where it was.
    pub(super) fn return_to(&mut self, position: Position) {
        self.position = position;
        self.file = None;
        self.buffer.clear();
        self.taken = 0;
    }

    /// Removes the segments before the one that is being read.
    pub(super) fn remove_what_was_read(&self) {
        remove_before(&self.folder, self.position.segment);
    }

    /// The next rows up to `end`, at most so many; none if there are no more.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn read(&mut self, end: Position, count_max: usize) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        while entries.len() < count_max && self.position < end {
            match self.next(end)? {
                Some(entry) => entries.push(entry),
                None if self.position.segment < end.segment => self.skip_to_next(),
                None => break,
            }
        }
        Ok(entries)
    }

    fn skip_to_next(&mut self) {
        self.return_to(Position {
            segment: self.position.segment + 1,
            offset: 0,
        });
    }

    /// The next record of the segment; `None` behind the last whole one.
    fn next(&mut self, end: Position) -> io::Result<Option<Entry>> {
        loop {
            if let Some((entry, length)) = decode(&self.buffer[self.taken..]) {
                self.taken += length;
                self.position.offset += length as u64;
                return Ok(Some(entry));
            }
            let rest = self.buffer.len() - self.taken;
            if HEADER + PAYLOAD_MAX <= rest || !self.fill(end)? {
                return Ok(None);
            }
        }
    }

    /// Reads more bytes of the segment; whether there were any.
    fn fill(&mut self, end: Position) -> io::Result<bool> {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let start = self.position.offset + self.buffer.len() as u64;
        let file = match &mut self.file {
            Some(file) => file,
            none => match File::open(path(&self.folder, self.position.segment)) {
                Ok(mut file) => {
                    file.seek(SeekFrom::Start(start))?;
                    none.insert(file)
                }
                // A segment whose first rows failed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(error) => return Err(error),
            },
        };
        let limit = if self.position.segment == end.segment {
            end.offset.saturating_sub(start).min(READ_BYTES as u64)
        } else {
            READ_BYTES as u64
        };
        let count = file.take(limit).read_to_end(&mut self.buffer)?;
        Ok(0 < count)
    }
}

/// The first record of some bytes and its length; `None` if it is not whole.
fn decode(bytes: &[u8]) -> Option<(Entry, usize)> {
    let (header, rest) = bytes.split_first_chunk::<HEADER>()?;
    let (length, checksum) = header.split_first_chunk::<4>()?;
    let checksum = u32::from_le_bytes(*checksum.first_chunk::<4>()?);
    let payload = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    if crc32fast::hash(payload) != checksum {
        return None;
    }
    let entry: Entry = serde_json::from_slice(payload).ok()?;
    Some((entry, HEADER + payload.len()))
}

/// The segments of a folder, in order.
///
/// # Errors
/// The folder cannot be read.
pub(super) fn segments(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("journal-")?.strip_suffix(".log")?;
            digits.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Removes segments that the store has taken. What cannot be removed now is removed at the next start.
fn remove_before(folder: &Path, segment: u64) {
    for number in segments(folder).unwrap_or_default() {
        if number < segment {
            let _ = fs::remove_file(path(folder, number));
        }
    }
}

fn path(folder: &Path, segment: u64) -> PathBuf {
    folder.join(format!("journal-{segment:012}.log"))
}
