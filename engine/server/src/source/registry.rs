//! `oci://REGISTRY/REPO[:TAG|@DIGEST]`: an artifact whose layers are files, or archives of files.
//!
//! Sources: the OCI distribution and image specifications, the CNCF model specification (ModelPack).

pub(super) mod config;
pub(super) mod login;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use oci_spec::distribution::Reference;
use reqwest::Url;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue};
use serde::Deserialize;

use super::access::Access;
use super::client::Client;
use super::digest::{self, Digest};
use super::download::Remote;
use super::error::FetchError;
use super::name::FileName;
use super::uri::Artifact;

use login::{Credential, Login};

const MANIFEST_BYTES_MAX: usize = 4 << 20;
const LAYERS_MAX: usize = 4096;
const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Where tools say what a layer's file is called: ORAS and most others, then ModelPack under its two names.
const NAMES: [&str; 3] = [
    "org.opencontainers.image.title",
    "org.cncf.model.filepath",
    "org.cnai.model.filepath",
];

/// How to reach registries.
#[derive(Debug, Clone, Default)]
pub(super) struct RegistryOptions {
    pub(super) credential: Option<Credential>,
    /// Whether the registry is spoken to without TLS.
    pub(super) is_plain: bool,
}

/// A repository of a registry.
pub(super) struct Registry<'a> {
    client: &'a Client,
    artifact: &'a Artifact,
    base: String,
    access: Access,
}

/// A layer of an artifact.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) remote: Remote,
    /// Its digest without the algorithm: the blob's name in the cache.
    pub(super) hex: String,
    pub(super) content: Content,
}

/// What a layer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    /// One file.
    File(FileName),
    /// Files of a tar archive.
    Archive(Packing),
    /// What is of no use to an engine.
    Other,
}

/// How an archive is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// Whether a registry is on this machine, where TLS is left out as everywhere.
pub(super) fn is_loopback(registry: &str) -> bool {
    let url: Option<Url> = format!("http://{registry}").parse().ok();
    let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl<'a> Registry<'a> {
    pub(super) fn new(
        client: &'a Client,
        artifact: &'a Artifact,
        options: RegistryOptions,
    ) -> Result<Self, FetchError> {
        let Artifact {
            registry,
            repository,
            reference,
        } = artifact;
        // One registry answers under another name than people write.
        let named = Reference::with_tag(registry.clone(), repository.clone(), reference.clone());
        let host = named.resolve_registry();
        let scheme = if options.is_plain { "http" } else { "https" };
        let base = format!("{scheme}://{host}/v2/{repository}");
        if base.parse::<Url>().is_err() {
            let message = format!("{registry:?} is not a registry's address");
            return Err(FetchError::Setup(message));
        }
        let access = Access::Registry(Arc::new(Login::new(repository, options.credential)));
        Ok(Self {
            client,
            artifact,
            base,
            access,
        })
    }

    fn url(&self, rest: &str) -> Result<Url, FetchError> {
        let text = format!("{}/{rest}", self.base);
        text.parse()
            .map_err(|_| FetchError::Setup(format!("{text:?} is not a valid address")))
    }

    /// The layers, and the digest of the manifest that lists them.
    pub(super) async fn layers(&self) -> Result<(Vec<Layer>, String), FetchError> {
        let (mut manifest, mut found) = self.manifest(&self.artifact.reference).await?;
        if !manifest.manifests.is_empty() {
            let chosen = self.choose(&manifest.manifests)?;
            (manifest, found) = self.manifest(&chosen).await?;
        }
        if LAYERS_MAX < manifest.layers.len() {
            return Err(self.broken("it has too many layers"));
        }
        let layers = manifest.layers.iter();
        let layers: Result<Vec<_>, _> = layers.map(|layer| self.layer(layer)).collect();
        Ok((layers?, found))
    }

    fn broken(&self, what: &str) -> FetchError {
        let Artifact {
            registry,
            repository,
            reference,
        } = self.artifact;
        FetchError::Broken(format!(
            "the artifact {repository} {reference} of {registry} is broken: {what}"
        ))
    }

    /// A manifest and its digest, which must be the one that was asked for.
    async fn manifest(&self, reference: &str) -> Result<(Manifest, String), FetchError> {
        let url = self.url(&format!("manifests/{reference}"))?;
        let accept = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(ACCEPTED))]);
        let asked = self
            .client
            .document(&url, &self.access, &accept, MANIFEST_BYTES_MAX);
        let (_, body) = asked.await?;
        let got = format!("sha256:{}", digest::of_bytes(&body));
        if reference.starts_with("sha256:") && reference != got {
            return Err(FetchError::DigestMismatch {
                expected: reference.to_owned(),
                got,
            });
        }
        let manifest = serde_json::from_slice(&body)
            .map_err(|error| self.broken(&format!("its manifest does not parse: {error}")))?;
        Ok((manifest, got))
    }

    /// Which manifest of an index: the one for this machine, or the only one.
    fn choose(&self, manifests: &[Descriptor]) -> Result<String, FetchError> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let is_ours = |descriptor: &&Descriptor| {
            let platform = descriptor.platform.as_ref();
            platform.is_some_and(|found| found.os == "linux" && found.architecture == architecture)
        };
        let chosen = match manifests {
            [only] => Some(only),
            several => several.iter().find(is_ours),
        };
        let digest = chosen.map(|descriptor| descriptor.digest.clone());
        let digest = digest.ok_or_else(|| {
            let Artifact { repository, reference, .. } = self.artifact;
            FetchError::Unsupported(format!(
                "{repository} {reference} is a list of artifacts, and none is for linux/{architecture}; name one by its digest"
            ))
        })?;
        self.hex(&digest)?;
        Ok(digest)
    }

    fn hex(&self, digest: &str) -> Result<String, FetchError> {
        match digest.split_once(':') {
            Some(("sha256", hex)) if digest::is_hex(hex, 64) => Ok(hex.to_ascii_lowercase()),
            Some(("sha512", _)) => Err(FetchError::Unsupported(
                "the artifact names its layers by SHA-512; only SHA-256 is supported".to_owned(),
            )),
            _ => Err(self.broken("a digest is none")),
        }
    }

    fn layer(&self, layer: &Descriptor) -> Result<Layer, FetchError> {
        let hex = self.hex(&layer.digest)?;
        Ok(Layer {
            remote: Remote {
                url: self.url(&format!("blobs/sha256:{hex}"))?,
                access: self.access.clone(),
                bytes: Some(layer.size),
                digest: Some(Digest::Sha256(hex.clone())),
                tag: None,
            },
            hex,
            content: content(layer)?,
        })
    }
}

/// What a layer holds, by its type and its name.
fn content(layer: &Descriptor) -> Result<Content, FetchError> {
    let kind = layer.media_type.as_str();
    let annotation = |name: &str| layer.annotations.as_ref()?.get(name).map(String::as_str);
    if kind.contains("tar+zstd") {
        return Err(FetchError::Unsupported(format!(
            "a layer is of type {kind}; pack it as a plain file, tar or tar+gzip"
        )));
    }
    if kind.ends_with("tar+gzip") || kind.ends_with("tar.gzip") {
        return Ok(Content::Archive(Packing::Gzip));
    }
    if kind.ends_with(".tar") || kind.ends_with("+tar") {
        return Ok(Content::Archive(Packing::Plain));
    }
    match NAMES.iter().find_map(|name| annotation(name)) {
        Some(name) => Ok(Content::File(FileName::try_from(
            name.trim_start_matches("./"),
        )?)),
        // Some tools tell a file's kind only by the layer's type.
        None if kind.contains("gguf") || kind.ends_with("image.model") => {
            Ok(Content::File(FileName::gguf()))
        }
        None => Ok(Content::Other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Content, Descriptor, FileName, Packing, content, is_loopback};

    #[track_caller]
    fn check(media_type: &str, name: Option<(&str, &str)>, expected: impl Into<Option<Content>>) {
        let annotations =
            name.map(|(key, value)| BTreeMap::from([(key.to_owned(), value.to_owned())]));
        let layer = Descriptor {
            media_type: media_type.to_owned(),
            digest: String::new(),
            size: 0,
            annotations,
            platform: None,
        };
        assert_eq!(
            content(&layer).ok(),
            expected.into(),
            "{media_type} {name:?}"
        );
    }

    #[test]
    fn layers_are_files_or_archives() {
        let file = |name: &str| Some(Content::File(FileName::try_from(name).unwrap()));
        let title = "org.opencontainers.image.title";
        let model = "org.cncf.model.filepath";
        check(
            "application/octet-stream",
            Some((title, "a/config.json")),
            file("a/config.json"),
        );
        check(
            "application/vnd.cncf.model.weight.v1.raw",
            Some((model, "m.gguf")),
            file("m.gguf"),
        );
        check(
            "application/vnd.docker.ai.gguf.v3",
            None,
            file("model.gguf"),
        );
        check(
            "application/vnd.ollama.image.model",
            None,
            file("model.gguf"),
        );
        check(
            "application/vnd.ollama.image.license",
            None,
            Some(Content::Other),
        );
        let gzip = Some(Content::Archive(Packing::Gzip));
        check(
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Some((title, "folder")),
            gzip.clone(),
        );
        check(
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            None,
            gzip,
        );
        let plain = Some(Content::Archive(Packing::Plain));
        check(
            "application/vnd.cncf.model.weight.v1.tar",
            Some((model, "folder")),
            plain,
        );
        check("application/vnd.cncf.model.weight.v1.tar+zstd", None, None);
        for hostile in ["../../etc/passwd", "/etc/passwd", "a\\b", "a\nb", ""] {
            check("application/octet-stream", Some((title, hostile)), None);
        }
    }

    #[test]
    fn registries_of_this_machine_are_known() {
        for (registry, expected) in [
            ("localhost:5000", true),
            ("127.0.0.1:5000", true),
            ("[::1]:5000", true),
            ("registry.test", false),
            ("localhost.test", false),
            ("127.0.0.1.test", false),
        ] {
            assert_eq!(is_loopback(registry), expected, "{registry}");
        }
    }
}
