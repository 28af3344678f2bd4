//! GGUF files: metadata and tensors, checked once and then read in place from memory-mapped pages.
//!
//! Source: the GGUF specification, versions 2 and 3 (little endian). Every length in the file is compared with what
//! is left of the file before anything is allocated.

mod reader;
#[cfg(test)]
mod tests;
pub(crate) mod writer;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use thiserror::Error;

use crate::quant::TensorKind;

/// Why a file cannot be read as GGUF.
#[derive(Debug, Error)]
pub enum GgufError {
    /// The file cannot be opened or mapped.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file does not start with the magic number.
    #[error("the file is not GGUF")]
    NotGguf,
    /// The version is not one we know.
    #[error("GGUF version {0} is not supported, 2 and 3 are")]
    UnsupportedVersion(u32),
    /// The file ends before what it promises.
    #[error("the file ends in the middle of {0}")]
    Truncated(&'static str),
    /// A number in the file is out of bounds.
    #[error("{what} is {value}, at most {limit} is allowed")]
    OverLimit {
        /// What is out of bounds.
        what: &'static str,
        /// The file's number.
        value: u64,
        /// Our limit.
        limit: u64,
    },
    /// Something in the file contradicts itself.
    #[error("{0}")]
    Malformed(String),
    /// A tensor has a type that we do not compute with.
    #[error("tensor {name} has type {kind}, which is not supported")]
    UnsupportedKind {
        /// The tensor.
        name: String,
        /// The type's number in ggml.
        kind: u32,
    },
}

/// A metadata value; numbers are widened, arrays are of one type and not nested.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Any integer that is not negative or signed.
    Integer(i64),
    /// A floating-point number.
    Float(f64),
    /// A truth value.
    Bool(bool),
    /// A string.
    String(String),
    /// An array of integers or truth values.
    Integers(Vec<i64>),
    /// An array of floating-point numbers.
    Floats(Vec<f32>),
    /// An array of strings.
    Strings(Vec<String>),
}

/// Where a tensor lies and what it looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub kind: TensorKind,
    /// Its dimensions, the one that varies fastest first; at least one.
    pub shape: Vec<usize>,
    /// Its first byte in the file.
    pub offset: usize,
    /// Its size in bytes.
    pub bytes: usize,
}

impl TensorInfo {
    /// The numbers it holds.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// A checked file.
///
/// Invariant: each tensor's bytes lie within the file and are whole blocks of its kind.
#[derive(Debug, Clone)]
pub struct GgufFile {
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorInfo>,
    data: Arc<Mmap>,
}

impl GgufFile {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// [`GgufError`] if the file cannot be read or is not what it should be.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let unreadable = |source| GgufError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(unreadable)?;
        #[expect(unsafe_code, reason = "mapping a file is the point")]
        // SAFETY: weight files in the cache are complete and never written in place: they are renamed into it.
        // JUSTIFICATION: the weights stay in the page cache, shared by all engines of a machine.
        let data = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let (metadata, tensors) = reader::read(&data)?;
        Ok(Self {
            metadata,
            tensors,
            data: Arc::new(data),
        })
    }

    /// A metadata value.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// An integer of the metadata; a float without a fraction counts.
    pub fn integer(&self, key: &str) -> Option<i64> {
        match self.value(key)? {
            Value::Integer(number) => Some(*number),
            Value::Integers(numbers) => numbers.first().copied(),
            Value::Float(number) if number.fract() == 0.0 => Some(*number as i64),
            Value::Float(_)
            | Value::Bool(_)
            | Value::String(_)
            | Value::Floats(_)
            | Value::Strings(_) => None,
        }
    }

    /// A number of the metadata.
    pub fn float(&self, key: &str) -> Option<f32> {
        match self.value(key)? {
            Value::Float(number) => Some(*number as f32),
            Value::Integer(number) => Some(*number as f32),
            Value::Bool(_)
            | Value::String(_)
            | Value::Integers(_)
            | Value::Floats(_)
            | Value::Strings(_) => None,
        }
    }

    /// A truth value of the metadata.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match self.value(key)? {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// A string of the metadata.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.value(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// An array of strings of the metadata.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.value(key)? {
            Value::Strings(strings) => Some(strings),
            _ => None,
        }
    }

    /// An array of integers of the metadata.
    pub fn integers(&self, key: &str) -> Option<&[i64]> {
        match self.value(key)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// An array of numbers of the metadata.
    pub fn floats(&self, key: &str) -> Option<&[f32]> {
        match self.value(key)? {
            Value::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// All tensors by name.
    pub const fn tensors(&self) -> &HashMap<String, TensorInfo> {
        &self.tensors
    }

    /// The file's bytes.
    pub(crate) const fn data(&self) -> &Arc<Mmap> {
        &self.data
    }

    /// The size of the file in bytes.
    pub fn size(&self) -> u64 {
        self.data.len() as u64
    }

    /// The numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        self.tensors
            .values()
            .map(|tensor| tensor.elements() as u64)
            .sum()
    }
}
