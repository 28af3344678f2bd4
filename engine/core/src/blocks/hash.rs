//! Names for the content of blocks.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::{AdapterId, TokenId};

/// Names the content of a full block: its tokens and, through the chain, all tokens before them, whom they belong to
/// and what computed them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BlockHash([u8; 32]);

impl BlockHash {
    /// What the chains of a salt and an adapter begin with; nothing where there is neither. Prefixes behind different
    /// roots are never shared.
    pub fn root(salt: Option<&str>, adapter: Option<AdapterId>) -> Option<Self> {
        if salt.is_none() && adapter.is_none() {
            return None;
        }
        let mut digest = Sha256::new();
        digest.update(b"root");
        digest.update(
            adapter
                .map_or(0, |AdapterId(id)| u64::from(id) + 1)
                .to_le_bytes(),
        );
        if let Some(salt) = salt {
            digest.update(b"salt");
            digest.update(salt.as_bytes());
        }
        Some(Self(digest.finalize().into()))
    }

    /// Hashes a block's tokens behind the block before it. The digest is cryptographic, because a collision
    /// would show one user's context to another.
    pub fn chain(previous: Option<&Self>, tokens: &[TokenId]) -> Self {
        let mut digest = Sha256::new();
        if let Some(previous) = previous {
            digest.update(previous.0);
        }
        for token in tokens {
            digest.update(token.to_le_bytes());
        }
        Self(digest.finalize().into())
    }

    /// The digest.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BlockHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, second, third, fourth, ..] = self.0;
        write!(
            formatter,
            "BlockHash({first:02x}{second:02x}{third:02x}{fourth:02x})"
        )
    }
}
