//! Builders and fakes for tests: a scripted model, temporary data folders.
