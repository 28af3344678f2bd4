//! Any bytes as the weights of a sound checkpoint.
#![no_main]

use std::fs;
use std::path::Path;

use engine_models::{Opened, open};
use libfuzzer_sys::fuzz_target;

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/testdata");

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (from, to) in [
        ("architectures/gemma3/config.json", "config.json"),
        ("architectures/gemma3/model.safetensors", "model.safetensors"),
        ("tokenizers/llama2.json", "tokenizer.json"),
    ] {
        let copied = fs::copy(Path::new(TESTDATA).join(from), folder.path().join(to));
        copied.expect("the checkpoint is there");
    }
    fs::write(folder.path().join("model.safetensors"), bytes).expect("the folder is writable");
    if let Ok(Opened::Generative(loaded)) = open(folder.path()) {
        drop(loaded.tokenizer.encode("a text, <s> 12 日本"));
    }
});
