//! Whatever the bytes of a model's files are, opening them ends, in a model or in an error.
//!
//! These are properties of all readers together; each reader's own tests name the errors. Every test run makes a short
//! search; `PROPTEST_CASES=20000 cargo test -p engine-models --lib hostile` searches for minutes. The same checks are
//! fuzz targets in `engine/fuzz`.

use std::fs;
use std::path::Path;

use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof};
use proptest::test_runner::TestRunner;

use crate::adapter::Adapter;
use crate::synthetic::{SyntheticAdapter, SyntheticModel};
use crate::weights::{Loaded, open};

/// A change of a file.
#[derive(Debug, Clone)]
enum Change {
    /// Overwrites bytes.
    Write(prop::sample::Index, Vec<u8>),
    /// Cuts the end off.
    Cut(prop::sample::Index),
    /// Takes bytes out of the middle.
    Remove(prop::sample::Index, usize),
    /// Puts bytes in.
    Insert(prop::sample::Index, Vec<u8>),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let poison = prop_oneof![
        Just(vec![0xff; 8]),
        Just(vec![0; 8]),
        Just((1_u64 << 62).to_le_bytes().to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just(b"-1".to_vec()),
        Just(b"1e400".to_vec()),
        Just(b"null".to_vec()),
        Just(b"[[[[[[[[[[".to_vec()),
        Just(vec![0xc3, 0x28]),
        prop::collection::vec(any::<u8>(), 1..9),
    ];
    let place = any::<prop::sample::Index>;
    let change = prop_oneof![
        4 => (place(), poison.clone()).prop_map(|(place, bytes)| Change::Write(place, bytes)),
        1 => place().prop_map(Change::Cut),
        1 => (place(), 1..64_usize).prop_map(|(place, length)| Change::Remove(place, length)),
        2 => (place(), poison).prop_map(|(place, bytes)| Change::Insert(place, bytes)),
    ];
    prop::collection::vec(change, 1..5)
}

fn apply(changes: &[Change], bytes: &mut Vec<u8>, header: usize) {
    for change in changes {
        let limit = header.min(bytes.len());
        let place = |index: &prop::sample::Index| if limit == 0 { 0 } else { index.index(limit) };
        match change {
            Change::Write(index, new) => {
                let start = place(index);
                for (byte, new) in bytes[start..].iter_mut().zip(new) {
                    *byte = *new;
                }
            }
            Change::Cut(index) => bytes.truncate(place(index)),
            Change::Remove(index, length) => {
                let start = place(index);
                let end = (start + length).min(bytes.len());
                bytes.drain(start..end);
            }
            Change::Insert(index, new) => {
                let start = place(index);
                bytes.splice(start..start, new.iter().copied());
            }
        }
    }
}

/// Changes one file of a folder in all ways and calls `visit` each time.
fn search(folder: &Path, name: &str, visit: impl Fn(&Path)) {
    let path = folder.join(name);
    let bytes = fs::read(&path).unwrap();
    // Numbers behind the header can be anything; what is interesting stands in front.
    let header = bytes.len().min(24_000);
    let config = ProptestConfig {
        failure_persistence: None,
        max_shrink_iters: 64,
        ..ProptestConfig::default()
    };
    TestRunner::new(config)
        .run(&changes(), |changes| {
            let mut changed = bytes.clone();
            apply(&changes, &mut changed, header);
            fs::write(&path, changed).unwrap();
            visit(folder);
            Ok(())
        })
        .unwrap();
    fs::write(&path, bytes).unwrap();
}

fn tiny() -> SyntheticModel {
    SyntheticModel {
        layers: 1,
        width: 8,
        feed_forward_width: 8,
        heads: 2,
        key_value_heads: 1,
        ..SyntheticModel::default()
    }
}

/// Copies a checkpoint with a tokenizer to a folder of its own.
fn checkpoint(architecture: &str) -> tempfile::TempDir {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    let folder = tempfile::tempdir().unwrap();
    let from = testdata.join("architectures").join(architecture);
    for name in ["config.json", "model.safetensors"] {
        fs::copy(from.join(name), folder.path().join(name)).unwrap();
    }
    let tokenizer = testdata.join("tokenizers/llama2.json");
    fs::copy(tokenizer, folder.path().join("tokenizer.json")).unwrap();
    folder
}

fn visit_model(folder: &Path) {
    // Any outcome is fine as long as there is one.
    if let Ok(loaded) = Loaded::open(folder) {
        drop(loaded.tokenizer.encode("a text, <s> 12 日本"));
    }
}

fn search_gguf() {
    let folder = tempfile::tempdir().unwrap();
    for architecture in ["llama", "gemma3"] {
        let shape = SyntheticModel {
            architecture,
            ..tiny()
        };
        shape.write(&folder.path().join("model.gguf")).unwrap();
        search(folder.path(), "model.gguf", |folder| {
            visit_model(&folder.join("model.gguf"));
        });
    }
}

fn search_folder(name: &str) {
    for architecture in ["llama-llama3", "gemma3"] {
        let folder = checkpoint(architecture);
        assert!(
            open(folder.path()).is_ok(),
            "the checkpoint itself is sound"
        );
        search(folder.path(), name, visit_model);
    }
}

fn search_adapter() {
    let model = checkpoint("llama");
    let config = Loaded::open(model.path()).unwrap().model.config().clone();
    let folder = tempfile::tempdir().unwrap();
    SyntheticAdapter::default()
        .write(folder.path(), &config)
        .unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        search(folder.path(), name, |folder| {
            drop(Adapter::open(folder, &config));
        });
    }
}

#[test]
fn no_gguf_file_makes_the_loader_panic() {
    search_gguf();
}

#[test]
fn no_safetensors_file_makes_the_loader_panic() {
    search_folder("model.safetensors");
}

#[test]
fn no_config_json_makes_the_loader_panic() {
    search_folder("config.json");
}

#[test]
fn no_tokenizer_json_makes_the_loader_panic() {
    search_folder("tokenizer.json");
}

#[test]
fn no_adapter_makes_the_loader_panic() {
    search_adapter();
}

/// Files that no change of a sound one leads to.
#[test]
fn deep_and_lying_files_are_refused() {
    let folder = checkpoint("llama");
    let sound: Vec<_> = ["config.json", "tokenizer.json", "model.safetensors"]
        .map(|name| (name, fs::read(folder.path().join(name)).unwrap()))
        .into();
    let safetensors = |header: &str| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        bytes
    };
    let deep = "[".repeat(10_000);
    let tensor = |shape: &str, offsets: &str| {
        safetensors(&format!(
            "{{\"t\":{{\"dtype\":\"F32\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}"
        ))
    };
    let two = "{\"a\":{\"dtype\":\"F32\",\"shape\":[16],\"data_offsets\":[0,64]},\"b\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[32,64]}}";
    for (name, bytes) in [
        ("config.json", deep.clone().into_bytes()),
        ("config.json", b"\xff\xfe".to_vec()),
        ("config.json", vec![b' '; 2 << 20]),
        ("tokenizer.json", deep.clone().into_bytes()),
        ("model.safetensors", safetensors(&deep)),
        ("model.safetensors", u64::MAX.to_le_bytes().to_vec()),
        ("model.safetensors", (1_u64 << 40).to_le_bytes().to_vec()),
        ("model.safetensors", Vec::new()),
        (
            "model.safetensors",
            tensor("[18446744073709551615,2]", "[0,64]"),
        ),
        ("model.safetensors", tensor("[16]", "[64,0]")),
        (
            "model.safetensors",
            tensor("[16]", "[0,18446744073709551615]"),
        ),
        (
            "model.safetensors",
            tensor("[1,1,1,1,1,1,1,1,16]", "[0,64]"),
        ),
        ("model.safetensors", safetensors(two)),
    ] {
        fs::write(folder.path().join(name), &bytes).unwrap();
        let length = bytes.len();
        assert!(
            open(folder.path()).is_err(),
            "{name} with {length} bytes was taken"
        );
        for (name, bytes) in &sound {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
    }
    let index = folder.path().join("model.safetensors.index.json");
    for weight_map in [
        "{}",
        "[]",
        "{\"a\":\"../model.safetensors\"}",
        "{\"a\":\"/etc/passwd\"}",
        "{\"a\":3}",
    ] {
        fs::write(&index, format!("{{\"weight_map\":{weight_map}}}")).unwrap();
        assert!(open(folder.path()).is_err(), "{weight_map} was taken");
    }
    fs::write(&index, "{\"weight_map\":{\"a\":\"model.safetensors\"}}").unwrap();
    assert!(
        open(folder.path()).is_ok(),
        "one file with an index is fine"
    );
}
