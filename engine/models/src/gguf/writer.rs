//! Writes GGUF files, version 3.

use std::fs;
use std::io;
use std::path::Path;

use crate::quant::TensorKind;

use super::Value;

const ALIGNMENT: usize = 32;

/// A file in the making.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    kind: TensorKind,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Writer {
    /// Adds a metadata value.
    pub(crate) fn value(&mut self, key: impl Into<String>, value: Value) {
        self.metadata.push((key.into(), value));
    }

    /// Adds a tensor; `bytes` are blocks of its kind.
    pub(crate) fn tensor(
        &mut self,
        name: impl Into<String>,
        kind: TensorKind,
        shape: &[usize],
        bytes: Vec<u8>,
    ) {
        self.tensors.push(Tensor {
            name: name.into(),
            kind,
            shape: shape.to_vec(),
            bytes,
        });
    }

    /// The file's bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3_u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            write_string(&mut out, key);
            write_value(&mut out, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            write_string(&mut out, &tensor.name);
            out.extend((tensor.shape.len() as u32).to_le_bytes());
            for length in &tensor.shape {
                out.extend((*length as u64).to_le_bytes());
            }
            out.extend(tensor.kind.to_ggml().to_le_bytes());
            out.extend((offset as u64).to_le_bytes());
            offset = (offset + tensor.bytes.len()).next_multiple_of(ALIGNMENT);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
            out.extend(&tensor.bytes);
        }
        out
    }

    /// Writes the file.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, self.to_bytes())
    }
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn write_value(out: &mut Vec<u8>, value: &Value) {
    let array = |out: &mut Vec<u8>, kind: u32, length: usize| {
        out.extend(9_u32.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend((length as u64).to_le_bytes());
    };
    match value {
        Value::Integer(number) => {
            out.extend(11_u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Value::Float(number) => {
            out.extend(12_u32.to_le_bytes());
            out.extend(number.to_le_bytes());
        }
        Value::Bool(truth) => {
            out.extend(7_u32.to_le_bytes());
            out.push(u8::from(*truth));
        }
        Value::String(text) => {
            out.extend(8_u32.to_le_bytes());
            write_string(out, text);
        }
        Value::Integers(numbers) => {
            array(out, 11, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::Floats(numbers) => {
            array(out, 6, numbers.len());
            out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        }
        Value::Strings(strings) => {
            array(out, 8, strings.len());
            for text in strings {
                write_string(out, text);
            }
        }
    }
}
