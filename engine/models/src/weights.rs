//! A model's weights: matrices in place in the mapped file, small vectors as numbers.

mod names;
mod tensors;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use thiserror::Error;

use crate::chat::{ChatTemplate, InvalidChat};
use crate::config::ModelConfig;
use crate::encoder::LoadedEncoder;
use crate::files::{self, FileError};
use crate::gguf::{GgufError, GgufFile};
use crate::quant::TensorKind;
use crate::safetensors::{self, SafetensorsError};
use crate::tokenizer::{Tokenizer, UnsupportedTokenizer};

use names::Names;
pub(crate) use tensors::{Place, Tensors};

/// What a folder's `config.json` may be long.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
const CONFIG: &str = "config.json";

/// Why a file does not become a model.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The file is not readable as GGUF.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// The safetensors files are not readable.
    #[error(transparent)]
    Safetensors(#[from] SafetensorsError),
    /// A file beside the weights is not readable.
    #[error(transparent)]
    File(#[from] FileError),
    /// The architecture is unknown.
    #[error(
        "architecture {architecture:?} is not supported; llama, mistral, qwen2, qwen3, gemma3, smollm3 and bert are"
    )]
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
        match self {
            Self::UnsupportedArchitecture { .. } | Self::UnsupportedFeature(_) => true,
            Self::Tokenizer(error) => error.is_unsupported(),
            Self::Gguf(error) => matches!(
                error,
                GgufError::UnsupportedKind { .. } | GgufError::UnsupportedVersion(_)
            ),
            Self::Safetensors(_) | Self::File(_) | Self::Template(_) | Self::Inconsistent(_) => {
                false
            }
        }
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

    /// Gives the memory of the file's pages back to the system, where it can be: they are read again when they are
    /// used.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        #[expect(unsafe_code, reason = "the system reads the pages again")]
        // SAFETY: matrices lie in files that are mapped for reading, so no written page is lost. A system that refuses
        // keeps the pages.
        drop(unsafe {
            let (start, length) = (self.bytes.start, self.bytes.len());
            self.data
                .unchecked_advise_range(UncheckedAdvice::DontNeed, start, length)
        });
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
    /// The size of the weights in bytes.
    pub file_bytes: u64,
    /// The number of parameters.
    pub parameters: u64,
}

/// A model that was opened, of either kind.
#[derive(Debug)]
pub enum Opened {
    /// It continues texts.
    Generative(Box<Loaded>),
    /// It turns texts into vectors.
    Encoder(Box<LoadedEncoder>),
}

/// Opens a GGUF file, or a folder of either kind.
///
/// # Errors
/// [`LoadError`] says whether the file is broken or merely unsupported.
pub fn open(path: &Path) -> Result<Opened, LoadError> {
    let is_encoder = path.is_dir() && {
        let json = files::read_json(&path.join(CONFIG), CONFIG_BYTES_MAX)?;
        json["model_type"] == "bert"
    };
    if is_encoder {
        LoadedEncoder::open(path).map(|loaded| Opened::Encoder(Box::new(loaded)))
    } else {
        Loaded::open(path).map(|loaded| Opened::Generative(Box::new(loaded)))
    }
}

impl Loaded {
    /// Loads a GGUF file, or a folder with `config.json`, `tokenizer.json` and safetensors files. Matrices stay in
    /// the files and are read when they are used.
    ///
    /// # Errors
    /// [`LoadError`] says whether the file is broken or merely unsupported.
    pub fn open(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            Self::open_folder(path)
        } else {
            Self::open_gguf(path)
        }
    }

    fn open_gguf(path: &Path) -> Result<Self, LoadError> {
        let file = GgufFile::open(path)?;
        if file.integer("split.count").is_some_and(|count| 1 < count) {
            return Err(LoadError::UnsupportedFeature(
                "weights split over several files".to_owned(),
            ));
        }
        let tokenizer = Tokenizer::read(&file)?;
        let config = ModelConfig::read(&file, tokenizer.vocabulary())?;
        let tensors = Tensors::of_gguf(&file);
        let model = Model::read(&tensors, &Names::gguf(), config)?;
        let template = file
            .string("tokenizer.chat_template")
            .map(ChatTemplate::new)
            .transpose()?;
        Ok(Self {
            model,
            tokenizer,
            template,
            file_bytes: file.size(),
            parameters: tensors.parameters(),
        })
    }

    fn open_folder(folder: &Path) -> Result<Self, LoadError> {
        let (model, tensors) = Model::open_folder(folder)?;
        let (tokenizer, template) = Tokenizer::open_folder(folder, model.config.vocabulary)?;
        Ok(Self {
            model,
            tokenizer,
            template: template.as_deref().map(ChatTemplate::new).transpose()?,
            file_bytes: tensors.file_bytes,
            parameters: tensors.parameters(),
        })
    }
}

impl Model {
    /// Reads `config.json` and the safetensors files of a folder.
    pub(crate) fn open_folder(folder: &Path) -> Result<(Self, Tensors), LoadError> {
        let json = files::read_json(&folder.join(CONFIG), CONFIG_BYTES_MAX)?;
        let config = ModelConfig::from_json(&json)?;
        let tensors = safetensors::open_folder(folder)?;
        let mut names = Names::safetensors(config.architecture == "gemma3", |name| {
            tensors.contains(name)
        });
        // Where the configuration ties the output to the embedding, a matrix in the file is a leftover.
        if json["tie_word_embeddings"].as_bool() == Some(true) {
            names.output.clone_from(&names.embedding);
        }
        let model = Self::read(&tensors, &names, config)?;
        Ok((model, tensors))
    }

    fn read(tensors: &Tensors, names: &Names, config: ModelConfig) -> Result<Self, LoadError> {
        let embedding = names.embedding.as_str();
        let embedding = tensors.matrix(
            &format!("{embedding}.weight"),
            config.vocabulary,
            config.width,
        )?;
        let output = if tensors.contains(&format!("{}.weight", names.output)) {
            tensors.linear(&names.output, config.vocabulary, config.width)?
        } else {
            Linear {
                matrix: embedding.clone(),
                bias: None,
            }
        };
        let reader = LayerReader {
            tensors,
            names,
            config: &config,
        };
        let layers = (0..config.layers)
            .map(|index| reader.layer(index))
            .collect::<Result<_, _>>()?;
        let output_norm = reader.norm(&names.output_norm, config.width)?;
        let rope_divisors = tensors.optional_vector("rope_freqs.weight", config.rope_width / 2)?;
        Ok(Self {
            embedding,
            layers,
            output_norm,
            output,
            rope_divisors: rope_divisors.or_else(|| config.rope_divisors.clone()),
            config,
        })
    }
}

struct LayerReader<'a> {
    tensors: &'a Tensors,
    names: &'a Names,
    config: &'a ModelConfig,
}

impl LayerReader<'_> {
    fn layer(&self, index: usize) -> Result<Layer, LoadError> {
        let config = self.config;
        let Names { parts, layers, .. } = self.names;
        let name = |part: &str| format!("{layers}{index}.{part}");
        let optional_norm = |part: Option<&str>, width: usize| match part.map(name) {
            Some(name) if self.tensors.contains(&format!("{name}.weight")) => {
                self.norm(&name, width).map(Some)
            }
            _ => Ok(None),
        };
        let linear = |part: &str, rows: usize, columns: usize| {
            self.tensors.linear(&name(part), rows, columns)
        };
        let (width, inner) = (config.width, config.feed_forward_width);
        let (queries, keys) = (config.query_width(), config.key_value_width());
        Ok(Layer {
            attention_norm: self.norm(&name(parts.attention_norm), width)?,
            query: linear(parts.query, queries, width)?,
            key: linear(parts.key, keys, width)?,
            value: linear(parts.value, keys, width)?,
            query_norm: optional_norm(Some(parts.query_norm), config.head_width)?,
            key_norm: optional_norm(Some(parts.key_norm), config.head_width)?,
            attention_output: linear(parts.attention_output, width, queries)?,
            attention_post_norm: optional_norm(parts.attention_post_norm, width)?,
            feed_forward_norm: self.norm(&name(parts.feed_forward_norm), width)?,
            gate: linear(parts.gate, inner, width)?,
            up: linear(parts.up, inner, width)?,
            down: linear(parts.down, width, inner)?,
            feed_forward_post_norm: optional_norm(parts.feed_forward_post_norm, width)?,
        })
    }

    fn norm(&self, name: &str, width: usize) -> Result<Vec<f32>, LoadError> {
        let mut norm = self.tensors.vector(&format!("{name}.weight"), width)?;
        norm.iter_mut()
            .for_each(|weight| *weight += self.names.norm_offset);
        Ok(norm)
    }
}
