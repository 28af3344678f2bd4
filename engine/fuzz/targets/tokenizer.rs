//! Any bytes as the tokenizer of a sound checkpoint.
#![no_main]

mod checkpoint;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| checkpoint::open_with("tokenizer.json", bytes));
