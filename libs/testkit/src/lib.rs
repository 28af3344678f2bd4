//! Builders and fakes for tests and benchmarks: golden files, a scripted model that speaks OpenAI's API, scripted providers, a
//! provider that answers what is asked for,
//! traffic for fleets of engines.

pub mod agent_server;
pub mod block_cache;
pub mod fluent_provider;
pub mod golden;
pub mod scripted_model;
pub mod scripted_provider;
pub mod scripted_server;
pub mod tool_server;
pub mod traffic;
