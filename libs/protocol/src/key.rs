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

/// What stands in front of a hash's digits.
const HASH_PREFIX: &str = "sha256:";

/// The SHA-256 of a key.
pub fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key.as_bytes()).into()
}

/// The SHA-256 that a stored hash tells; `None` if it is no hash of [`hash_key`]'s.
pub fn parse_hash(hash: &str) -> Option<[u8; 32]> {
    let digits = hash.strip_prefix(HASH_PREFIX)?.as_bytes();
    let mut digest = [0; 32];
    if digits.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        let nibble = |digit: u8| char::from(digit).to_digit(16);
        *byte = u8::try_from(nibble(pair[0])? << 4 | nibble(pair[1])?).ok()?;
    }
    Some(digest)
}

/// Hashes a key the way it is stored: `sha256:` and 64 lower-case hexadecimal digits.
///
/// A plain SHA-256 is enough, since keys carry 192 random bits and cannot be guessed from the hash.
pub fn hash_key(key: &str) -> String {
    format!("{HASH_PREFIX}{}", hex(&digest(key)))
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
    use super::{KEY_ENTROPY_BYTES, digest, format_key, hash_key, parse_hash};

    #[test]
    fn a_hash_names_its_algorithm_and_never_holds_the_key() {
        let key = format_key([7; KEY_ENTROPY_BYTES]);
        let hash = hash_key(&key);
        assert_eq!(key.len(), 3 + 48);
        assert_eq!(hash.len(), 7 + 64);
        assert!(hash.starts_with("sha256:") && !hash.contains(&key));
        assert_eq!(parse_hash(&hash), Some(digest(&key)));
        for wrong in [
            "",
            "sha256:",
            &hash[1..],
            &hash[..70],
            &hash.replace("sha256:", "sha256:g"),
        ] {
            assert_eq!(parse_hash(wrong), None, "{wrong}");
        }
    }
}
