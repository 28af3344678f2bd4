//! SHA-256 digests of files.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::FetchError;
use super::{Phase, Progress};

const BUFFER_BYTES: usize = 1 << 20;

/// Checks that a digest is one.
pub(super) fn parse(text: &str) -> Result<String, FetchError> {
    let text = text
        .trim()
        .trim_start_matches("sha256:")
        .to_ascii_lowercase();
    if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text);
    }
    let reason = "a SHA-256 digest has 64 hexadecimal digits".to_owned();
    Err(FetchError::InvalidUri { uri: text, reason })
}

/// The digest of a file. Blocks; meant for `block_in_place` or a thread of its own.
pub(super) fn of_file(path: &Path, progress: Progress<'_>) -> Result<String, FetchError> {
    let fail = |source| FetchError::cache(path, source);
    let mut file = File::open(path).map_err(fail)?;
    let total = file.metadata().map_err(fail)?.len();
    let (mut digest, mut buffer, mut done) = (Sha256::new(), vec![0; BUFFER_BYTES], 0);
    loop {
        let count = file.read(&mut buffer).map_err(fail)?;
        if count == 0 {
            return Ok(to_hex(&digest.finalize()));
        }
        digest.update(&buffer[..count]);
        done += count as u64;
        progress(Phase::Verifying, done, Some(total));
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A short name for a text, for file names.
pub(super) fn short_name(text: &str) -> String {
    to_hex(&Sha256::digest(text.as_bytes())[..6])
}
