//! Why weights cannot be fetched, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
    #[error("{what} needs credentials that it was not given, or refuses those it was given{said}")]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// The server's words, after a separator; empty if it has none.
        said: String,
    },
    /// The source refuses the request for another reason than credentials; asking again does not help.
    #[error("{what} was refused with {status}{said}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The answer's status.
        status: u16,
        /// The server's words, after a separator; empty if it has none.
        said: String,
    },
    /// The source wants to be left alone for a while.
    #[error("{what} is not served now: the server answers {status} and asks to wait")]
    Busy {
        /// What was asked for.
        what: String,
        /// The answer's status.
        status: u16,
        /// How long to wait, where the server says so.
        wait: Option<Duration>,
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
        "the digest of the weights is {got}, and {expected} is wanted; correct the digest or the source"
    )]
    DigestMismatch {
        /// The digest that was asked for.
        expected: String,
        /// The digest of the file.
        got: String,
    },
    /// The source is sound, and we cannot read its kind.
    #[error("{0}")]
    Unsupported(String),
    /// The package, the archive or the listing is broken.
    #[error("{0}")]
    Broken(String),
    /// The disk has too little room for what is to come.
    #[error(
        "the weights need {} more, and the disk that holds {} has {} free; free some space or enlarge the volume",
        gibibytes(*needed), path.display(), gibibytes(*free)
    )]
    NoRoom {
        /// The cache.
        path: PathBuf,
        /// Bytes that are needed.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
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

    /// Whether the same request may succeed soon.
    pub(super) const fn is_passing(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Busy { .. })
    }

    /// How long the source asks to be left alone.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { wait, .. } => *wait,
            _ => None,
        }
    }

    /// The reason in the words of the load report.
    pub const fn load_failure(&self) -> LoadFailure {
        match self {
            Self::InvalidUri { .. } | Self::NotFound { .. } => LoadFailure::SourceNotFound,
            Self::Unauthorized { .. } => LoadFailure::SourceUnauthorized,
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::Busy { .. }
            | Self::Setup(_) => LoadFailure::SourceUnreachable,
            Self::Unsupported(_) => LoadFailure::Unsupported,
            Self::DigestMismatch { .. } | Self::Broken(_) => LoadFailure::VerifyFailed,
            Self::NoRoom { .. } | Self::DiskFull { .. } | Self::Cache { .. } => {
                LoadFailure::InsufficientResources
            }
        }
    }
}

fn gibibytes(bytes: u64) -> String {
    // Tenths are enough for people.
    let tenths = (bytes >> 20).saturating_mul(10) >> 10;
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}
