//! Builders and fakes for tests: golden files, a scripted model that speaks OpenAI's API.

pub mod golden;
pub mod scripted_model;
