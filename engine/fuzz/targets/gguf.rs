//! Any bytes as a GGUF file.
#![no_main]

use std::fs;

use engine_models::Loaded;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).expect("the folder is writable");
    drop(Loaded::open(&path));
});
