//! One endpoint in front of every model: decode, authorize, route, forward, encode, account.
//!
//! A request runs through the steps in that order, one file each. The steps decide over an immutable table that is
//! swapped whole when a new snapshot comes; requests in progress keep the table that they started with.

#![expect(
    unexpected_cfgs,
    reason = "`cargo xtask fuzz` compiles with `fuzzing`, of which cargo knows nothing"
)]

mod a2a;
mod account;
mod adapters;
mod admin;
mod args;
mod attribution;
mod authorize;
mod batches;
mod cache;
mod call;
mod condition;
mod cost;
mod credential;
mod decode;
mod demand;
mod door;
mod encode;
mod endpoint;
mod endpoint_picker;
mod fallback;
mod fault;
mod forward;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod gateway;
mod guard;
mod hedging;
mod identity;
mod jwt;
mod kv_events;
mod leases;
mod ledger;
mod limits;
mod mcp;
mod metrics;
mod mirror;
mod models;
mod objects;
mod observe;
mod ollama;
mod outside;
mod paths;
mod people;
mod policy;
mod prefix;
mod prompts;
mod provider;
mod queue;
mod realtime;
mod retry;
mod route;
mod rpc;
mod run;
mod scan;
mod server;
mod session;
mod source;
mod stored;
mod table;
mod upstream;
mod usage;
mod wire;

pub use args::GatewayArgs;
pub use identity::IdentityArgs;
pub use jwt::JwtArgs;
pub use run::{GatewayError, run, runtime, serve};

#[cfg(test)]
mod tests;
