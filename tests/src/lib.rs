//! Stories end to end: all of them are in the test binary `stories`.
