//! An Agent, without a client.
