//! Any bytes as a path and as headers.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::heads(bytes));
