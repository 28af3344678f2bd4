//! Any bytes as a request, an answer and a stream of every API.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::translation(bytes));
