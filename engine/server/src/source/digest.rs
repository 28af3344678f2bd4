//! Digests of files: SHA-256, and git's own for the small files of a hub's repository.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::FetchError;

const BUFFER_BYTES: usize = 1 << 20;

/// The digest that a file must have, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Digest {
    /// SHA-256 of the bytes.
    Sha256(String),
    /// Git's name of the bytes: SHA-1 of a header and the bytes.
    Git(String),
}

impl Digest {
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::Git(hex) => hex,
        }
    }
}

/// Checks that a SHA-256 digest is one.
pub(super) fn parse(text: &str) -> Result<String, FetchError> {
    let text = text
        .trim()
        .trim_start_matches("sha256:")
        .to_ascii_lowercase();
    if is_hex(&text, 64) {
        return Ok(text);
    }
    let reason = "a SHA-256 digest has 64 hexadecimal digits".to_owned();
    Err(FetchError::InvalidUri { uri: text, reason })
}

pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The digests of one file's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digests {
    pub(super) bytes: u64,
    pub(super) sha256: String,
    pub(super) git: String,
}

impl Digests {
    /// Whether the bytes are those that a digest names, else the digest that they have.
    pub(super) fn check(&self, expected: &Digest) -> Result<(), FetchError> {
        let got = match expected {
            Digest::Sha256(_) => &self.sha256,
            Digest::Git(_) => &self.git,
        };
        if got == expected.as_str() {
            return Ok(());
        }
        Err(FetchError::DigestMismatch {
            expected: expected.as_str().to_owned(),
            got: got.clone(),
        })
    }
}

/// The digests of a file; `progress` is told how many bytes are done. Blocks.
pub(super) fn of_file(path: &Path, progress: &dyn Fn(u64)) -> Result<Digests, FetchError> {
    let fail = |source| FetchError::cache(path, source);
    let mut file = File::open(path).map_err(fail)?;
    let bytes = file.metadata().map_err(fail)?.len();
    // Git's digest is wanted of small files only; SHA-1 over all of the weights would cost for nothing.
    let mut git = (bytes <= GIT_BYTES_MAX).then(|| Context::new(&SHA1_FOR_LEGACY_USE_ONLY));
    if let Some(git) = &mut git {
        git.update(format!("blob {bytes}\0").as_bytes());
    }
    let (mut sha256, mut buffer, mut done) = (Sha256::new(), vec![0; BUFFER_BYTES], 0);
    loop {
        let count = file.read(&mut buffer).map_err(fail)?;
        if count == 0 {
            break;
        }
        sha256.update(&buffer[..count]);
        if let Some(git) = &mut git {
            git.update(&buffer[..count]);
        }
        done += count as u64;
        progress(done);
    }
    Ok(Digests {
        bytes: done,
        sha256: to_hex(&sha256.finalize()),
        git: git.map_or_else(String::new, |git| to_hex(git.finish().as_ref())),
    })
}

/// Hubs keep larger files outside of git, under a SHA-256.
pub(super) const GIT_BYTES_MAX: u64 = 64 << 20;

pub(super) fn of_bytes(bytes: &[u8]) -> String {
    to_hex(&Sha256::digest(bytes))
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A short name for a text, for file names.
pub(super) fn short_name(text: &str) -> String {
    to_hex(&Sha256::digest(text.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::{Digest, of_file};

    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hello\n").unwrap();
        let digests = of_file(file.path(), &|_| {}).unwrap();
        // Source: `sha256sum` and `git hash-object` of the same file.
        let sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let git = "ce013625030ba8dba906f756967f9e9ca394464a";
        assert_eq!((&*digests.sha256, &*digests.git), (sha256, git));
        assert!(digests.check(&Digest::Git(git.to_owned())).is_ok());
        assert!(digests.check(&Digest::Sha256(git.to_owned())).is_err());
    }
}
