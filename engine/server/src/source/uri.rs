//! Addresses of weights.

use std::path::PathBuf;
use std::str::FromStr;

use super::cache::plain_name;
use super::digest;
use super::error::FetchError;
use super::name::FileName;

/// A parsed address, and the digest that its fragment names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// The address without its fragment.
    pub(super) uri: String,
    pub(super) source: Source,
    pub(super) sha256: Option<String>,
}

/// What an address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A file or a folder of this machine.
    Local(PathBuf),
    /// A file on a web server.
    Web(String),
    /// A repository on a model hub, or a file of it.
    Hub(HubPath),
    /// A file or a folder in a Python package.
    Package(Package),
    /// An artifact in a registry.
    Artifact(Artifact),
    /// An object, or those with a prefix, in an object store.
    Bucket(BucketPath),
}

/// `hf://ORG/REPO[@REVISION][/FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubPath {
    pub(super) repository: String,
    pub(super) revision: String,
    /// Without it all that an engine needs.
    pub(super) file: Option<FileName>,
}

/// `pypi://NAME@VERSION[/FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// A path in the package, or its last part; without it the package's only model.
    pub(super) file: Option<String>,
}

/// `oci://REGISTRY/REPO[:TAG|@DIGEST]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Artifact {
    pub(super) registry: String,
    pub(super) repository: String,
    /// A tag, or a digest with its algorithm.
    pub(super) reference: String,
}

/// `s3://BUCKET/KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BucketPath {
    pub(super) bucket: String,
    /// A key or the beginning of keys, without a slash at its end; empty for the whole bucket.
    pub(super) key: String,
}

impl Source {
    /// What the file is called in the cache, where the address names one.
    pub(super) fn file_name(&self) -> FileName {
        let path = match self {
            Self::Local(_) | Self::Artifact(_) => None,
            Self::Web(url) => {
                let path = url.split(['?', '#']).next().unwrap_or_default();
                path.split_once("://")
                    .and_then(|(_, rest)| Some(rest.split_once('/')?.1))
            }
            Self::Hub(hub) => hub.file.as_ref().map(FileName::as_str),
            Self::Package(package) => package.file.as_deref(),
            Self::Bucket(bucket) => Some(bucket.key.as_str()),
        };
        plain_name(
            path.unwrap_or_default()
                .rsplit('/')
                .next()
                .unwrap_or_default(),
        )
    }
}

impl FromStr for Address {
    type Err = FetchError;

    fn from_str(text: &str) -> Result<Self, FetchError> {
        let invalid = |reason: &str| FetchError::InvalidUri {
            uri: super::cache::public_part(text),
            reason: reason.to_owned(),
        };
        let (uri, fragment) = match text.split_once('#') {
            Some((uri, fragment)) => (uri, Some(fragment)),
            None => (text, None),
        };
        let sha256 = match fragment.map(|fragment| fragment.strip_prefix("sha256=")) {
            None => None,
            Some(Some(sha256)) => Some(digest::parse(sha256)?),
            Some(None) => return Err(invalid("after # only sha256=DIGEST may follow")),
        };
        let (scheme, rest) = uri
            .split_once("://")
            .ok_or_else(|| invalid("it has no scheme, as pypi:// or file://"))?;
        let (found, shape) = match scheme {
            "file" => (local(rest), "file:///PATH, which starts with a slash"),
            "http" | "https" => (web(uri), "a valid http or https address"),
            "hf" => (hub_path(rest), "hf://ORG/REPO[@REVISION][/FILE]"),
            "pypi" => (package(rest), "pypi://NAME@VERSION[/FILE]"),
            "oci" => (artifact(rest), "oci://REGISTRY/REPO[:TAG|@sha256:DIGEST]"),
            "s3" => (bucket_path(rest), "s3://BUCKET/KEY"),
            _ => {
                return Err(invalid(
                    "only pypi://, hf://, oci://, s3://, https://, http:// and file:// are known",
                ));
            }
        };
        let source = found.ok_or_else(|| invalid(&format!("it is not {shape}")))?;
        Ok(Self {
            uri: uri.to_owned(),
            source,
            sha256,
        })
    }
}

fn local(rest: &str) -> Option<Source> {
    rest.starts_with('/')
        .then(|| Source::Local(PathBuf::from(rest)))
}

fn web(uri: &str) -> Option<Source> {
    let url: reqwest::Url = uri.parse().ok()?;
    url.has_host().then(|| Source::Web(uri.to_owned()))
}

fn hub_path(rest: &str) -> Option<Source> {
    let mut parts = rest.splitn(3, '/');
    let (organization, repository) = (parts.next()?, parts.next()?);
    let file = parts.next().filter(|file| !file.is_empty());
    let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let words = [organization, repository, revision];
    let is_valid =
        words.into_iter().all(is_word) && file.is_none_or(|file| file.split('/').all(is_word));
    let repository = format!("{organization}/{repository}");
    let file = file.map(FileName::try_from).transpose().ok()?;
    is_valid.then(|| {
        Source::Hub(HubPath {
            repository,
            revision: revision.to_owned(),
            file,
        })
    })
}

fn package(rest: &str) -> Option<Source> {
    let (package, file) = match rest.split_once('/') {
        Some((package, file)) => (package, Some(file.trim_end_matches('/'))),
        None => (rest, None),
    };
    let file = file.filter(|file| !file.is_empty());
    let (name, version) = package.split_once('@')?;
    let is_valid =
        is_word(name) && is_word(version) && file.is_none_or(|file| file.split('/').all(is_word));
    let (name, version) = (name.to_owned(), version.to_owned());
    is_valid.then(|| {
        Source::Package(Package {
            name,
            version,
            file: file.map(str::to_owned),
        })
    })
}

fn artifact(rest: &str) -> Option<Source> {
    let (registry, path) = rest.split_once('/')?;
    let (repository, reference) = match path.split_once('@') {
        // A tag beside a digest is only for people.
        Some((path, digest)) => {
            let hex = digest.strip_prefix("sha256:")?;
            if !digest::is_hex(hex, 64) {
                return None;
            }
            (path.split(':').next()?, digest.to_ascii_lowercase())
        }
        None => match path.split_once(':') {
            Some((path, tag)) => (path, tag.to_owned()),
            None => (path, "latest".to_owned()),
        },
    };
    let is_host =
        |character: char| character.is_ascii_alphanumeric() || ".-:[]".contains(character);
    let is_tag = reference.starts_with("sha256:") || is_word(&reference);
    let is_valid = !registry.is_empty()
        && registry.chars().all(is_host)
        && repository.split('/').all(is_word)
        && is_tag;
    let (registry, repository) = (registry.to_owned(), repository.to_owned());
    is_valid.then_some(Source::Artifact(Artifact {
        registry,
        repository,
        reference,
    }))
}

fn bucket_path(rest: &str) -> Option<Source> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    let key = key.trim_end_matches('/');
    let is_bucket =
        |character: char| character.is_ascii_alphanumeric() || ".-_".contains(character);
    let is_valid = !bucket.is_empty()
        && bucket.chars().all(is_bucket)
        && !bucket.starts_with('.')
        && (key.is_empty() || FileName::try_from(key).is_ok());
    is_valid.then(|| {
        Source::Bucket(BucketPath {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
        })
    })
}

/// Letters, digits and a few signs, and nothing that a program could take for an option or a parent folder.
fn is_word(text: &str) -> bool {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "._-+!".contains(character);
    !text.is_empty() && text.chars().all(is_plain) && !text.starts_with(['-', '.'])
}
