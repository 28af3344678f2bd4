//! Stories end to end, with real clients.
