//! Results of programs that were run under an id, kept so that a repeat is answered and not run again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use protocol::workspace::ExecRequest;
use serde::{Deserialize, Serialize};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::fault::Refusal;

/// Results kept; the oldest go first.
const RESULTS_MAX: usize = 512;
/// Bytes kept of all results together.
const RESULTS_BYTES_MAX: u64 = 256 << 20;
/// A result is never larger than init's output limit in base64 with its lines around it.
const RESULT_BYTES_MAX: u64 = 16 << 20;

/// What was asked first under an id.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    request: ExecRequest,
}

/// The folder of results.
#[derive(Debug)]
pub(crate) struct Results {
    folder: PathBuf,
}

impl Results {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    /// The events that the first request with this id got; nothing if there was none or it did not end.
    pub(crate) fn find(&self, id: &str, request: &ExecRequest) -> Result<Option<Vec<u8>>, Refusal> {
        let file = match open(&self.path(id)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Refusal::Internal(format!("cannot read a result: {error}"))),
        };
        let bytes = crate::files::read_bounded(&file, RESULT_BYTES_MAX)
            .map_err(|error| Refusal::Internal(format!("cannot read a result: {error}")))?;
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let Ok(head) = serde_json::from_slice::<Head>(&bytes[..end]) else {
            return Ok(None);
        };
        if head.request != *request {
            return Err(Refusal::Conflict(format!(
                "the id {id} belongs to another request"
            )));
        }
        Ok(Some(bytes[end + 1..].to_vec()))
    }

    /// Keeps a whole result; it is on disk when this returns.
    pub(crate) fn keep(&self, id: &str, request: &ExecRequest, events: &[u8]) -> io::Result<()> {
        let path = self.path(id);
        let draft = path.with_extension("draft");
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        serde_json::to_writer(
            &mut file,
            &Head {
                request: request.clone(),
            },
        )?;
        file.write_all(b"\n")?;
        file.write_all(events)?;
        file.sync_data()?;
        fs::rename(&draft, &path)?;
        File::open(&self.folder)?.sync_all()?;
        self.forget_oldest()
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut kept: Vec<(SystemTime, u64, PathBuf)> = fs::read_dir(&self.folder)?
            .flatten()
            .filter_map(|entry| {
                let meta = entry.metadata().ok()?;
                Some((meta.modified().ok()?, meta.len(), entry.path()))
            })
            .collect();
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|(_, length, _)| length).sum();
        let mut count = kept.len();
        for (_, length, path) in kept {
            if count <= RESULTS_MAX && bytes <= RESULTS_BYTES_MAX {
                break;
            }
            fs::remove_file(path)?;
            count -= 1;
            bytes -= length;
        }
        Ok(())
    }

    /// Ids come from outside: they never become file names as they are.
    fn path(&self, id: &str) -> PathBuf {
        let name: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
        // A long id would be a name longer than file systems take; its end is replaced by a hash of the whole.
        if name.len() <= 200 {
            return self.folder.join(name);
        }
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        self.folder
            .join(format!("{}-{:016x}", &name[..160], hasher.finish()))
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(word: &str) -> ExecRequest {
        ExecRequest {
            command: vec![word.to_owned()],
            ..ExecRequest::default()
        }
    }

    #[test]
    fn a_result_is_found_again_by_the_same_request_only() {
        let dir = tempfile::tempdir().unwrap();
        let results = Results::open(dir.path()).unwrap();
        assert_eq!(results.find("a/../b", &request("x")), Ok(None));
        results
            .keep("a/../b", &request("x"), b"{\"one\":1}\n{\"two\":2}\n")
            .unwrap();
        let again = Results::open(dir.path()).unwrap();
        assert_eq!(
            again.find("a/../b", &request("x")),
            Ok(Some(b"{\"one\":1}\n{\"two\":2}\n".to_vec()))
        );
        assert!(matches!(
            again.find("a/../b", &request("y")),
            Err(Refusal::Conflict(_))
        ));
        assert_eq!(again.find("a", &request("x")), Ok(None));
    }

    #[test]
    fn the_oldest_results_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let results = Results::open(dir.path()).unwrap();
        for index in 0..=RESULTS_MAX {
            let path = results.path(&index.to_string());
            let file = File::create(path).unwrap();
            file.set_modified(
                SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(index as u64),
            )
            .unwrap();
        }
        results.keep("new", &request("x"), b"").unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), RESULTS_MAX);
        assert!(
            !results.path("0").exists()
                && !results.path("1").exists()
                && results.path("2").exists()
        );
        assert!(results.find("new", &request("x")).unwrap().is_some());
    }
}
