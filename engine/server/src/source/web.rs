//! Files from web servers: continued where they broke off, as long as the file has not changed meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::StreamExt;
use reqwest::{Client, Response, StatusCode, header};
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::cache::Entry;
use super::error::FetchError;
use super::{Phase, Progress};

/// Attempts without any progress before the fetch fails (and is tried again by whoever asked).
const ATTEMPTS_MAX: u32 = 5;
const RETRY_FIRST: Duration = Duration::from_millis(500);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Longest silence in the middle of a file.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Downloads a file and returns where it lies, complete.
pub(super) async fn download(
    url: &str,
    token: Option<&str>,
    entry: &Entry,
    progress: Progress<'_>,
) -> Result<PathBuf, FetchError> {
    let download = Download {
        client: client()?,
        url,
        token,
        path: entry.partial().join("download"),
        tag: entry.partial().join("download.etag"),
        progress,
    };
    let (mut attempt, mut delay) = (1, RETRY_FIRST);
    loop {
        let before = download.length();
        match download.attempt().await {
            Ok(()) => return Ok(download.path),
            Err(error @ FetchError::Unreachable { .. }) => {
                if before < download.length() {
                    (attempt, delay) = (0, RETRY_FIRST);
                }
                if ATTEMPTS_MAX <= attempt {
                    return Err(error);
                }
                warn!(%error, attempt, retry_in = ?delay, "download interrupted");
            }
            Err(error) => return Err(error),
        }
        sleep(delay).await;
        (attempt, delay) = (attempt + 1, delay * 2);
    }
}

fn client() -> Result<Client, FetchError> {
    // Somebody else may have chosen a provider already; then it is that one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let built = Client::builder().connect_timeout(CONNECT_TIMEOUT).build();
    built.map_err(|error| FetchError::Setup(format!("the HTTP client cannot be set up: {error}")))
}

struct Download<'a> {
    client: Client,
    url: &'a str,
    token: Option<&'a str>,
    path: PathBuf,
    /// Names the version of the file that the bytes so far belong to.
    tag: PathBuf,
    progress: Progress<'a>,
}

impl Download<'_> {
    fn length(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |metadata| metadata.len())
    }

    fn unreachable(&self, reason: impl std::fmt::Display) -> FetchError {
        FetchError::Unreachable {
            what: self.url.to_owned(),
            reason: reason.to_string(),
        }
    }

    async fn attempt(&self) -> Result<(), FetchError> {
        let tag = fs::read_to_string(&self.tag)
            .ok()
            .filter(|tag| !tag.is_empty());
        // Without a tag nobody can say whether the rest belongs to the beginning.
        let have = if tag.is_some() { self.length() } else { 0 };
        let mut request = self.client.get(self.url);
        if let Some(token) = self.token {
            request = request.bearer_auth(token);
        }
        if let Some(tag) = tag.filter(|_| 0 < have) {
            request = request
                .header(header::RANGE, format!("bytes={have}-"))
                .header(header::IF_RANGE, tag);
        }
        let response = request
            .send()
            .await
            .map_err(|error| self.unreachable(chain(&error)))?;
        let start = match response.status() {
            StatusCode::PARTIAL_CONTENT => have,
            status if status.is_success() => 0,
            StatusCode::RANGE_NOT_SATISFIABLE => {
                self.forget()?;
                return Err(self.unreachable("the file has changed; starting anew"));
            }
            status => return Err(self.refusal(status)),
        };
        self.receive(response, start).await
    }

    fn refusal(&self, status: StatusCode) -> FetchError {
        let what = self.url.to_owned();
        match status {
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                let advice = "correct the source's address; it is looked for again".to_owned();
                FetchError::NotFound { what, advice }
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::Unauthorized { what },
            status => self.unreachable(format!("the server answered {status}")),
        }
    }

    fn forget(&self) -> Result<(), FetchError> {
        for path in [&self.path, &self.tag] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(FetchError::cache(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    async fn receive(&self, response: Response, start: u64) -> Result<(), FetchError> {
        let total = response.content_length().map(|length| start + length);
        let mut file = self.open(&response, start)?;
        let mut done = start;
        let mut body = response.bytes_stream();
        loop {
            let next = timeout(READ_TIMEOUT, body.next()).await;
            let next =
                next.map_err(|_| self.unreachable(format!("nothing came for {READ_TIMEOUT:?}")))?;
            let Some(bytes) = next else { break };
            let bytes = bytes.map_err(|error| self.unreachable(chain(&error)))?;
            // Pieces are small, so a write is a copy to the page cache.
            file.write_all(&bytes)
                .map_err(|error| FetchError::cache(&self.path, error))?;
            done += bytes.len() as u64;
            (self.progress)(Phase::Downloading, done, total);
        }
        match total {
            Some(total) if done < total => Err(self.unreachable(format!(
                "the connection ended after {done} of {total} bytes"
            ))),
            _ => Ok(()),
        }
    }

    /// Opens the file at `start` and notes which version of it comes.
    fn open(&self, response: &Response, start: u64) -> Result<File, FetchError> {
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
        let file = File::create(&self.path).map_err(fail(&self.path))?;
        let tag = response
            .headers()
            .get(header::ETAG)
            .and_then(|tag| tag.to_str().ok());
        // A weak tag does not promise equal bytes.
        let tag = tag.filter(|tag| !tag.starts_with("W/")).unwrap_or_default();
        fs::write(&self.tag, tag).map_err(fail(&self.tag))?;
        Ok(file)
    }
}

/// An error with its causes: reqwest's own message says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
