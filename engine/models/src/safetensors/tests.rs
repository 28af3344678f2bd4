//! Claims about safetensors files; hostile ones are searched for in `hostile.rs`.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{INDEX, WHOLE, open_folder};
use crate::quant::TensorKind;

fn write(path: &Path, header: &Value, data: &[u8]) {
    let header = header.to_string();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

fn tensor(dtype: &str, shape: &[usize], offsets: [usize; 2]) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": offsets})
}

#[test]
fn numbers_of_each_type_are_read_in_place() {
    let folder = tempfile::tempdir().unwrap();
    let header = json!({
        "__metadata__": {"format": "pt"},
        "wide": tensor("F32", &[2], [0, 8]),
        "half": tensor("F16", &[2, 1], [8, 12]),
        "brain": tensor("BF16", &[1, 2], [12, 16]),
        "count": tensor("I64", &[1], [16, 24]),
    });
    let mut data = [1.5_f32, -2.0]
        .iter()
        .flat_map(|number| number.to_le_bytes())
        .collect::<Vec<_>>();
    data.extend([0x00, 0x3c, 0x00, 0xc0, 0x80, 0x3f, 0x00, 0xc0]);
    data.extend([0; 8]);
    write(&folder.path().join(WHOLE), &header, &data);
    let tensors = open_folder(folder.path()).unwrap();
    assert_eq!(tensors.parameters(), 7);
    assert_eq!(tensors.vector("wide", 2).unwrap(), [1.5, -2.0]);
    assert_eq!(tensors.numbers("half", &[2, 1]).unwrap(), [1.0, -2.0]);
    let matrix = tensors.matrix("brain", 1, 2).unwrap();
    assert_eq!(
        (matrix.kind(), matrix.row_bytes(0..1)),
        (TensorKind::BF16, [0x80, 0x3f, 0x00, 0xc0].as_slice())
    );
    let error = |result: Result<Vec<f32>, _>| {
        result
            .map_err(|error: crate::LoadError| error.to_string())
            .unwrap_err()
    };
    assert_eq!(
        error(tensors.vector("count", 1)),
        "the model uses numbers of type I64 in tensor count, which is not supported"
    );
    assert_eq!(
        error(tensors.vector("wide", 3)),
        "the weights are inconsistent: tensor wide is [2], not [3]"
    );
    assert_eq!(
        error(tensors.vector("none", 1)),
        "the weights are inconsistent: tensor none is missing"
    );
}

#[test]
fn several_files_are_one_model_and_share_no_names() {
    let folder = tempfile::tempdir().unwrap();
    let part = |file: &str, name: &str| {
        let mut header = serde_json::Map::new();
        header.insert(name.to_owned(), tensor("F32", &[1], [0, 4]));
        write(&folder.path().join(file), &Value::Object(header), &[0; 4]);
    };
    part("one.safetensors", "a");
    part("two.safetensors", "b");
    let index = json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}});
    fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    let tensors = open_folder(folder.path()).unwrap();
    assert!(tensors.contains("a") && tensors.contains("b"));
    part("two.safetensors", "a");
    let error = open_folder(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "tensor a occurs in two files");
}
