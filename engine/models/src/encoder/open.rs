//! Loads an encoder out of a folder as sentence-transformers writes it.

use std::num::NonZeroUsize;
use std::path::{Component, Path};

use serde_json::Value;

use crate::files;
use crate::safetensors;
use crate::tokenizer::Tokenizer;
use crate::weights::{LoadError, Tensors};

use super::forward::{EncoderLayer, EncoderWeights, LayerNorm};
use super::product::Dense;
use super::{Activation, Encoder, EncoderConfig, LoadedEncoder, Pooling};

const WORDS: &str = "embeddings.word_embeddings.weight";
const PLACES: &str = "embeddings.position_embeddings.weight";
const SEGMENTS: &str = "embeddings.token_type_embeddings.weight";

const SMALL_BYTES_MAX: u64 = 1 << 20;
const LAYERS_MAX: usize = 256;
const WIDTH_MAX: usize = 1 << 14;
const LENGTH_MAX: usize = 1 << 16;
const VOCABULARY_MAX: usize = 1 << 22;

impl LoadedEncoder {
    /// Loads a folder with `config.json`, `tokenizer.json`, safetensors files and, if it has them, the descriptions
    /// of sentence-transformers. Without these, vectors are means of length 1.
    ///
    /// # Errors
    /// [`LoadError`] says whether the files are broken or merely unsupported.
    pub fn open(folder: &Path) -> Result<Self, LoadError> {
        let json = files::read_json(&folder.join("config.json"), SMALL_BYTES_MAX)?;
        let mut config = EncoderConfig::from_json(&json)?;
        config.describe(folder)?;
        let tensors = safetensors::open_folder(folder)?;
        let weights = EncoderWeights::read(&tensors, &mut config)?;
        let (tokenizer, _) = Tokenizer::open_folder(folder, config.vocabulary)?;
        Ok(Self {
            encoder: Encoder {
                config,
                weights,
                threads: NonZeroUsize::MIN,
            },
            tokenizer,
            file_bytes: tensors.file_bytes,
            parameters: tensors.parameters(),
        })
    }
}

impl EncoderConfig {
    fn from_json(json: &Value) -> Result<Self, LoadError> {
        let size = |name: &str, limit: usize| match json[name].as_u64() {
            Some(size) if 0 < size && size <= limit as u64 => Ok(size as usize),
            _ => Err(LoadError::Inconsistent(format!(
                "{name} is missing, or not 1 to {limit}"
            ))),
        };
        let unsupported = |what: String| Err(LoadError::UnsupportedFeature(what));
        let architecture = json["model_type"].as_str().unwrap_or_default().to_owned();
        if architecture != "bert" {
            return Err(LoadError::UnsupportedArchitecture { architecture });
        }
        let places = json["position_embedding_type"]
            .as_str()
            .unwrap_or("absolute");
        if places != "absolute" {
            return unsupported(format!("positions of type {places}"));
        }
        let activation = match json["hidden_act"].as_str().unwrap_or("gelu") {
            "gelu" => Activation::Exact,
            "gelu_new" | "gelu_pytorch_tanh" => Activation::Tanh,
            other => return unsupported(format!("the activation {other}")),
        };
        let config = Self {
            architecture,
            layers: size("num_hidden_layers", LAYERS_MAX)?,
            width: size("hidden_size", WIDTH_MAX)?,
            feed_forward_width: size("intermediate_size", WIDTH_MAX * 8)?,
            heads: size("num_attention_heads", WIDTH_MAX)?,
            vocabulary: size("vocab_size", VOCABULARY_MAX)?,
            length_max: size("max_position_embeddings", LENGTH_MAX)?,
            pooling: Pooling::Mean,
            normalizes: true,
            norm_epsilon: json["layer_norm_eps"].as_f64().unwrap_or(1e-12) as f32,
            activation,
        };
        if !config.width.is_multiple_of(config.heads) {
            return Err(LoadError::Inconsistent(
                "the heads do not share the width evenly".to_owned(),
            ));
        }
        Ok(config)
    }

    /// Reads what sentence-transformers adds: the length, the pooling, the normalization.
    fn describe(&mut self, folder: &Path) -> Result<(), LoadError> {
        let sentence = folder.join("sentence_bert_config.json");
        let sentence = files::read_optional_json(&sentence, SMALL_BYTES_MAX)?.unwrap_or_default();
        if let Some(length) = sentence["max_seq_length"]
            .as_u64()
            .filter(|length| 2 < *length)
        {
            self.length_max = self
                .length_max
                .min(usize::try_from(length).unwrap_or(usize::MAX));
        }
        let modules = files::read_optional_json(&folder.join("modules.json"), SMALL_BYTES_MAX)?;
        let Some(modules) = modules else {
            return Ok(());
        };
        self.normalizes = false;
        for module in modules.as_array().into_iter().flatten() {
            let kind = module["type"].as_str().unwrap_or_default();
            match kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Normalize" => self.normalizes = true,
                "Pooling" => {
                    let path = Path::new(module["path"].as_str().unwrap_or_default());
                    let is_inside = path
                        .components()
                        .all(|part| matches!(part, Component::Normal(_)));
                    if !is_inside {
                        return Err(LoadError::Inconsistent(
                            "a module lies outside its folder".to_owned(),
                        ));
                    }
                    let path = folder.join(path).join("config.json");
                    self.pooling = pooling(&files::read_json(&path, SMALL_BYTES_MAX)?)?;
                }
                _ => {
                    return Err(LoadError::UnsupportedFeature(format!(
                        "the module {kind:?}"
                    )));
                }
            }
        }
        Ok(())
    }
}

fn pooling(json: &Value) -> Result<Pooling, LoadError> {
    let modes: Vec<&str> = json
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, value)| name.starts_with("pooling_mode_") && value.as_bool() == Some(true))
        .map(|(name, _)| name.as_str())
        .collect();
    match (modes.as_slice(), json["pooling_mode"].as_str()) {
        (["pooling_mode_mean_tokens"], _) | ([], Some("mean")) => Ok(Pooling::Mean),
        (["pooling_mode_cls_token"], _) | ([], Some("cls")) => Ok(Pooling::First),
        _ => Err(LoadError::UnsupportedFeature(
            "pooling by something else than the mean or the first token".to_owned(),
        )),
    }
}

impl EncoderWeights {
    fn read(tensors: &Tensors, config: &mut EncoderConfig) -> Result<Self, LoadError> {
        let prefix = ["", "bert.", "model."]
            .into_iter()
            .find(|prefix| tensors.contains(&format!("{prefix}{WORDS}")))
            .unwrap_or_default();
        let reader = Reader { tensors, prefix };
        let width = config.width;
        let name = format!("{prefix}{PLACES}");
        let rows = tensors
            .shape(&name)
            .and_then(|shape| shape.first().copied());
        let rows =
            rows.ok_or_else(|| LoadError::Inconsistent(format!("tensor {name} is missing")))?;
        config.length_max = config.length_max.min(rows);
        let mut places = reader.numbers(PLACES, &[rows, width])?;
        if let Some(shape) = tensors.shape(&format!("{prefix}{SEGMENTS}")) {
            let segments =
                reader.numbers(SEGMENTS, &[shape.first().copied().unwrap_or(0), width])?;
            for place in places.chunks_exact_mut(width) {
                for (place, segment) in place.iter_mut().zip(&segments) {
                    *place += segment;
                }
            }
        }
        let layers = (0..config.layers).map(|index| reader.layer(config, index));
        Ok(Self {
            words: reader.numbers(WORDS, &[config.vocabulary, width])?,
            places,
            norm: reader.norm("embeddings.LayerNorm", width)?,
            layers: layers.collect::<Result<_, _>>()?,
        })
    }
}

struct Reader<'a> {
    tensors: &'a Tensors,
    prefix: &'a str,
}

impl Reader<'_> {
    fn numbers(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, LoadError> {
        self.tensors
            .numbers(&format!("{}{name}", self.prefix), shape)
    }

    fn dense(&self, name: &str, rows: usize, columns: usize) -> Result<Dense, LoadError> {
        let weights = self.numbers(&format!("{name}.weight"), &[rows, columns])?;
        let bias = self.numbers(&format!("{name}.bias"), &[rows])?;
        Ok(Dense::new(&weights, bias, columns))
    }

    fn norm(&self, name: &str, width: usize) -> Result<LayerNorm, LoadError> {
        Ok(LayerNorm {
            weight: self.numbers(&format!("{name}.weight"), &[width])?,
            bias: self.numbers(&format!("{name}.bias"), &[width])?,
        })
    }

    fn layer(&self, config: &EncoderConfig, index: usize) -> Result<EncoderLayer, LoadError> {
        let (width, inner) = (config.width, config.feed_forward_width);
        let name = |part: &str| format!("encoder.layer.{index}.{part}");
        Ok(EncoderLayer {
            query: self.dense(&name("attention.self.query"), width, width)?,
            key: self.dense(&name("attention.self.key"), width, width)?,
            value: self.dense(&name("attention.self.value"), width, width)?,
            attention_output: self.dense(&name("attention.output.dense"), width, width)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"), width)?,
            up: self.dense(&name("intermediate.dense"), inner, width)?,
            down: self.dense(&name("output.dense"), width, inner)?,
            norm: self.norm(&name("output.LayerNorm"), width)?,
        })
    }
}
