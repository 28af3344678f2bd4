//! JSON-RPC over HTTP, as tool servers and agents speak it: messages, exchanges, streams, and the account of a call.

pub(crate) mod account;
#[cfg(any(test, fuzzing))]
pub(crate) mod claims;
pub(crate) mod failure;
pub(crate) mod message;
pub(crate) mod metrics;
pub(crate) mod stream;
pub(crate) mod transport;
