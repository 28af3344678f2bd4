//! Any bytes as the configuration of a sound checkpoint.
#![no_main]

mod checkpoint;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| checkpoint::open_with("config.json", bytes));
