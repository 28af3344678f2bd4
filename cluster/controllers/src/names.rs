//! Names of children: short, random or hashed, without vowels so that no words appear.

use rand::Rng;
use sha2::{Digest, Sha256};

/// No vowels and none of 0, 1, 3: neither words nor look-alikes.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
/// The most that a name's prefix may take of the 63 characters that a label value may have.
const PREFIX_LENGTH_MAX: usize = 58;

/// `prefix` and five random characters.
pub(crate) fn random_name(prefix: &str) -> String {
    let mut random = rand::rng();
    let suffix: String = (0..5)
        .map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())]))
        .collect();
    let kept: String = prefix.chars().take(PREFIX_LENGTH_MAX).collect();
    format!("{kept}{suffix}")
}

/// Ten characters that stand for the content.
pub(crate) fn hashed_suffix(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .take(10)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{hashed_suffix, random_name};

    #[test]
    fn names_fit_a_label_and_hashes_are_stable() {
        assert_eq!(random_name(&"x".repeat(100)).len(), 63);
        assert_eq!(hashed_suffix(b"a"), hashed_suffix(b"a"));
        assert_ne!(hashed_suffix(b"a"), hashed_suffix(b"b"));
        assert_eq!(hashed_suffix(b"").len(), 10);
    }
}
