//! A model's weights: matrices in place in the mapped file, small vectors as numbers.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use thiserror::Error;

use crate::chat::{ChatTemplate, InvalidChat};
use crate::config::ModelConfig;
use crate::gguf::{GgufError, GgufFile, TensorInfo};
use crate::quant::{TensorKind, dequantize};
use crate::tokenizer::{Tokenizer, UnsupportedTokenizer};

/// Why a file does not become a model.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is not readable as GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The architecture is unknown.
    #[error("architecture {architecture:?} is not supported; llama, qwen2, qwen3 and gemma3 are")]
    UnsupportedArchitecture {
        /// Its name in the file.
        architecture: String,
    },
    /// The model needs something that we do not compute.
    #[error("the model uses {0}, which is not supported")]
    UnsupportedFeature(String),
    /// The tokenizer is of a type we do not have.
    #[error(transparent)]
    Tokenizer(#[from] UnsupportedTokenizer),
    /// The chat template does not parse.
    #[error(transparent)]
    Template(#[from] InvalidChat),
    /// The file contradicts itself or lacks something.
    #[error("the weights are inconsistent: {0}")]
    Inconsistent(String),
}

impl LoadError {
    /// Whether the file is sound and merely not for this engine.
    pub const fn is_unsupported(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedArchitecture { .. }
                | Self::UnsupportedFeature(_)
                | Self::Tokenizer(_)
                | Self::Gguf(GgufError::UnsupportedKind { .. } | GgufError::UnsupportedVersion(_))
        )
    }
}

/// A matrix in the mapped file, a row for each output.
#[derive(Debug, Clone)]
pub(crate) struct Matrix {
    data: Arc<Mmap>,
    kind: TensorKind,
    bytes: Range<usize>,
    rows: usize,
    columns: usize,
}

impl Matrix {
    pub(crate) const fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) const fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) const fn kind(&self) -> TensorKind {
        self.kind
    }

    /// The bytes of some rows.
    pub(crate) fn row_bytes(&self, rows: Range<usize>) -> &[u8] {
        let row = self.kind.row_bytes(self.columns);
        &self.data[self.bytes.start + rows.start * row..self.bytes.start + rows.end * row]
    }
}

/// A matrix and what is added to its product.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) matrix: Matrix,
    pub(crate) bias: Option<Vec<f32>>,
}

/// The weights of one layer; what an architecture does not have is `None`.
#[derive(Debug)]
pub(crate) struct Layer {
    pub(crate) attention_norm: Vec<f32>,
    pub(crate) query: Linear,
    pub(crate) key: Linear,
    pub(crate) value: Linear,
    pub(crate) query_norm: Option<Vec<f32>>,
    pub(crate) key_norm: Option<Vec<f32>>,
    pub(crate) attention_output: Linear,
    pub(crate) attention_post_norm: Option<Vec<f32>>,
    pub(crate) feed_forward_norm: Vec<f32>,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
    pub(crate) feed_forward_post_norm: Option<Vec<f32>>,
}

/// A model: its shape and its weights.
#[derive(Debug)]
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) embedding: Matrix,
    pub(crate) layers: Vec<Layer>,
    pub(crate) output_norm: Vec<f32>,
    pub(crate) output: Linear,
    /// Divides the frequencies of rotary positions, where the file says so (Llama 3.1 and later).
    pub(crate) rope_divisors: Option<Vec<f32>>,
}

impl Model {
    /// The shape.
    pub const fn config(&self) -> &ModelConfig {
        &self.config
    }
}

/// Everything that a model file holds.
#[derive(Debug)]
pub struct Loaded {
    /// The weights.
    pub model: Model,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template, if the file has one.
    pub template: Option<ChatTemplate>,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// The number of parameters.
    pub parameters: u64,
}

impl Loaded {
    /// Loads a model file. Matrices stay in the file and are read when they are used.
    ///
    /// # Errors
    /// [`LoadError`] says whether the file is broken or merely unsupported.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        let file = GgufFile::open(path)?;
        if file.integer("split.count").is_some_and(|count| 1 < count) {
            return Err(LoadError::UnsupportedFeature(
                "weights split over several files".to_owned(),
            ));
        }
        let tokenizer = Tokenizer::read(&file)?;
        let model = Model::read(&file, tokenizer.vocabulary())?;
        let template = file
            .string("tokenizer.chat_template")
            .map(ChatTemplate::new)
            .transpose()?;
        Ok(Self {
            model,
            tokenizer,
            template,
            file_bytes: file.size(),
            parameters: file.parameters(),
        })
    }
}

impl Model {
    fn read(file: &GgufFile, vocabulary: usize) -> Result<Self, LoadError> {
        let config = ModelConfig::read(file, vocabulary)?;
        let tensors = Tensors { file };
        let embedding = tensors.matrix("token_embd.weight", config.vocabulary, config.width)?;
        let output = if file.tensors().contains_key("output.weight") {
            tensors.linear("output", config.vocabulary, config.width)?
        } else {
            Linear {
                matrix: embedding.clone(),
                bias: None,
            }
        };
        let layers = (0..config.layers)
            .map(|index| Layer::read(&tensors, &config, index))
            .collect::<Result<_, _>>()?;
        let output_norm = tensors.vector("output_norm.weight", config.width)?;
        let rope_divisors = tensors.optional_vector("rope_freqs.weight", config.rope_width / 2)?;
        Ok(Self {
            embedding,
            layers,
            output_norm,
            output,
            rope_divisors,
            config,
        })
    }
}

impl Layer {
    fn read(tensors: &Tensors<'_>, config: &ModelConfig, index: usize) -> Result<Self, LoadError> {
        let name = |part: &str| format!("blk.{index}.{part}");
        let norm =
            |part: &str, width: usize| tensors.vector(&name(&format!("{part}.weight")), width);
        let optional_norm = |part: &str, width: usize| {
            tensors.optional_vector(&name(&format!("{part}.weight")), width)
        };
        let linear =
            |part: &str, rows: usize, columns: usize| tensors.linear(&name(part), rows, columns);
        let (width, inner) = (config.width, config.feed_forward_width);
        let (queries, keys) = (config.query_width(), config.key_value_width());
        Ok(Self {
            attention_norm: norm("attn_norm", width)?,
            query: linear("attn_q", queries, width)?,
            key: linear("attn_k", keys, width)?,
            value: linear("attn_v", keys, width)?,
            query_norm: optional_norm("attn_q_norm", config.head_width)?,
            key_norm: optional_norm("attn_k_norm", config.head_width)?,
            attention_output: linear("attn_output", width, queries)?,
            attention_post_norm: optional_norm("post_attention_norm", width)?,
            feed_forward_norm: norm("ffn_norm", width)?,
            gate: linear("ffn_gate", inner, width)?,
            up: linear("ffn_up", inner, width)?,
            down: linear("ffn_down", width, inner)?,
            feed_forward_post_norm: optional_norm("post_ffw_norm", width)?,
        })
    }
}

/// Tensors by name, with the shape that they must have.
struct Tensors<'a> {
    file: &'a GgufFile,
}

impl Tensors<'_> {
    fn info(&self, name: &str) -> Result<&TensorInfo, LoadError> {
        self.file
            .tensors()
            .get(name)
            .ok_or_else(|| LoadError::Inconsistent(format!("tensor {name} is missing")))
    }

    fn matrix(&self, name: &str, rows: usize, columns: usize) -> Result<Matrix, LoadError> {
        let info = self.info(name)?;
        if info.shape != [columns, rows] {
            let shape = &info.shape;
            return Err(LoadError::Inconsistent(format!(
                "tensor {name} is {shape:?}, not {:?}",
                [columns, rows]
            )));
        }
        let bytes = info.offset..info.offset + info.bytes;
        Ok(Matrix {
            data: Arc::clone(self.file.data()),
            kind: info.kind,
            bytes,
            rows,
            columns,
        })
    }

    fn linear(&self, name: &str, rows: usize, columns: usize) -> Result<Linear, LoadError> {
        let matrix = self.matrix(&format!("{name}.weight"), rows, columns)?;
        Ok(Linear {
            matrix,
            bias: self.optional_vector(&format!("{name}.bias"), rows)?,
        })
    }

    fn vector(&self, name: &str, length: usize) -> Result<Vec<f32>, LoadError> {
        let info = self.info(name)?;
        if info.shape != [length] {
            let shape = &info.shape;
            return Err(LoadError::Inconsistent(format!(
                "tensor {name} is {shape:?}, not {:?}",
                [length]
            )));
        }
        let mut values = vec![0.0; length];
        dequantize(
            info.kind,
            &self.file.data()[info.offset..info.offset + info.bytes],
            &mut values,
        );
        Ok(values)
    }

    fn optional_vector(&self, name: &str, length: usize) -> Result<Option<Vec<f32>>, LoadError> {
        if self.file.tensors().contains_key(name) {
            self.vector(name, length).map(Some)
        } else {
            Ok(None)
        }
    }
}
