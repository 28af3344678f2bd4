//! A sound checkpoint of which one file is replaced.

use std::fs;
use std::path::Path;

use engine_models::{Opened, open};

const TESTDATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/testdata");
const FILES: [(&str, &str); 3] = [
    ("architectures/gemma3/config.json", "config.json"),
    ("architectures/gemma3/model.safetensors", "model.safetensors"),
    ("tokenizers/llama2.json", "tokenizer.json"),
];

/// Opens the checkpoint with these bytes as the file of this name.
pub fn open_with(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (from, to) in FILES {
        let copied = fs::copy(Path::new(TESTDATA).join(from), folder.path().join(to));
        copied.expect("the checkpoint is there");
    }
    fs::write(folder.path().join(name), bytes).expect("the folder is writable");
    if let Ok(Opened::Generative(loaded)) = open(folder.path()) {
        drop(loaded.tokenizer.encode("a text, <s> 12 日本"));
    }
}
