//! Safetensors files: a JSON header that names tensors, and their numbers, read in place from memory-mapped pages.
//!
//! The header is checked by the format's own crate: tensors lie one behind the other, fill the file exactly and have
//! the sizes that their shapes say. A model is one file, or several with an index.

#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, SafeTensorError};
use serde_json::Value;
use thiserror::Error;

use crate::files::{self, FileError};
use crate::quant::TensorKind;
use crate::weights::{Place, Tensors};

/// Bytes of a header, which is parsed in memory; real ones have a few hundred a tensor.
const HEADER_BYTES_MAX: u64 = 1 << 25;
const INDEX_BYTES_MAX: u64 = 1 << 25;
const FILES_MAX: usize = 1024;
const DIMENSIONS_MAX: usize = 8;
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Why a folder's safetensors files cannot be read.
#[derive(Debug, Error)]
pub enum SafetensorsError {
    /// A file cannot be read, or its JSON is broken.
    #[error(transparent)]
    File(#[from] FileError),
    /// A header is broken, or contradicts its file.
    #[error("the header of {} is broken: {message}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The index is not one.
    #[error("the index of the weights {0}")]
    Index(&'static str),
    /// Two files have a tensor of one name.
    #[error("tensor {0} occurs in two files")]
    Twice(String),
}

/// Maps the weights of a folder.
pub(crate) fn open_folder(folder: &Path) -> Result<Tensors, SafetensorsError> {
    let files = if folder.join(INDEX).exists() {
        indexed_files(folder)?
    } else {
        vec![folder.join(WHOLE)]
    };
    let (mut places, mut file_bytes) = (HashMap::new(), 0);
    for path in files {
        file_bytes += read_into(&path, &mut places)?;
    }
    Ok(Tensors::new(places, file_bytes))
}

/// Maps one file.
pub(crate) fn open_file(path: &Path) -> Result<Tensors, SafetensorsError> {
    let mut places = HashMap::new();
    let file_bytes = read_into(path, &mut places)?;
    Ok(Tensors::new(places, file_bytes))
}

/// The files that the index names; they lie beside it and nowhere else.
fn indexed_files(folder: &Path) -> Result<Vec<PathBuf>, SafetensorsError> {
    let index = files::read_json(&folder.join(INDEX), INDEX_BYTES_MAX)?;
    let map = index.get("weight_map").and_then(Value::as_object);
    let map = map.ok_or(SafetensorsError::Index("has no weight_map"))?;
    let mut names = BTreeSet::new();
    for name in map.values() {
        let name = name.as_str().filter(|name| is_plain(name));
        names.insert(name.ok_or(SafetensorsError::Index("names a file outside its folder"))?);
    }
    if names.is_empty() || FILES_MAX < names.len() {
        return Err(SafetensorsError::Index("names no files, or too many"));
    }
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0'])
}

/// Maps a file and adds its tensors; returns its size.
fn read_into(path: &Path, places: &mut HashMap<String, Place>) -> Result<u64, SafetensorsError> {
    let data = files::map(path)?;
    let broken = |message: String| SafetensorsError::Header {
        path: path.to_owned(),
        message,
    };
    let header_bytes = data.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
    if header_bytes.is_some_and(|bytes| HEADER_BYTES_MAX < bytes) {
        return Err(broken(format!(
            "it is longer than {HEADER_BYTES_MAX} bytes"
        )));
    }
    let (length, metadata) =
        SafeTensors::read_metadata(&data).map_err(|error| broken(explain(&error)))?;
    let start = size_of::<u64>() + length;
    let data: Arc<Mmap> = Arc::new(data);
    for (name, info) in metadata.tensors() {
        if DIMENSIONS_MAX < info.shape.len() {
            return Err(broken(format!("tensor {name} has too many dimensions")));
        }
        let place = Place {
            data: Arc::clone(&data),
            kind: kind(info.dtype),
            shape: info.shape.clone(),
            bytes: start + info.data_offsets.0..start + info.data_offsets.1,
        };
        if places.insert(name.clone(), place).is_some() {
            return Err(SafetensorsError::Twice(name));
        }
    }
    Ok(data.len() as u64)
}

/// The error without its sources, which its own text leaves out.
fn explain(error: &SafeTensorError) -> String {
    match error {
        SafeTensorError::InvalidHeader(cause) => format!("{error}: {cause}"),
        SafeTensorError::InvalidHeaderDeserialization(cause) => format!("{error}: {cause}"),
        other => other.to_string(),
    }
}

fn kind(dtype: Dtype) -> Result<TensorKind, String> {
    match dtype {
        Dtype::F32 => Ok(TensorKind::F32),
        Dtype::F16 => Ok(TensorKind::F16),
        Dtype::BF16 => Ok(TensorKind::BF16),
        other => Err(other.to_string()),
    }
}
