//! Builders and fakes for tests: a scripted model that speaks OpenAI's API.

pub mod scripted_model;
