//! Claims about GGUF files, above all broken ones.

use std::fs;

use super::writer::Writer;
use super::{GgufError, GgufFile, Value};
use crate::quant::TensorKind;
use crate::synthetic::SyntheticModel;
use crate::weights::Loaded;

fn open(bytes: &[u8]) -> Result<GgufFile, GgufError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    GgufFile::open(&path)
}

fn small() -> Writer {
    let mut writer = Writer::default();
    writer.value("a.number", Value::Integer(-7));
    writer.value("a.float", Value::Float(0.5));
    writer.value("a.flag", Value::Bool(true));
    writer.value("a.text", Value::String("grüße".to_owned()));
    writer.value("a.numbers", Value::Integers(vec![1, 2]));
    writer.value("a.floats", Value::Floats(vec![1.5]));
    writer.value(
        "a.texts",
        Value::Strings(vec!["x".to_owned(), String::new()]),
    );
    writer.tensor("t", TensorKind::F32, &[2, 3], vec![0; 24]);
    writer.tensor("u", TensorKind::Q4_0, &[32], vec![0; 18]);
    writer
}

#[test]
fn what_is_written_is_read() {
    let file = open(&small().to_bytes()).unwrap();
    assert_eq!(file.integer("a.number"), Some(-7));
    assert_eq!(file.float("a.float"), Some(0.5));
    assert_eq!(file.bool("a.flag"), Some(true));
    assert_eq!(file.string("a.text"), Some("grüße"));
    assert_eq!(file.integers("a.numbers"), Some([1, 2].as_slice()));
    assert_eq!(file.floats("a.floats"), Some([1.5].as_slice()));
    assert_eq!(file.strings("a.texts").map(<[String]>::len), Some(2));
    assert_eq!(file.integer("a.text"), None);
    let tensor = &file.tensors()["u"];
    assert_eq!(
        (tensor.kind, tensor.bytes, tensor.offset % 32),
        (TensorKind::Q4_0, 18, 0)
    );
    assert_eq!(file.parameters(), 38);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = small().to_bytes();
    for length in 0..bytes.len() {
        assert!(
            open(&bytes[..length]).is_err(),
            "accepted {length} of {} bytes",
            bytes.len()
        );
    }
}

/// Overwrites each word of a real header with numbers that break careless readers.
#[test]
fn no_number_in_the_header_makes_the_loader_panic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    let model = SyntheticModel {
        layers: 1,
        width: 8,
        heads: 2,
        key_value_heads: 1,
        ..SyntheticModel::default()
    };
    let bytes = model.writer().to_bytes();
    let header = bytes
        .windows(6)
        .rposition(|window| window == b"weight")
        .unwrap()
        + 64;
    for start in (4..header).step_by(23) {
        for poison in [
            [0xff; 8],
            [0; 8],
            [0x7f; 8],
            (1_u64 << 62).to_le_bytes(),
            3_u64.to_le_bytes(),
        ] {
            let mut bytes = bytes.clone();
            bytes[start..start + 8].copy_from_slice(&poison);
            fs::write(&path, &bytes).unwrap();
            // Any outcome is fine as long as there is one.
            drop(Loaded::open(&path));
        }
    }
}

#[track_caller]
fn check_refused(bytes: &[u8], expected: &str) {
    assert_eq!(open(bytes).unwrap_err().to_string(), expected);
}

fn with_tensor(kind: u32, shape: [u64; 2], offset: u64) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(3_u32.to_le_bytes());
    bytes.extend([1_u64, 0, 1].iter().flat_map(|number| number.to_le_bytes()));
    bytes.push(b't');
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(shape.iter().flat_map(|length| length.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes.resize(bytes.len() + 256, 0);
    bytes
}

#[test]
fn impossible_tensors_are_named() {
    check_refused(b"GGML", "the file is not GGUF");
    check_refused(
        b"GGUF\x01\x00\x00\x00",
        "GGUF version 1 is not supported, 2 and 3 are",
    );
    assert!(open(&with_tensor(0, [4, 4], 0)).is_ok());
    check_refused(
        &with_tensor(0, [0, 4], 0),
        "tensor t has rows that are not whole blocks",
    );
    check_refused(
        &with_tensor(2, [33, 1], 0),
        "tensor t has rows that are not whole blocks",
    );
    check_refused(
        &with_tensor(0, [4, 0], 0),
        "tensor t has an impossible size",
    );
    check_refused(
        &with_tensor(0, [u64::MAX, u64::MAX], 0),
        "tensor t has an impossible size",
    );
    check_refused(&with_tensor(0, [4, 4], 1), "tensor t is not aligned");
    check_refused(
        &with_tensor(0, [4, 4], u64::MAX - 31),
        "the file ends in the middle of a tensor",
    );
    check_refused(
        &with_tensor(0, [64, 64], 0),
        "the file ends in the middle of a tensor",
    );
    check_refused(
        &with_tensor(99, [4, 4], 0),
        "tensor t has type 99, which is not supported",
    );
}
