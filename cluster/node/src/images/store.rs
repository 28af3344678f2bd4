//! The images of this node: makes one ready, from wherever it comes, once.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_client::manifest::{OciDescriptor, OciImageManifest};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Defaults, HOST_USR, Image, ImageError, OWN_BINARY, Source, layout, registry, unpack};

/// Keeps blobs and unpacked root file systems below one folder.
#[derive(Clone)]
pub(crate) struct ImageStore {
    root: PathBuf,
    registry: registry::Registry,
    /// One pull of an image at a time.
    pulls: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>,
}

/// An image and how it came.
pub(crate) struct Pulled {
    pub(crate) image: Image,
    pub(crate) message: String,
}

/// A manifest whose blobs lie in the store or in a layout.
pub(super) struct Found {
    pub(super) digest: String,
    pub(super) manifest: OciImageManifest,
    /// The folder that holds `sha256/HEX`.
    pub(super) blobs: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
struct ConfigFile {
    #[serde(default)]
    config: Option<ConfigSection>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigSection {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

/// Which manifest a reference meant when it was pulled last.
#[derive(Debug, Serialize, Deserialize)]
struct Known {
    digest: String,
    manifest: OciImageManifest,
}

impl ImageStore {
    pub(crate) fn new(root: PathBuf) -> Result<Self, ImageError> {
        Ok(Self {
            registry: registry::Registry::new()?,
            root,
            pulls: Arc::default(),
        })
    }

    /// Makes an image ready to run; `on_pull` is called before anything is fetched.
    pub(crate) async fn ensure(
        &self,
        reference: &str,
        policy: Option<&str>,
        on_pull: impl FnOnce(),
    ) -> Result<Pulled, ImageError> {
        let source = Source::parse(reference)?;
        let built_in = |id: &str| Pulled {
            image: Image {
                source: source.clone(),
                id: id.to_owned(),
                rootfs: None,
                defaults: Defaults::default(),
            },
            message: format!("Container image \"{reference}\" already present on machine"),
        };
        let found = match &source {
            Source::OwnBinary => return Ok(built_in(OWN_BINARY)),
            Source::HostUsr => return Ok(built_in(HOST_USR)),
            Source::Layout { path, tag } => layout::find(path, tag.as_deref())?,
            Source::Registry(name) => {
                let turn = Arc::clone(self.pulls.lock().entry(name.clone()).or_default());
                let _turn = turn.lock().await;
                self.pulled(name, policy, on_pull).await?
            }
        };
        let turn = Arc::clone(self.pulls.lock().entry(found.digest.clone()).or_default());
        let _turn = turn.lock().await;
        let root = self.root.clone();
        let unpacked = tokio::task::spawn_blocking(move || unpacked(&root, &found)).await;
        let (rootfs, defaults, digest) =
            unpacked.map_err(|error| ImageError::pull(format!("unpacking stopped: {error}")))??;
        let image = Image {
            source,
            id: format!("{reference}@{digest}"),
            rootfs: Some(rootfs),
            defaults,
        };
        Ok(Pulled {
            image,
            message: format!("Successfully pulled image \"{reference}\""),
        })
    }

    async fn pulled(
        &self,
        name: &str,
        policy: Option<&str>,
        on_pull: impl FnOnce(),
    ) -> Result<Found, ImageError> {
        let record = self
            .root
            .join("references")
            .join(format!("{:x}.json", Sha256::digest(name)));
        let blobs = self.root.join("blobs");
        let known = fs::read(&record)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Known>(&bytes).ok());
        let is_latest = name.ends_with(":latest")
            || !name.rsplit('/').next().unwrap_or(name).contains([':', '@']);
        let policy = policy.unwrap_or(if is_latest { "Always" } else { "IfNotPresent" });
        match (known, policy) {
            (Some(known), "IfNotPresent" | "Never") => {
                return Ok(Found {
                    digest: known.digest,
                    manifest: known.manifest,
                    blobs,
                });
            }
            (None, "Never") => {
                let message =
                    format!("Container image \"{name}\" is not present with pull policy of Never");
                return Err(ImageError::new("ErrImageNeverPull", message));
            }
            _ => {}
        }
        on_pull();
        let (manifest, digest) = self.registry.fetch(name, &blobs).await?;
        let known = Known { digest, manifest };
        write_record(&record, &known)
            .map_err(|error| ImageError::pull(format!("cannot note image \"{name}\": {error}")))?;
        Ok(Found {
            digest: known.digest,
            manifest: known.manifest,
            blobs,
        })
    }
}

fn write_record(path: &Path, known: &Known) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let staged = path.with_extension("new");
    fs::write(&staged, serde_json::to_vec(known)?)?;
    fs::rename(staged, path)
}

/// Unpacks a manifest's layers unless they lie there already.
fn unpacked(root: &Path, found: &Found) -> Result<(PathBuf, Defaults, String), ImageError> {
    let config = fs::read(verified(&found.blobs, &found.manifest.config)?).map_err(|error| {
        ImageError::pull(format!("cannot read the image's configuration: {error}"))
    })?;
    let config: ConfigFile = serde_json::from_slice(&config).map_err(|error| {
        ImageError::pull(format!("the image's configuration is malformed: {error}"))
    })?;
    let hex = hex_of(&found.digest)?;
    let folder = root.join("rootfs").join(hex);
    if !folder.exists() {
        let staged = root.join("rootfs").join(format!("{hex}.new"));
        let fail =
            |error: std::io::Error| ImageError::pull(format!("cannot unpack the image: {error}"));
        drop(fs::remove_dir_all(&staged));
        fs::create_dir_all(&staged).map_err(fail)?;
        let mut budget = unpack::Budget::default();
        for layer in &found.manifest.layers {
            let blob = verified(&found.blobs, layer)?;
            unpack::layer(&blob, &layer.media_type, &staged, &mut budget).map_err(fail)?;
        }
        fs::rename(&staged, &folder).map_err(fail)?;
    }
    Ok((
        folder,
        defaults(config.config.unwrap_or_default()),
        found.digest.clone(),
    ))
}

fn defaults(config: ConfigSection) -> Defaults {
    let environment = config.env.unwrap_or_default().into_iter();
    Defaults {
        entrypoint: config.entrypoint.unwrap_or_default(),
        arguments: config.cmd.unwrap_or_default(),
        environment: environment
            .filter_map(|pair| {
                pair.split_once('=')
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
            })
            .collect(),
        working_dir: config.working_dir.filter(|folder| !folder.is_empty()),
        user: config.user.filter(|user| !user.is_empty()),
    }
}

/// The file of a blob whose content has its digest.
pub(super) fn verified(blobs: &Path, blob: &OciDescriptor) -> Result<PathBuf, ImageError> {
    let path = blobs.join("sha256").join(hex_of(&blob.digest)?);
    let fail = |error: std::io::Error| {
        ImageError::pull(format!("cannot read blob {}: {error}", blob.digest))
    };
    let mut hasher = Sha256::new();
    std::io::copy(&mut fs::File::open(&path).map_err(fail)?, &mut hasher).map_err(fail)?;
    if format!("sha256:{:x}", hasher.finalize()) != blob.digest {
        return Err(ImageError::pull(format!(
            "blob {} does not have its digest",
            blob.digest
        )));
    }
    Ok(path)
}

/// The hexadecimal part of a digest, which names a file: nothing but digits may be in it.
pub(super) fn hex_of(digest: &str) -> Result<&str, ImageError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() == 64
        && hex
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    {
        return Ok(hex);
    }
    Err(ImageError::pull(format!(
        "\"{digest}\" is no sha256 digest"
    )))
}

#[cfg(test)]
mod tests;
