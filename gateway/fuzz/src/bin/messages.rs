//! Any bytes as a JSON-RPC message.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| gateway::fuzzing::messages(bytes));
