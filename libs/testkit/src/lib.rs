//! Builders and fakes for tests and benchmarks: golden files, a scripted model that speaks OpenAI's API, scripted providers,
//! traffic for fleets of engines.

pub mod block_cache;
pub mod golden;
pub mod scripted_model;
pub mod scripted_provider;
pub mod tool_server;
pub mod traffic;
