//! `POST /v1/embeddings`: texts in, vectors out.

use serde::{Deserialize, Serialize};

use super::Prompt;

/// A request for embeddings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingRequest {
    /// The model's name.
    pub model: String,
    /// What to embed.
    pub input: Prompt,
    /// How vectors are written; numbers by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_format: Option<EmbeddingFormat>,
    /// Numbers of each vector; all by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

/// How vectors are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbeddingFormat {
    /// A list of numbers.
    #[default]
    Float,
    /// Little-endian single-precision numbers in base64.
    Base64,
}

/// The answer: a vector for each input, in order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingList {
    /// Always `list`.
    pub object: String,
    /// The vectors.
    pub data: Vec<Embedding>,
    /// The model that made them.
    pub model: String,
    /// Tokens used.
    pub usage: EmbeddingUsage,
}

/// One vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// Always `embedding`.
    pub object: String,
    /// The place of its input.
    pub index: u32,
    /// The vector.
    pub embedding: EmbeddingVector,
}

/// A vector in either format.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EmbeddingVector {
    /// A list of numbers.
    Float(Vec<f32>),
    /// Base64.
    Base64(String),
}

/// Tokens that embeddings used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingUsage {
    /// Tokens of all inputs.
    pub prompt_tokens: u64,
    /// The same: nothing is generated.
    pub total_tokens: u64,
}
