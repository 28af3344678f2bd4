//! Gateway keys: what a key looks like and how it is hashed at rest.

use sha2::{Digest, Sha256};

/// Every key we mint starts so; scanners for leaked secrets look for a fixed prefix.
pub const KEY_PREFIX: &str = "qd-";

/// Random bytes in a minted key, before hexadecimal encoding.
pub const KEY_ENTROPY_BYTES: usize = 24;

/// Formats a key from random bytes.
pub fn format_key(entropy: [u8; KEY_ENTROPY_BYTES]) -> String {
    format!("{KEY_PREFIX}{}", hex(&entropy))
}

/// Hashes a key the way it is stored: `sha256:` and 64 lower-case hexadecimal digits.
///
/// A plain SHA-256 is enough, since keys carry 192 random bits and cannot be guessed from the hash.
pub fn hash_key(key: &str) -> String {
    format!("sha256:{}", hex(&Sha256::digest(key.as_bytes())))
}

/// Writes bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{KEY_ENTROPY_BYTES, format_key, hash_key};

    #[test]
    fn a_hash_names_its_algorithm_and_never_holds_the_key() {
        let key = format_key([7; KEY_ENTROPY_BYTES]);
        let hash = hash_key(&key);
        assert_eq!(key.len(), 3 + 48);
        assert_eq!(hash.len(), 7 + 64);
        assert!(hash.starts_with("sha256:") && !hash.contains(&key));
    }
}
