//! Sources of weights: a package, a hub, a registry, an object store, a web server or this machine, fetched once into a cache.
//!
//! A source is in the cache only when all its files are complete and have the right digests: they are fetched beside the
//! cache, and their folder is renamed into it. A lock keeps engines that share a cache from fetching the same source at
//! once. What a lost connection leaves is continued.

mod access;
pub mod args;
mod artifact;
mod bucket;
mod cache;
mod choose;
mod client;
mod digest;
mod disk;
mod download;
mod error;
mod fetch;
mod hub;
mod listing;
mod local;
mod manifest;
mod name;
mod pypi;
mod registry;
mod tarball;
#[cfg(test)]
mod tests;
mod uri;
mod wheel;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use protocol::secret::SecretString;
use tracing::info;

pub use bucket::BucketOptions;
pub use error::FetchError;

use access::Access;
use bucket::Bucket;
use cache::{Entry, public_part};
use choose::Choice;
use client::Client;
use download::Remote;
use fetch::{Wanted, fetch_all};
use hub::Hub;
use listing::Listing;
use manifest::{Manifest, Origin};
use name::FileName;
use registry::{Registry, RegistryOptions};
use uri::{Address, Artifact, Source};

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Bytes come from the source.
    Downloading,
    /// Digests are computed and archives unpacked.
    Verifying,
}

/// Told about progress over all files: the phase, bytes done, and bytes to do where known.
pub type Progress<'a> = &'a (dyn Fn(Phase, u64, Option<u64>) + Send + Sync);

/// Where fetched weights lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// One GGUF file, or whatever file a plain address names.
    File(PathBuf),
    /// A folder of safetensors with its configuration, or an adapter's.
    Folder(PathBuf),
}

impl Fetched {
    /// The file or the folder.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Folder(path) => path,
        }
    }
}

/// What a fetch needs beside the address.
#[derive(Debug, Clone, Default)]
pub struct SourceOptions {
    /// Digest that the file must have, in hexadecimal; for a folder that of the lines that `sha256sum` prints for its
    /// files, sorted by name.
    pub sha256: Option<String>,
    /// Endpoint of the model hub, for `hf://` sources.
    pub hub_endpoint: Option<String>,
    /// Token for the model hub.
    pub hub_token: Option<SecretString>,
    /// The object store of `s3://` sources.
    pub bucket: BucketOptions,
    /// Docker's `config.json` with the users of registries, for `oci://` sources.
    pub registry_config: Option<PathBuf>,
    /// Registries that are spoken to without TLS, as `HOST:PORT`; those of this machine are anyway.
    pub registry_plain_http: Vec<String>,
}

/// Fetches weights and returns where they lie; at once if the cache has them.
///
/// # Errors
/// [`FetchError`]; what has been fetched so far is kept, and the next call continues.
///
/// # Cancel safety
/// The future can be dropped at any time, with the same effect as an error.
pub async fn fetch_source(
    uri: &str,
    cache_dir: &Path,
    options: &SourceOptions,
    progress: Progress<'_>,
) -> Result<Fetched, FetchError> {
    let address: Address = uri.parse()?;
    let sha256 = options.sha256.as_deref().map(digest::parse).transpose()?;
    let sha256 = match (sha256, address.sha256) {
        (Some(one), Some(other)) if one != other => {
            return Err(FetchError::InvalidUri {
                uri: public_part(uri),
                reason: "its digest is another one than that of --sha256".to_owned(),
            });
        }
        (one, other) => one.or(other),
    };
    progress(Phase::Downloading, 0, None);
    if let Source::Local(path) = &address.source {
        return local::check(path, sha256.as_deref(), progress).await;
    }
    let entry = Entry::new(cache_dir, &address.uri);
    // A whole folder is safe to read without the lock, also where nothing may be written.
    if let Some(fetched) = entry.find(sha256.as_deref()) {
        return Ok(fetched);
    }
    let lock = entry.lock().await?;
    entry.finish()?;
    if let Some(fetched) = entry.find(sha256.as_deref()) {
        entry.clear_partial();
        return Ok(fetched);
    }
    let sources = Sources {
        client: Client::new()?,
        options,
        entry: &entry,
        uri: public_part(&address.uri),
        progress,
    };
    let (choice, origin) = sources.fetch(&address.source).await?;
    let manifest = Manifest::of(&entry.files(), &choice, &origin, progress).await?;
    if let Err(error) = manifest.check(sha256.as_deref()) {
        // The next attempt must not continue a wrong file.
        entry.clear_partial();
        return Err(error);
    }
    let fetched = entry.admit(&manifest)?;
    let (bytes, files) = manifest.size();
    let revision = origin.revision.unwrap_or_default();
    info!(source = %origin.source, %revision, bytes, files, sha256 = %manifest.digest(), "weights fetched");
    drop(lock);
    Ok(fetched)
}

/// How the kinds of sources are fetched.
struct Sources<'a> {
    client: Client,
    options: &'a SourceOptions,
    entry: &'a Entry,
    /// The address, without what may be secret.
    uri: String,
    progress: Progress<'a>,
}

impl Sources<'_> {
    async fn fetch(&self, source: &Source) -> Result<(Choice, Origin), FetchError> {
        let (entry, progress) = (self.entry, self.progress);
        match source {
            Source::Local(path) => Err(FetchError::NotFound {
                what: format!("the file {}", path.display()),
                advice: "files of this machine are not fetched".to_owned(),
            }),
            Source::Web(url) => {
                let url = url.parse().map_err(|_| FetchError::InvalidUri {
                    uri: self.uri.clone(),
                    reason: "it is not a valid http or https address".to_owned(),
                })?;
                let remote = Remote::plain(url, Access::Open);
                self.one(source.file_name(), remote).await
            }
            Source::Hub(path) => {
                let token = self.options.hub_token.as_ref();
                let token = token.filter(|token| !token.expose().trim().is_empty());
                let hub = Hub {
                    client: &self.client,
                    endpoint: hub::endpoint(self.options.hub_endpoint.as_deref())?,
                    access: token.map_or(Access::Open, |token| Access::Bearer(token.clone())),
                };
                match &path.file {
                    Some(file) => self.one(source.file_name(), hub.file(path, file)?).await,
                    None => self.many(hub.list(path).await?).await,
                }
            }
            Source::Bucket(path) => {
                let bucket = Bucket::new(&self.client, path, &self.options.bucket)?;
                match bucket.object()? {
                    Some(remote) => self.one(source.file_name(), remote).await,
                    None => self.many(bucket.list().await?).await,
                }
            }
            Source::Artifact(artifact) => {
                let options = self.registry_options(artifact)?;
                let registry = Registry::new(&self.client, artifact, options)?;
                artifact::fetch(&self.client, &registry, entry, &self.uri, progress).await
            }
            Source::Package(package) => {
                let choice = pypi::download(package, entry, progress).await?;
                let origin = Origin {
                    source: self.uri.clone(),
                    ..Origin::default()
                };
                Ok((choice, origin))
            }
        }
    }

    fn registry_options(&self, artifact: &Artifact) -> Result<RegistryOptions, FetchError> {
        let Artifact {
            registry,
            repository,
            ..
        } = artifact;
        let config = self.options.registry_config.as_deref();
        let credential = match config {
            Some(path) => registry::config::credential(path, registry, repository)?,
            None => None,
        };
        let is_plain =
            registry::is_loopback(registry) || self.options.registry_plain_http.contains(registry);
        Ok(RegistryOptions {
            credential,
            is_plain,
        })
    }

    async fn one(&self, name: FileName, remote: Remote) -> Result<(Choice, Origin), FetchError> {
        let wanted = Wanted {
            place: name.under(&self.entry.files()),
            remote,
        };
        let wanted = [wanted];
        let notes = fetch_all(&self.client, self.entry, &wanted, self.progress).await?;
        let mut origin = Origin {
            source: self.uri.clone(),
            ..Origin::default()
        };
        if let ([Wanted { remote, .. }], [note]) = (&wanted, notes.as_slice()) {
            let digest = note.digest_for(remote);
            origin.expected = digest
                .map(|digest| (name.clone(), digest))
                .into_iter()
                .collect();
            origin.revision.clone_from(&note.commit);
        }
        Ok((Choice::File(name), origin))
    }

    async fn many(&self, listing: Listing) -> Result<(Choice, Origin), FetchError> {
        let choice = listing.choose(&self.uri)?;
        let (mut wanted, mut expected) = (Vec::new(), BTreeMap::new());
        for name in choice.names() {
            let Some(remote) = listing.remote(name) else {
                continue;
            };
            if let Some(digest) = &remote.digest {
                expected.insert(name.clone(), digest.clone());
            }
            wanted.push(Wanted {
                remote: remote.clone(),
                place: name.under(&self.entry.files()),
            });
        }
        fetch_all(&self.client, self.entry, &wanted, self.progress).await?;
        let origin = Origin {
            source: self.uri.clone(),
            revision: listing.revision,
            expected,
        };
        Ok((choice, origin))
    }
}
