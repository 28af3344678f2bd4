//! The durable agent runtime: graphs, run log, tools, streaming runs.
//!
//! A run is a fold over its log. Invariants:
//! - A step's writes, its events and the run's status are one transaction; what was answered to a client is on disk.
//! - A finished step is never done again; one that was started and not finished is repeated with the same idempotency id.
//! - A run finishes on the definition that it started with, whatever happens to the agent meanwhile.
//! - Credentials come from the live snapshot when a step needs them; the log, events and traces never hold one.

mod args;
mod catalog;
mod clock;
mod definition;
mod failure;
mod feed;
mod graph;
mod http;
mod hub;
mod metrics;
mod model;
mod outbound;
mod runtime;
mod steps;
mod store;
mod tools;
mod worker;

#[cfg(test)]
mod tests;

pub use args::AgentsArgs;
pub use runtime::{AgentsError, run};
