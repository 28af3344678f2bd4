//! The admin key: read from a file, checked, and kept as a hash.

use std::{collections::HashMap, fmt, io, path::Path};

use protocol::key::digest;
use thiserror::Error;

/// Characters of an admin key.
const CHARACTERS_MIN: usize = 32;
/// Bits that the characters of a key carry at least, by how often each occurs. 32 random hexadecimal digits have over 100.
const BITS_MIN: f64 = 90.0;
/// Parts of keys that examples are published with.
const WELL_KNOWN: [&str; 8] = [
    "sk-1234",
    "changeme",
    "change-me",
    "password",
    "example",
    "secret",
    "your-key",
    "admin-key",
];

/// The admin key, as its SHA-256.
#[derive(Clone)]
pub(crate) struct AdminKey([u8; 32]);

impl fmt::Debug for AdminKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

/// Why a gateway does not start with an admin key.
#[derive(Debug, Error)]
pub(crate) enum InvalidAdminKey {
    /// No file.
    #[error("reading it: {0}")]
    Unreadable(#[from] io::Error),
    /// Too short.
    #[error(
        "it has {0} characters; use {CHARACTERS_MIN} or more, as `openssl rand -hex 32` prints"
    )]
    Short(usize),
    /// Easy to guess.
    #[error("it is easy to guess; use random characters, as `openssl rand -hex 32` prints")]
    Guessable,
    /// What no header can carry.
    #[error("it holds spaces or characters beyond ASCII, which no header carries")]
    Unsendable,
}

impl AdminKey {
    /// Reads a key from a file.
    ///
    /// # Errors
    /// [`InvalidAdminKey`]
    pub(crate) fn read(path: &Path) -> Result<Self, InvalidAdminKey> {
        Self::parse(std::fs::read_to_string(path)?.trim())
    }

    /// Checks a key.
    ///
    /// # Errors
    /// [`InvalidAdminKey`]
    pub(crate) fn parse(key: &str) -> Result<Self, InvalidAdminKey> {
        if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidAdminKey::Unsendable);
        }
        if key.len() < CHARACTERS_MIN {
            return Err(InvalidAdminKey::Short(key.len()));
        }
        let lower = key.to_ascii_lowercase();
        let is_known = WELL_KNOWN.iter().any(|known| lower.contains(known));
        if is_known || is_periodic(key.as_bytes()) || is_sequence(key.as_bytes()) {
            return Err(InvalidAdminKey::Guessable);
        }
        if bits(key.as_bytes()) < BITS_MIN {
            return Err(InvalidAdminKey::Guessable);
        }
        Ok(Self(digest(key)))
    }

    /// Whether this is the key. Takes as long whatever the token is: hashes are compared to their ends.
    pub(crate) fn opens(&self, token: &str) -> bool {
        let other = digest(token);
        let pairs = self.0.iter().zip(&other);
        let differing = pairs.fold(0, |sum, (left, right)| sum | (left ^ right));
        std::hint::black_box(differing) == 0
    }
}

/// How much the characters tell, by how often each occurs.
fn bits(key: &[u8]) -> f64 {
    let mut counts: HashMap<u8, f64> = HashMap::new();
    for byte in key {
        *counts.entry(*byte).or_default() += 1.0;
    }
    let length = key.len() as f64;
    let each = counts
        .values()
        .map(|count| -count * (count / length).log2());
    each.sum()
}

/// Whether the key is one piece, repeated.
fn is_periodic(key: &[u8]) -> bool {
    (1..=key.len() / 2).any(|period| {
        let later = key.iter().skip(period);
        key.iter().zip(later).all(|(left, right)| left == right)
    })
}

/// Whether most characters are their neighbours' neighbours, as in `abcdef` and `987654`.
fn is_sequence(key: &[u8]) -> bool {
    let steps = key.iter().zip(key.iter().skip(1));
    let near = steps.filter(|(left, right)| left.abs_diff(**right) <= 1);
    key.len() / 2 < near.count()
}

#[cfg(test)]
mod tests {
    use super::{AdminKey, InvalidAdminKey};

    #[track_caller]
    fn check(key: &str, is_fine: bool) {
        let read = AdminKey::parse(key);
        assert_eq!(read.is_ok(), is_fine, "{key}: {read:?}");
        if let Ok(admin) = read {
            assert!(admin.opens(key));
            assert!(!admin.opens(&key[1..]) && !admin.opens(""));
            assert_eq!(format!("{admin:?}"), "[redacted]");
        }
    }

    #[test]
    fn only_a_key_that_nobody_guesses_is_taken() {
        check("8c1f0a9be7d2463f95ab0c4de6f71823", true);
        check("kV7xQ2mT9zLw4RbY6nHcJ1sDfG8pAe3U", true);
        check("8c1f0a9be7d2463f95ab0c4de6f7182", false);
        check("sk-1234", false);
        check("sk-1234-8c1f0a9be7d2463f95ab0c4de6f71823", false);
        check("a-Very-Long-PassWord-that-people-know-1", false);
        check(&"a".repeat(64), false);
        check(&"0f3a9c7e".repeat(8), false);
        check("abcdefghijklmnopqrstuvwxyz0123456789", false);
        check("aabbccddeeffaabbccddeeffaabbccddee", false);
        check("8c1f0a9be7d2463f 95ab0c4de6f71823", false);
        let short = AdminKey::parse("sk-1234").unwrap_err();
        assert!(matches!(short, InvalidAdminKey::Short(7)), "{short}");
    }
}
