//! The engine process: step loop, HTTP surface, metrics, drain.
//!
//! One thread computes: it takes requests from a queue, asks the scheduler what to compute, runs the backend, samples
//! and tells each request's task what came out. Everything else is asynchronous and only waits. The process serves
//! HTTP from its first moment and says at `/health/load` how far its weights are.

mod args;
pub mod grammar;
mod http;
mod loader;
mod metrics;
pub mod parse;
mod runner;
mod serve;
pub mod source;
mod state;
mod template;

pub use args::EngineArgs;
pub use serve::{EngineError, run};
