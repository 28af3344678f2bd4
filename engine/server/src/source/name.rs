//! Names of files inside a source's folder: relative, plain, and nothing that leads out of the folder.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::FetchError;

const NAME_BYTES_MAX: usize = 1024;
const PART_BYTES_MAX: usize = 255;
const DEPTH_MAX: usize = 16;
/// The cache's own file in each folder.
pub(super) const MANIFEST: &str = ".quarterdeck.json";

/// A file's path inside its folder, with slashes. Joining it to a folder stays in the folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct FileName(String);

impl FileName {
    /// The name of a file that has none.
    pub(super) fn gguf() -> Self {
        Self("model.gguf".to_owned())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder, empty for a file at the top, and the last part.
    pub(super) fn split(&self) -> (&str, &str) {
        self.0.rsplit_once('/').unwrap_or(("", &self.0))
    }

    /// Where the file lies under a folder.
    pub(super) fn under(&self, folder: &Path) -> PathBuf {
        folder.join(&self.0)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl From<FileName> for String {
    fn from(name: FileName) -> Self {
        name.0
    }
}

impl TryFrom<String> for FileName {
    type Error = FetchError;

    fn try_from(name: String) -> Result<Self, FetchError> {
        let parts: Vec<&str> = name.split('/').collect();
        let is_part = |part: &&str| {
            !matches!(*part, "" | "." | "..") && part.len() <= PART_BYTES_MAX && *part != MANIFEST
        };
        let is_plain =
            |character: char| !character.is_control() && character != '\\' && character != ':';
        if name.len() <= NAME_BYTES_MAX
            && parts.len() <= DEPTH_MAX
            && parts.iter().all(is_part)
            && name.chars().all(is_plain)
        {
            return Ok(Self(name));
        }
        Err(FetchError::Broken(format!(
            "the source has a file with the name {:?}, which is refused because it could lie outside of its folder",
            name.chars().take(200).collect::<String>()
        )))
    }
}

impl TryFrom<&str> for FileName {
    type Error = FetchError;

    fn try_from(name: &str) -> Result<Self, FetchError> {
        name.to_owned().try_into()
    }
}
