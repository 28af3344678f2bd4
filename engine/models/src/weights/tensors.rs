//! Tensors by name, whatever file they lie in, with the shape that they must have.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use memmap2::Mmap;

use crate::gguf::GgufFile;
use crate::quant::{TensorKind, dequantize};

use super::{Linear, LoadError, Matrix};

/// Where a tensor lies.
///
/// Invariant: the bytes lie within the file and are whole blocks of the kind, as many as the shape says.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) data: Arc<Mmap>,
    /// How its numbers are stored; the name of a type that we do not compute with.
    pub(crate) kind: Result<TensorKind, String>,
    /// Its dimensions, the one that varies fastest last.
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Range<usize>,
}

/// The tensors of a model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tensors {
    places: HashMap<String, Place>,
    /// Bytes of all files.
    pub(crate) file_bytes: u64,
}

impl Tensors {
    pub(crate) const fn new(places: HashMap<String, Place>, file_bytes: u64) -> Self {
        Self { places, file_bytes }
    }

    pub(crate) fn of_gguf(file: &GgufFile) -> Self {
        let place = |(name, info): (&String, &crate::TensorInfo)| {
            let place = Place {
                data: Arc::clone(file.data()),
                kind: Ok(info.kind),
                shape: info.shape.iter().rev().copied().collect(),
                bytes: info.offset..info.offset + info.bytes,
            };
            (name.clone(), place)
        };
        Self::new(file.tensors().iter().map(place).collect(), file.size())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.places.contains_key(name)
    }

    /// The dimensions of a tensor, the one that varies fastest last.
    pub(crate) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.places.get(name).map(|place| place.shape.as_slice())
    }

    /// The numbers in all tensors.
    pub(crate) fn parameters(&self) -> u64 {
        let elements = |place: &Place| {
            place
                .shape
                .iter()
                .map(|length| *length as u64)
                .product::<u64>()
        };
        self.places.values().map(elements).sum()
    }

    pub(crate) fn matrix(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Matrix, LoadError> {
        let (place, kind) = self.place(name, &[rows, columns])?;
        Ok(Matrix {
            data: Arc::clone(&place.data),
            kind,
            bytes: place.bytes.clone(),
            rows,
            columns,
        })
    }

    /// The matrix `name.weight` with the vector `name.bias`, if there is one.
    pub(crate) fn linear(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Linear, LoadError> {
        let matrix = self.matrix(&format!("{name}.weight"), rows, columns)?;
        Ok(Linear {
            matrix,
            bias: self.optional_vector(&format!("{name}.bias"), rows)?,
        })
    }

    pub(crate) fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        self.numbers(name, &[length])
    }

    pub(crate) fn optional_vector(
        &self,
        name: &str,
        length: usize,
    ) -> Result<Option<Vec<f32>>, LoadError> {
        if self.contains(name) {
            self.vector(name, length).map(Some)
        } else {
            Ok(None)
        }
    }

    /// All numbers of a tensor.
    pub(crate) fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        let (place, kind) = self.place(name, shape)?;
        // The shape is the file's own, so the file is as large as this memory, or an eighth.
        let mut values = vec![0.0; shape.iter().product()];
        dequantize(kind, &place.data[place.bytes.clone()], &mut values);
        Ok(values)
    }

    fn place(&self, name: &str, shape: &[usize]) -> Result<(&Place, TensorKind), LoadError> {
        let place = self
            .places
            .get(name)
            .ok_or_else(|| LoadError::Inconsistent(format!("tensor {name} is missing")))?;
        if place.shape != shape {
            let found = &place.shape;
            return Err(LoadError::Inconsistent(format!(
                "tensor {name} is {found:?}, not {shape:?}"
            )));
        }
        match &place.kind {
            Ok(kind) => Ok((place, *kind)),
            Err(kind) => Err(LoadError::UnsupportedFeature(format!(
                "numbers of type {kind} in tensor {name}"
            ))),
        }
    }
}
