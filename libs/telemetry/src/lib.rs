//! Logs, metrics and graceful shutdown, the same for every role.

pub mod logs;
pub mod metrics;
pub mod shutdown;

pub use logs::{LogFormat, init};
