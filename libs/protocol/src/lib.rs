//! What the parts say to each other: wire types, event framing, snapshots, health reports.
//!
//! Components never depend on each other; where two of them meet, the words they use are defined here.
//! Nothing here knows Kubernetes.

pub mod address;
pub mod agent;
pub mod allowance;
pub mod anthropic;
pub mod demand;
pub mod follow;
pub mod key;
pub mod kv_events;
pub mod load;
pub mod openai;
pub mod provider;
pub mod routing;
pub mod runs;
pub mod secret;
pub mod snapshot;
pub mod sse;
pub mod vendor;
pub mod workspace;
