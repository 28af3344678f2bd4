//! Builders and fakes for tests: a scripted model that speaks OpenAI's API, a tool server that speaks MCP.

pub mod scripted_model;
pub mod tool_server;
