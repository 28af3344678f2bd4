//! Adapters (LoRA): low-rank changes of a model's matrices, chosen for each sequence.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).

mod open;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use thiserror::Error;

use crate::files::FileError;
use crate::safetensors::SafetensorsError;
use crate::weights::LoadError;

pub(crate) use open::{is_interleaved, parts, separate};

/// Why a folder does not become an adapter.
#[derive(Debug, Error)]
pub enum AdapterError {
    /// A file is not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The weights are not readable.
    #[error(transparent)]
    Weights(#[from] SafetensorsError),
    /// A tensor has a shape or a type that it must not have.
    #[error(transparent)]
    Tensor(#[from] LoadError),
    /// The adapter needs something that we do not compute.
    #[error("the adapter uses {0}, which is not supported")]
    UnsupportedFeature(String),
    /// The adapter changes something that the model does not have.
    #[error("the adapter in {} has {tensor}, which belongs to no part of this model", folder.display())]
    UnknownTensor {
        /// The adapter's folder.
        folder: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// The files contradict each other.
    #[error("the adapter is inconsistent: {0}")]
    Inconsistent(String),
}
/// A change of one matrix: the product gains `b · (a · input)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LowRank {
    /// rank × columns numbers, row by row.
    pub a: Vec<f32>,
    /// rows × rank numbers, row by row, with the adapter's scale in them.
    pub b: Vec<f32>,
    /// Rows of `a` and columns of `b`.
    pub rank: usize,
}

/// The changes of one layer; a matrix that the adapter leaves alone has none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AdapterLayer {
    /// Changes the queries' matrix.
    pub query: Option<LowRank>,
    /// Changes the keys' matrix.
    pub key: Option<LowRank>,
    /// Changes the values' matrix.
    pub value: Option<LowRank>,
    /// Changes the matrix behind the attention.
    pub attention_output: Option<LowRank>,
    /// Changes the gate of the feed-forward layer.
    pub gate: Option<LowRank>,
    /// Changes the matrix beside the gate.
    pub up: Option<LowRank>,
    /// Changes the matrix behind both.
    pub down: Option<LowRank>,
}

/// An adapter for a model with as many layers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Adapter {
    /// The changes, layer by layer.
    pub layers: Vec<AdapterLayer>,
}
