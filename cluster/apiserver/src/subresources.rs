//! Paths under an object that are more than a part of it.

pub(crate) mod binding;
pub(crate) mod eviction;
pub(crate) mod scale;
pub(crate) mod token;
