//! A Kubernetes API over an embedded store, for any kind.

pub mod machinery;
pub mod status;
