//! Stories end to end, with real clients: each starts `qd up` as a user would and looks at it from outside.
//!
//! The binary under test is the one that `cargo build` left beside this one; kubectl, helm and the weights are what
//! `cargo xtask tools` and `cargo xtask weights` fetched into `target/`.

mod agents;
mod bad_input;
mod chat;
mod cluster;
mod cold_start;
mod crash;
mod disk;
mod engine_sdks;
mod failover;
mod gateway;
mod gateway_sdks;
mod harness;
mod helm;
mod leaves_nothing;
mod ledger;
mod limits;
mod ordinary_user;
mod quickstart;
mod sdks;
