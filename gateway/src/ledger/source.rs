//! Source: whose journal a folder holds, for a database that takes those of several replicas.
//!
//! The numbers of segments only grow, also when all segments were taken and removed: a database marks by them how far
//! it came.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

const FILE: &str = "source.json";

/// What is known of a folder's journal.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Source {
    /// The name of the journal, its own among all.
    pub(super) id: String,
    /// The segment that rows go to first.
    pub(super) segment: u64,
}

impl Source {
    /// Begins to write the journal of a folder anew, behind all segments that there were.
    ///
    /// # Errors
    /// The disk's; a file that is no source.
    pub(super) fn begin(folder: &Path, last: u64) -> io::Result<Self> {
        let path = folder.join(FILE);
        let known: Option<Self> = match fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let begun = match known {
            Some(known) => Self {
                segment: known.segment.max(last) + 1,
                ..known
            },
            None => Self {
                id: Uuid::new_v4().to_string(),
                segment: last + 1,
            },
        };
        let beside = folder.join("source.json.new");
        let mut file = File::create(&beside)?;
        serde_json::to_writer(&mut file, &begun)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(folder)?.sync_all()?;
        Ok(begun)
    }
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn numbers_grow_whatever_was_removed() {
        let folder = tempfile::tempdir().unwrap();
        let begin = |last| {
            let source = Source::begin(folder.path(), last).unwrap();
            (source.id, source.segment)
        };
        let (id, first) = begin(0);
        assert_eq!(first, 1);
        for (last, expected) in [(0, 2), (1, 3), (9, 10), (0, 11)] {
            assert_eq!(begin(last), (id.clone(), expected));
        }
    }
}
