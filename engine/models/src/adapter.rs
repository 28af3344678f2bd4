//! Adapters (LoRA): low-rank changes of a model's matrices, chosen for each sequence.
//!
//! Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (2021).

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
