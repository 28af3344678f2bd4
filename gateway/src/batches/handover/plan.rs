//! Which lines of a batch which provider runs: decided once, on disk before anything is sent.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Bytes of a part; providers take 200 MB.
const PART_BYTES_MAX: u64 = 150_000_000;
/// Parts of a batch. Lines for more are run by the gateway.
pub(super) const PARTS_MAX: usize = 64;

/// The parts of a batch while they are written.
pub(super) struct Plan {
    parts: Vec<Part>,
    /// The part that lines for a target and a model go to: providers take one model a batch.
    open: HashMap<[String; 3], usize>,
}

/// A part that is written.
pub(super) struct Part {
    /// The route's id and the target's name.
    of: (String, String),
    path: PathBuf,
    file: BufWriter<File>,
    bytes: u64,
}

#[derive(Serialize)]
struct Sent<'a> {
    custom_id: &'a str,
    method: &'static str,
    url: &'a str,
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Known {
    custom_id: String,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            parts: Vec::new(),
            open: HashMap::new(),
        }
    }

    /// Adds a line to a part for this route, target and model; whether there was room. Blocks shortly.
    ///
    /// # Errors
    /// The disk does not take it, or the body is no JSON.
    pub(super) fn add(
        &mut self,
        of: [&str; 3],
        (custom_id, url): (&str, &str),
        body: &[u8],
        path: impl Fn(usize) -> PathBuf,
    ) -> io::Result<bool> {
        let body: &RawValue = serde_json::from_slice(body)?;
        let sent = Sent {
            custom_id,
            method: "POST",
            url,
            body,
        };
        let mut line = serde_json::to_vec(&sent)?;
        line.push(b'\n');
        let bytes = line.len() as u64;
        let of = of.map(str::to_owned);
        let [route, target, _] = of.clone();
        let known = self.open.get(&of).copied();
        let has_room = |place: &usize| {
            let part = self.parts.get(*place);
            part.is_some_and(|part| part.bytes + bytes <= PART_BYTES_MAX)
        };
        let place = match known.filter(has_room) {
            Some(place) => place,
            None if self.parts.len() < PARTS_MAX => {
                let place = self.parts.len();
                let path = path(place);
                self.parts.push(Part {
                    of: (route, target),
                    file: BufWriter::new(File::create(&path)?),
                    path,
                    bytes: 0,
                });
                self.open.insert(of, place);
                place
            }
            None => return Ok(false),
        };
        if let Some(part) = self.parts.get_mut(place) {
            part.file.write_all(&line)?;
            part.bytes += bytes;
        }
        Ok(true)
    }

    /// Syncs all parts. Blocks.
    ///
    /// # Errors
    /// The disk does not take them.
    pub(super) fn finish(self) -> io::Result<Vec<(String, String)>> {
        let mut all = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            let file = part.file.into_inner().map_err(io::Error::from)?;
            file.sync_all()?;
            if let Some(folder) = part.path.parent() {
                File::open(folder)?.sync_all()?;
            }
            all.push(part.of);
        }
        Ok(all)
    }
}

/// The lines of a part. Blocks.
///
/// # Errors
/// The file cannot be read.
pub(super) fn lines_of(path: &Path) -> io::Result<Vec<String>> {
    let reader = BufReader::new(File::open(path)?);
    let mut all = Vec::new();
    for line in reader.split(b'\n') {
        let known: Known = serde_json::from_slice(&line?)?;
        all.push(known.custom_id);
    }
    Ok(all)
}
