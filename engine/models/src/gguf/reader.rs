//! Reads a GGUF header out of untrusted bytes.

use std::collections::HashMap;

use super::{GgufError, TensorInfo, Value};
use crate::quant::TensorKind;

const MAGIC: &[u8; 4] = b"GGUF";
const METADATA_MAX: u64 = 1 << 16;
const TENSORS_MAX: u64 = 1 << 16;
const NAME_BYTES_MAX: u64 = 1 << 12;
const STRING_BYTES_MAX: u64 = 1 << 24;
const ARRAY_LENGTH_MAX: u64 = 1 << 24;
const DIMENSIONS_MAX: u64 = 4;
const ALIGNMENT_DEFAULT: u64 = 32;
const ALIGNMENT_MAX: u64 = 1 << 16;

type Header = (HashMap<String, Value>, HashMap<String, TensorInfo>);

/// Reads metadata and tensor descriptions and checks that the tensors lie within the file.
pub(super) fn read(data: &[u8]) -> Result<Header, GgufError> {
    let mut reader = Reader { data, position: 0 };
    if reader.take(4, "the magic number").ok() != Some(MAGIC.as_slice()) {
        return Err(GgufError::NotGguf);
    }
    let version = reader.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufError::UnsupportedVersion(version));
    }
    let tensor_count = within(
        "the number of tensors",
        reader.u64("the header")?,
        TENSORS_MAX,
    )?;
    let metadata_count = within(
        "the number of metadata entries",
        reader.u64("the header")?,
        METADATA_MAX,
    )?;
    let mut metadata = HashMap::new();
    for _ in 0..metadata_count {
        let key = reader.string(NAME_BYTES_MAX, "a metadata key")?;
        if let Some(value) = reader.value()? {
            metadata.insert(key, value);
        }
    }
    let mut described = Vec::new();
    for _ in 0..tensor_count {
        described.push(reader.tensor()?);
    }
    let alignment = alignment(&metadata)?;
    let start = (reader.position as u64).next_multiple_of(alignment);
    let mut tensors = HashMap::new();
    for tensor in described {
        let (name, info) = place(tensor, start, alignment, data.len())?;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(GgufError::Malformed(format!("tensor {name} occurs twice")));
        }
    }
    Ok((metadata, tensors))
}

struct Described {
    name: String,
    shape: Vec<u64>,
    kind: u32,
    offset: u64,
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u64, GgufError> {
    match metadata.get("general.alignment") {
        None => Ok(ALIGNMENT_DEFAULT),
        Some(Value::Integer(number)) => match u64::try_from(*number) {
            Ok(number) if number.is_power_of_two() && number <= ALIGNMENT_MAX => Ok(number),
            _ => Err(GgufError::Malformed(format!(
                "the alignment {number} is not a small power of two"
            ))),
        },
        Some(_) => Err(GgufError::Malformed(
            "the alignment is not a number".to_owned(),
        )),
    }
}

/// Turns a description into a place in the file.
fn place(
    tensor: Described,
    start: u64,
    alignment: u64,
    size: usize,
) -> Result<(String, TensorInfo), GgufError> {
    let Described {
        name,
        shape,
        kind,
        offset,
    } = tensor;
    let Some(kind) = TensorKind::from_ggml(kind) else {
        return Err(GgufError::UnsupportedKind { name, kind });
    };
    let malformed = |what: &str| GgufError::Malformed(format!("tensor {name} {what}"));
    if offset % alignment != 0 {
        return Err(malformed("is not aligned"));
    }
    let row = shape.first().copied().unwrap_or(0);
    if row == 0 || row % kind.block_length() as u64 != 0 {
        return Err(malformed("has rows that are not whole blocks"));
    }
    let elements = shape
        .iter()
        .try_fold(1_u64, |product, length| product.checked_mul(*length));
    let bytes = elements.and_then(|elements| {
        (elements / kind.block_length() as u64).checked_mul(kind.block_bytes() as u64)
    });
    let Some(bytes) = bytes.filter(|bytes| 0 < *bytes) else {
        return Err(malformed("has an impossible size"));
    };
    let end = start
        .checked_add(offset)
        .and_then(|begin| begin.checked_add(bytes));
    if end.is_none_or(|end| (size as u64) < end) {
        return Err(GgufError::Truncated("a tensor"));
    }
    let shape = shape.into_iter().map(|length| length as usize).collect();
    let info = TensorInfo {
        kind,
        shape,
        offset: (start + offset) as usize,
        bytes: bytes as usize,
    };
    Ok((name, info))
}

fn within(what: &'static str, value: u64, limit: u64) -> Result<u64, GgufError> {
    if limit < value {
        Err(GgufError::OverLimit { what, value, limit })
    } else {
        Ok(value)
    }
}

struct Reader<'a> {
    data: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize, what: &'static str) -> Result<&'a [u8], GgufError> {
        let end = self
            .position
            .checked_add(length)
            .ok_or(GgufError::Truncated(what))?;
        let bytes = self
            .data
            .get(self.position..end)
            .ok_or(GgufError::Truncated(what))?;
        self.position = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], GgufError> {
        let bytes = self.take(N, what)?;
        bytes.try_into().map_err(|_| GgufError::Truncated(what))
    }

    fn u32(&mut self, what: &'static str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &'static str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn string(&mut self, limit: u64, what: &'static str) -> Result<String, GgufError> {
        let length = within("the length of a string", self.u64(what)?, limit)?;
        let bytes = self.take(length as usize, what)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| GgufError::Malformed(format!("{what} is not UTF-8")))?;
        Ok(text.to_owned())
    }

    fn tensor(&mut self) -> Result<Described, GgufError> {
        let name = self.string(NAME_BYTES_MAX, "a tensor name")?;
        let count = within(
            "the number of dimensions",
            self.u32("a tensor")?.into(),
            DIMENSIONS_MAX,
        )?;
        let shape = (0..count)
            .map(|_| self.u64("a tensor"))
            .collect::<Result<_, _>>()?;
        Ok(Described {
            name,
            shape,
            kind: self.u32("a tensor")?,
            offset: self.u64("a tensor")?,
        })
    }

    /// Reads a value; `None` for an array of arrays, which nothing here needs.
    fn value(&mut self) -> Result<Option<Value>, GgufError> {
        let kind = self.u32("a metadata value")?;
        if kind == 9 {
            self.array_value()
        } else {
            self.scalar(kind).map(Some)
        }
    }

    fn scalar(&mut self, kind: u32) -> Result<Value, GgufError> {
        const WHAT: &str = "a metadata value";
        Ok(match kind {
            0 => Value::Integer(u8::from_le_bytes(self.array(WHAT)?).into()),
            1 => Value::Integer(i8::from_le_bytes(self.array(WHAT)?).into()),
            2 => Value::Integer(u16::from_le_bytes(self.array(WHAT)?).into()),
            3 => Value::Integer(i16::from_le_bytes(self.array(WHAT)?).into()),
            4 => Value::Integer(u32::from_le_bytes(self.array(WHAT)?).into()),
            5 => Value::Integer(i32::from_le_bytes(self.array(WHAT)?).into()),
            6 => Value::Float(f32::from_le_bytes(self.array(WHAT)?).into()),
            7 => Value::Bool(u8::from_le_bytes(self.array(WHAT)?) != 0),
            8 => Value::String(self.string(STRING_BYTES_MAX, WHAT)?),
            10 => Value::Integer(i64::try_from(self.u64(WHAT)?).unwrap_or(i64::MAX)),
            11 => Value::Integer(i64::from_le_bytes(self.array(WHAT)?)),
            12 => Value::Float(f64::from_le_bytes(self.array(WHAT)?)),
            other => {
                return Err(GgufError::Malformed(format!(
                    "metadata type {other} does not exist"
                )));
            }
        })
    }

    fn array_value(&mut self) -> Result<Option<Value>, GgufError> {
        let kind = self.u32("an array")?;
        let length = within(
            "the length of an array",
            self.u64("an array")?,
            ARRAY_LENGTH_MAX,
        )?;
        // Elements are at least a byte each, so a length beyond the file is a lie that must not be allocated.
        if ((self.data.len() - self.position) as u64) < length {
            return Err(GgufError::Truncated("an array"));
        }
        match kind {
            8 => self
                .elements(length, kind, |value| match value {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .map(|strings| Some(Value::Strings(strings))),
            6 | 12 => self
                .elements(length, kind, |value| match value {
                    Value::Float(number) => Some(number as f32),
                    _ => None,
                })
                .map(|numbers| Some(Value::Floats(numbers))),
            9 => Err(GgufError::Malformed(
                "nested arrays are not supported".to_owned(),
            )),
            _ => self
                .elements(length, kind, |value| match value {
                    Value::Integer(number) => Some(number),
                    Value::Bool(truth) => Some(truth.into()),
                    _ => None,
                })
                .map(|numbers| Some(Value::Integers(numbers))),
        }
    }

    fn elements<T>(
        &mut self,
        length: u64,
        kind: u32,
        convert: impl Fn(Value) -> Option<T>,
    ) -> Result<Vec<T>, GgufError> {
        let mut elements = Vec::new();
        for _ in 0..length {
            elements.extend(convert(self.scalar(kind)?));
        }
        Ok(elements)
    }
}
