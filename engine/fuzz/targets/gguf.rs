//! Any bytes as a GGUF file, or as changes to a sound one.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use engine_models::Loaded;
use engine_models::synthetic::SyntheticModel;
use libfuzzer_sys::fuzz_target;

static SOUND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    let written = SyntheticModel::default().write(&path);
    written.expect("the folder is writable");
    fs::read(&path).expect("the file is there")
});

/// Each four bytes are a place and what it becomes; what is left over is where the file ends.
fn changed(changes: &[u8]) -> Vec<u8> {
    let mut file = SOUND.clone();
    let (changes, end) = changes.as_chunks::<4>();
    for [low, middle, high, byte] in changes {
        let place = u32::from_le_bytes([*low, *middle, *high, 0]) as usize % file.len();
        file[place] = *byte;
    }
    if let [low, high] = end {
        let length = usize::from(u16::from_le_bytes([*low, *high]));
        file.truncate(length);
    }
    file
}

fuzz_target!(|bytes: &[u8]| {
    let file = match bytes.starts_with(b"GGUF") {
        true => bytes.to_vec(),
        false => changed(bytes),
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("model.gguf");
    fs::write(&path, file).expect("the folder is writable");
    drop(Loaded::open(&path));
});
