//! Files from servers: continued where they broke off, as long as they have not changed meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::access::Access;
use super::client::{Answer, Client, READ_TIMEOUT, chain, refusal, text_of, unreachable};
use super::digest::{self, Digest};
use super::error::FetchError;

/// Attempts without any progress before the fetch fails (and is tried again by whoever asked).
const ATTEMPTS_MAX: u32 = 5;
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// Longest wait that a server may ask for within a fetch; whoever asked waits longer ones.
const BUSY_MAX: Duration = Duration::from_secs(60);
/// Longest body of a server that does not say how long it is.
const UNDECLARED_BYTES_MAX: u64 = 64 << 30;

/// A file on a server.
#[derive(Debug, Clone)]
pub(super) struct Remote {
    pub(super) url: Url,
    pub(super) access: Access,
    /// Its length, where a listing says so.
    pub(super) bytes: Option<u64>,
    /// The digest that it must have.
    pub(super) digest: Option<Digest>,
    /// The tag of its version, where a listing says so.
    pub(super) tag: Option<String>,
}

impl Remote {
    /// A file of which only the address is known.
    pub(super) const fn plain(url: Url, access: Access) -> Self {
        Self {
            url,
            access,
            bytes: None,
            digest: None,
            tag: None,
        }
    }

    /// What names the bytes before they come.
    fn version(&self) -> Option<String> {
        let digest = self
            .digest
            .as_ref()
            .map(|digest| digest.as_str().to_owned());
        digest.or_else(|| self.tag.clone())
    }
}

/// What is known about the bytes so far, kept beside them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// What named the bytes before they came.
    version: Option<String>,
    /// The strong tag that they came with.
    tag: Option<String>,
    /// The digest that the first server named for them.
    pub(super) digest: Option<String>,
    /// The commit that the first server named.
    pub(super) commit: Option<String>,
}

/// Told about bytes done, and bytes to do where known.
pub(super) type FileProgress<'a> = &'a (dyn Fn(u64, Option<u64>) + Send + Sync);

/// A file that is being fetched to `path`.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) remote: &'a Remote,
    pub(super) path: PathBuf,
    pub(super) progress: FileProgress<'a>,
    pub(super) undeclared_bytes_max: u64,
}

impl<'a> Download<'a> {
    pub(super) fn new(
        client: &'a Client,
        remote: &'a Remote,
        path: PathBuf,
        progress: FileProgress<'a>,
    ) -> Self {
        Self {
            client,
            remote,
            path,
            progress,
            undeclared_bytes_max: UNDECLARED_BYTES_MAX,
        }
    }

    /// Fetches the file and returns what is known about it.
    ///
    /// # Cancel safety
    /// What has come stays, and the next download of the same file continues.
    pub(super) async fn run(&self) -> Result<Note, FetchError> {
        let (mut attempt, mut delay) = (1, RETRY_FIRST);
        loop {
            let before = self.length();
            let error = match self.attempt().await {
                Ok(()) => return Ok(self.note()),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            if before < self.length() {
                (attempt, delay) = (0, RETRY_FIRST);
            }
            let wait = error.retry_after().unwrap_or_default();
            if ATTEMPTS_MAX <= attempt || BUSY_MAX < wait {
                return Err(error);
            }
            let retry_in = delay.max(wait);
            warn!(%error, attempt, ?retry_in, "download interrupted");
            sleep(retry_in).await;
            (attempt, delay) = (attempt + 1, delay * 2);
        }
    }

    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn note_path(&self) -> PathBuf {
        note_path(&self.path)
    }

    fn note(&self) -> Note {
        let text = fs::read(self.note_path()).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn unreachable(&self, reason: &str) -> FetchError {
        unreachable(&self.remote.url, reason)
    }

    /// How many bytes are there that belong to the file as it is wanted.
    fn have(&self, note: &Note) -> u64 {
        let is_same = match self.remote.version() {
            Some(version) => note.version.as_ref() == Some(&version),
            // Without a tag nobody can say whether the rest belongs to the beginning.
            None => note.tag.is_some(),
        };
        let length = if is_same { self.length() } else { 0 };
        // More than the whole is not the file.
        length * u64::from(self.remote.bytes.is_none_or(|bytes| length <= bytes))
    }

    fn conditions(&self, have: u64, note: &Note) -> Result<HeaderMap, FetchError> {
        let mut headers = HeaderMap::new();
        if have == 0 {
            return Ok(headers);
        }
        let value = |text: &str| {
            HeaderValue::from_str(text).map_err(|_| self.unreachable("its tag is no header"))
        };
        headers.insert(header::RANGE, value(&format!("bytes={have}-"))?);
        // Bytes that a digest names need no condition: they are checked at the end.
        if self.remote.digest.is_none()
            && let Some(tag) = &note.tag
        {
            // Object stores know the one condition, web servers the other.
            let name = match self.remote.access {
                Access::Signed(_) => header::IF_MATCH,
                Access::Open | Access::Bearer(_) | Access::Registry(_) => header::IF_RANGE,
            };
            headers.insert(name, value(tag)?);
        }
        Ok(headers)
    }

    async fn attempt(&self) -> Result<(), FetchError> {
        let note = self.note();
        let have = self.have(&note);
        if 0 < have && self.remote.bytes == Some(have) {
            (self.progress)(have, Some(have));
            return Ok(());
        }
        let Remote { url, access, .. } = self.remote;
        let headers = self.conditions(have, &note)?;
        let answer = self.client.get(url, access, &headers).await?;
        let response = &answer.response;
        match response.status() {
            StatusCode::PARTIAL_CONTENT if starts_at(response, have) => {
                self.receive(answer, have).await
            }
            StatusCode::OK => self.receive(answer, 0).await,
            StatusCode::RANGE_NOT_SATISFIABLE if ends_at(response, have) => Ok(()),
            StatusCode::PARTIAL_CONTENT
            | StatusCode::RANGE_NOT_SATISFIABLE
            | StatusCode::PRECONDITION_FAILED => {
                self.forget()?;
                Err(self.unreachable("the file has changed; starting anew"))
            }
            status if status.is_success() => {
                Err(self.unreachable(&format!("the server answered {status}")))
            }
            _ => Err(refusal(url, answer.response).await),
        }
    }

    fn forget(&self) -> Result<(), FetchError> {
        for path in [&self.path, &self.note_path()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FetchError::cache(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn receive(&self, answer: Answer, start: u64) -> Result<(), FetchError> {
        let declared = answer
            .response
            .content_length()
            .map(|length| start.saturating_add(length));
        let total = self.total(declared)?;
        let limit = total.unwrap_or(self.undeclared_bytes_max);
        let mut file = self.open(&answer, start)?;
        let (mut done, mut body) = (start, answer.response.bytes_stream());
        (self.progress)(done, total);
        loop {
            let next = timeout(READ_TIMEOUT, body.next()).await;
            let next =
                next.map_err(|_| self.unreachable(&format!("nothing came for {READ_TIMEOUT:?}")))?;
            let Some(bytes) = next else { break };
            let bytes = bytes.map_err(|error| self.unreachable(&chain(&error.without_url())))?;
            done += bytes.len() as u64;
            if limit < done {
                self.forget()?;
                return Err(self.too_long(limit));
            }
            // Pieces are small, so a write is a copy to the page cache.
            file.write_all(&bytes)
                .map_err(|error| FetchError::cache(&self.path, error))?;
            (self.progress)(done, total);
        }
        match total {
            Some(total) if done < total => Err(self.unreachable(&format!(
                "the connection ended after {done} of {total} bytes"
            ))),
            _ => file
                .sync_all()
                .map_err(|error| FetchError::cache(&self.path, error)),
        }
    }

    /// The whole length: what the server declares must be what the listing says.
    fn total(&self, declared: Option<u64>) -> Result<Option<u64>, FetchError> {
        match (self.remote.bytes, declared) {
            (Some(listed), Some(declared)) if listed != declared => {
                self.forget()?;
                Err(FetchError::Broken(format!(
                    "{} has {declared} bytes, and {listed} were announced",
                    super::client::shown(&self.remote.url)
                )))
            }
            (listed, declared) => Ok(listed.or(declared)),
        }
    }

    fn too_long(&self, limit: u64) -> FetchError {
        let what = super::client::shown(&self.remote.url);
        FetchError::Broken(format!("{what} does not end after {limit} bytes"))
    }

    /// Opens the file at `start` and notes which version of it comes.
    fn open(&self, answer: &Answer, start: u64) -> Result<File, FetchError> {
        let fail = |path: &Path| {
            let path = path.to_owned();
            move |error| FetchError::cache(&path, error)
        };
        if 0 < start {
            return File::options()
                .append(true)
                .open(&self.path)
                .map_err(fail(&self.path));
        }
        let tag = text_of(answer.response.headers(), header::ETAG.as_str());
        let note = Note {
            version: self.remote.version(),
            // A weak tag does not promise equal bytes.
            tag: tag.filter(|tag| !tag.is_empty() && !tag.starts_with("W/")),
            digest: answer.linked_digest.clone(),
            commit: answer.commit.clone(),
        };
        // The old bytes go before the new note comes, so that no crash makes one of both.
        let file = File::create(&self.path).map_err(fail(&self.path))?;
        let path = self.note_path();
        let text = serde_json::to_vec(&note).unwrap_or_default();
        fs::write(&path, text).map_err(fail(&path))?;
        Ok(file)
    }
}

/// The note beside a file.
pub(super) fn note_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".note");
    path.with_file_name(name)
}

/// Whether a partial answer begins with the byte that was asked for.
fn starts_at(response: &Response, have: u64) -> bool {
    let range = text_of(response.headers(), header::CONTENT_RANGE.as_str());
    range.is_some_and(|range| range.starts_with(&format!("bytes {have}-")))
}

/// Whether a refused range says that the file has as many bytes as we have.
fn ends_at(response: &Response, have: u64) -> bool {
    let range = text_of(response.headers(), header::CONTENT_RANGE.as_str());
    0 < have && range.is_some_and(|range| range == format!("bytes */{have}"))
}

impl Note {
    /// The note of a file that has come whole, is `length` long and is still the one that is wanted.
    pub(super) fn of_whole(part: &Path, remote: &Remote, length: u64) -> Option<Self> {
        let note: Self = serde_json::from_slice(&fs::read(note_path(part)).ok()?).ok()?;
        let is_whole = 0 < length && remote.bytes.is_none_or(|bytes| bytes == length);
        (is_whole && note.version == remote.version()).then_some(note)
    }

    /// The digest that the file must have: the source's own, else what the first server named.
    pub(super) fn digest_for(&self, remote: &Remote) -> Option<Digest> {
        let named = || {
            let text = self
                .digest
                .as_deref()
                .filter(|text| digest::is_hex(text, 64))?;
            Some(Digest::Sha256(text.to_owned()))
        };
        remote.digest.clone().or_else(named)
    }
}
