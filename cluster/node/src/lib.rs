//! Pods as sandboxes and processes; Services, DNS, logs and exec.
//!
//! Invariants:
//! - What happens to a Pod is decided by pure functions (`pod::decide`, `pod::status`); the worker only carries it out.
//! - No process outlives the node: processes follow their parent's death in the kernel, sandboxes their helper's; what a
//!   killed node left is ended at the next start, and only if it is provably ours.
//! - A Pod's object is removed from the API only when nothing of it is left on this host.
//! - An image other than our own binary never runs unisolated unless the user said so.

mod addresses;
mod api;
mod caches;
mod config;
mod context;
mod dns;
mod environment;
mod events;
mod explain;
mod fields;
mod images;
mod logs;
mod node;
mod pod;
mod pods;
mod probes;
mod quantity;
mod registration;
mod rewrite;
mod runtime;
mod scheduler;
mod services;
mod volumes;

pub use config::{DNS_ADDRESS, NodeConfig, NodeError};
pub use node::run;
pub use pod::backoff::Backoff;
pub use runtime::launcher::{LAUNCH_COMMAND, launch};
