//! Reconciles the five kinds: dereference, validate, build, apply, status.
//!
//! ```text
//!  watches ──► caches ──► queues ──► reconcile (leader only) ──► executor ──► API server
//!                 └─────► snapshots::publisher (every replica) ──► data planes ──► acks ──► status
//! ```
//!
//! One folder a kind: `dereference` reads what the object names, `validate` and `build` decide without a client,
//! the executor is the only place that writes (but for one field of one status, see `demand`), `status` tells what was observed and applied.

mod agent;
mod args;
mod caches;
mod conditions;
mod context;
mod controller;
mod demand;
mod executor;
mod inference_pool;
mod load;
mod metrics;
mod model;
mod pods;
mod probes;
mod quantities;
mod queue;
mod requests;
mod role;
mod route;
mod snapshots;
mod workspace;
mod workspace_template;

pub use args::OperatorArgs;
pub use role::{OperatorError, run};
