//! Results of programs that were run under an id, kept so that a repeat is answered and not run again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};

use protocol::workspace::ExecRequest;
use serde::{Deserialize, Serialize};

use super::folder::Folder;
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
    folder: Folder,
}

impl Results {
    pub(crate) fn open(parent: &Folder) -> io::Result<Self> {
        Ok(Self {
            folder: parent.folder("results")?,
        })
    }

    /// The events that the first request with this id got; nothing if there was none or it did not end.
    pub(crate) fn find(&self, id: &str, request: &ExecRequest) -> Result<Option<Vec<u8>>, Refusal> {
        let file = match self.folder.read(&name_of(id)) {
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
        let name = name_of(id);
        let draft = format!("{name}.draft");
        let mut file = self.folder.create(&draft)?;
        serde_json::to_writer(
            &mut file,
            &Head {
                request: request.clone(),
            },
        )?;
        file.write_all(b"\n")?;
        file.write_all(events)?;
        file.sync_data()?;
        self.folder.rename(&draft, &name)?;
        self.folder.sync()?;
        self.forget_oldest()
    }

    fn forget_oldest(&self) -> io::Result<()> {
        let mut kept = self.folder.list()?;
        kept.sort();
        let mut bytes: u64 = kept.iter().map(|listed| listed.bytes).sum();
        let mut count = kept.len();
        for listed in kept {
            if count <= RESULTS_MAX && bytes <= RESULTS_BYTES_MAX {
                break;
            }
            self.folder.remove(&listed.name)?;
            count -= 1;
            bytes -= listed.bytes;
        }
        Ok(())
    }
}

/// Ids come from outside: they never become file names as they are.
fn name_of(id: &str) -> String {
    let name: String = id.bytes().map(|byte| format!("{byte:02x}")).collect();
    // A long id would be a name longer than file systems take; its end is replaced by a hash of the whole.
    if name.len() <= 200 {
        return name;
    }
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    format!("{}-{:016x}", &name[..160], hasher.finish())
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
        let folder = Folder::open(&dir.path().join("own")).unwrap();
        let results = Results::open(&folder).unwrap();
        assert_eq!(results.find("a/../b", &request("x")), Ok(None));
        results
            .keep("a/../b", &request("x"), b"{\"one\":1}\n{\"two\":2}\n")
            .unwrap();
        let again = Results::open(&folder).unwrap();
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
        let folder = Folder::open(&dir.path().join("own")).unwrap();
        let results = Results::open(&folder).unwrap();
        for index in 0..=RESULTS_MAX {
            let file = results.folder.create(&name_of(&index.to_string())).unwrap();
            let seconds = std::time::Duration::from_secs(index as u64);
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + seconds)
                .unwrap();
        }
        results.keep("new", &request("x"), b"").unwrap();
        let names: Vec<String> = results
            .folder
            .list()
            .unwrap()
            .into_iter()
            .map(|listed| listed.name)
            .collect();
        let has = |id: &str| names.contains(&name_of(id));
        assert_eq!(names.len(), RESULTS_MAX);
        assert!(!has("0") && !has("1") && has("2"));
        assert!(results.find("new", &request("x")).unwrap().is_some());
    }
}
