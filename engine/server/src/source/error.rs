//! Why weights cannot be fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use protocol::load::LoadFailure;
use thiserror::Error;

/// Why weights cannot be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The address makes no sense.
    #[error("the source {uri:?} is not valid: {reason}")]
    InvalidUri {
        /// The address.
        uri: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The source has no such file.
    #[error("{what} was not found; {advice}")]
    NotFound {
        /// What was looked for.
        what: String,
        /// What to do.
        advice: String,
    },
    /// The source wants other credentials, or any.
    #[error("{what} needs credentials that it was not given, or refuses those it was given")]
    Unauthorized {
        /// What was asked for.
        what: String,
    },
    /// The source did not answer as it should; later it may.
    #[error("{what} could not be fetched: {reason}")]
    Unreachable {
        /// What was asked for.
        what: String,
        /// What happened.
        reason: String,
    },
    /// Something on this machine is missing or set up wrongly.
    #[error("{0}")]
    Setup(String),
    /// The file is not the one that was wanted.
    #[error(
        "the file has the digest {got}, and {expected} is wanted; correct the digest or the source"
    )]
    DigestMismatch {
        /// The digest that was asked for.
        expected: String,
        /// The digest of the file.
        got: String,
    },
    /// The package or the archive is broken.
    #[error("{0}")]
    Broken(String),
    /// The disk is full.
    #[error("the disk that holds {} is full; free some space or enlarge the volume", path.display())]
    DiskFull {
        /// Where there was no space.
        path: PathBuf,
    },
    /// The cache cannot be read or written.
    #[error("cannot use {}", path.display())]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl FetchError {
    /// An error about a file of the cache.
    pub(super) fn cache(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.to_owned(),
            },
            _ => Self::Cache {
                path: path.to_owned(),
                source,
            },
        }
    }

    /// The reason in the words of the load report.
    pub const fn load_failure(&self) -> LoadFailure {
        match self {
            Self::InvalidUri { .. } | Self::NotFound { .. } => LoadFailure::SourceNotFound,
            Self::Unauthorized { .. } => LoadFailure::SourceUnauthorized,
            Self::Unreachable { .. } | Self::Setup(_) => LoadFailure::SourceUnreachable,
            Self::DigestMismatch { .. } | Self::Broken(_) => LoadFailure::VerifyFailed,
            Self::DiskFull { .. } | Self::Cache { .. } => LoadFailure::InsufficientResources,
        }
    }
}
