//! `file:///PATH`: weights that are on this machine already; they stay where they are.

use std::path::{Path, PathBuf};

use super::Progress;
use super::cache::digest_of;
use super::error::FetchError;

/// Checks that the file is there and is the one that is wanted.
pub(super) async fn check(
    path: &Path,
    sha256: Option<&str>,
    progress: Progress<'_>,
) -> Result<PathBuf, FetchError> {
    if !path.is_file() {
        return Err(FetchError::NotFound {
            what: format!("the file {}", path.display()),
            advice: "put the weights there, or correct the path; it is looked for again".to_owned(),
        });
    }
    if let Some(expected) = sha256 {
        let got = digest_of(path, progress).await?;
        if got != expected {
            return Err(FetchError::DigestMismatch {
                expected: expected.to_owned(),
                got,
            });
        }
    }
    Ok(path.to_owned())
}
