//! Architectures as data: what distinguishes the models that one forward function computes.

use crate::gguf::GgufFile;
use crate::weights::LoadError;

const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 17;
const HEADS_MAX: usize = 1 << 10;
const CONTEXT_LENGTH_MAX: usize = 1 << 24;

/// The architectures' names in the files.
const LLAMA: &str = "llama";
const QWEN2: &str = "qwen2";
const QWEN3: &str = "qwen3";
const GEMMA3: &str = "gemma3";

/// Which numbers of a head rotate together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RopeStyle {
    /// Neighbours: 0 with 1, 2 with 3.
    Interleaved,
    /// The first half with the second: 0 with n/2.
    Halves,
}

/// The nonlinearity of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x·sigmoid(x).
    Silu,
    /// The tanh approximation of x·Φ(x).
    Gelu,
}

/// Sliding-window attention in most layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub length: usize,
    /// One in so many layers sees everything.
    pub global_every: usize,
    /// The base of rotary positions in the layers with a window.
    pub rope_base: f32,
}

/// The shape and the flags of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The architecture's name in the file.
    pub architecture: String,
    /// Number of layers.
    pub layers: usize,
    /// Numbers that represent a token between layers.
    pub width: usize,
    /// Numbers inside the feed-forward layer.
    pub feed_forward_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / key_value_heads` query heads.
    pub key_value_heads: usize,
    /// Numbers of a head.
    pub head_width: usize,
    /// Number of tokens in the vocabulary.
    pub vocabulary: usize,
    /// Longest sequence that the model was trained for.
    pub context_length: usize,
    /// Added to the mean square before its root is taken.
    pub norm_epsilon: f32,
    /// Which numbers rotate together.
    pub rope_style: RopeStyle,
    /// Numbers of a head that rotate.
    pub rope_width: usize,
    /// The base of rotary positions.
    pub rope_base: f32,
    /// Positions are divided by this in layers that see everything.
    pub rope_scale: f32,
    /// The nonlinearity.
    pub activation: Activation,
    /// Embeddings are multiplied by this.
    pub embedding_scale: f32,
    /// Products of queries and keys are multiplied by this.
    pub attention_scale: f32,
    /// Sliding windows, if the model has them.
    pub window: Option<Window>,
}

impl ModelConfig {
    /// Numbers in the queries of a token.
    pub const fn query_width(&self) -> usize {
        self.heads * self.head_width
    }

    /// Numbers in the keys, or in the values, of a token.
    pub const fn key_value_width(&self) -> usize {
        self.key_value_heads * self.head_width
    }

    /// Bytes that the cache needs for a token.
    pub const fn cache_bytes_per_token(&self) -> usize {
        self.layers * self.key_value_width() * 2 * size_of::<f32>()
    }

    /// The window of a layer, if it has one.
    pub fn window_of(&self, layer: usize) -> Option<Window> {
        self.window
            .filter(|window| !(layer + 1).is_multiple_of(window.global_every))
    }

    /// Reads the shape out of a file's metadata and checks that it makes sense.
    pub(crate) fn read(file: &GgufFile, vocabulary: usize) -> Result<Self, LoadError> {
        let architecture = file
            .string("general.architecture")
            .unwrap_or_default()
            .to_owned();
        if ![LLAMA, QWEN2, QWEN3, GEMMA3].contains(&architecture.as_str()) {
            return Err(LoadError::UnsupportedArchitecture { architecture });
        }
        let keys = Keys {
            file,
            architecture: &architecture,
        };
        keys.refuse_features()?;
        let is_gemma = architecture == GEMMA3;
        let width = keys.size("embedding_length", WIDTH_MAX)?;
        let heads = keys.size("attention.head_count", HEADS_MAX)?;
        let head_width = keys.size_or("attention.key_length", WIDTH_MAX, width / heads)?;
        let config = Self {
            layers: keys.size("block_count", LAYERS_MAX)?,
            width,
            feed_forward_width: keys.size("feed_forward_length", WIDTH_MAX)?,
            heads,
            key_value_heads: keys.size_or("attention.head_count_kv", HEADS_MAX, heads)?,
            head_width,
            vocabulary,
            context_length: keys.size("context_length", CONTEXT_LENGTH_MAX)?,
            norm_epsilon: keys.float_or("attention.layer_norm_rms_epsilon", 1e-5),
            rope_style: if architecture == LLAMA {
                RopeStyle::Interleaved
            } else {
                RopeStyle::Halves
            },
            rope_width: keys.size_or("rope.dimension_count", WIDTH_MAX, head_width)?,
            rope_base: keys.float_or("rope.freq_base", if is_gemma { 1e6 } else { 1e4 }),
            rope_scale: keys.rope_scale()?,
            activation: if is_gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            embedding_scale: if is_gemma { (width as f32).sqrt() } else { 1.0 },
            attention_scale: 1.0 / (head_width as f32).sqrt(),
            window: if is_gemma { keys.window()? } else { None },
            architecture: architecture.clone(),
        };
        config.check()
    }

    fn check(self) -> Result<Self, LoadError> {
        let faults = [
            (
                !self.heads.is_multiple_of(self.key_value_heads),
                "the query heads are not shared evenly",
            ),
            (
                self.head_width < self.rope_width,
                "more of a head rotates than there is",
            ),
            (
                !self.rope_width.is_multiple_of(2),
                "an odd number of a head's numbers rotates",
            ),
            (WIDTH_MAX < self.query_width(), "the heads are too wide"),
            (
                !(0.0..1.0).contains(&self.norm_epsilon),
                "the epsilon of the norms is not small",
            ),
            (
                !self.rope_base.is_finite() || self.rope_base < 1.0,
                "the base of the positions is not a number over 1",
            ),
            // Gemma 3 with 62 layers scales its attention by another number than its heads' width.
            (
                self.architecture == GEMMA3 && self.layers == 62,
                "Gemma 3 27B is not supported",
            ),
        ];
        match faults.iter().find(|(is_fault, _)| *is_fault) {
            Some((_, fault)) => Err(LoadError::Inconsistent((*fault).to_owned())),
            None => Ok(self),
        }
    }
}

/// The metadata of one architecture.
struct Keys<'a> {
    file: &'a GgufFile,
    architecture: &'a str,
}

impl Keys<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    fn size(&self, name: &str, limit: usize) -> Result<usize, LoadError> {
        let key = self.key(name);
        match self.file.integer(&key) {
            None => Err(LoadError::Inconsistent(format!("{key} is missing"))),
            Some(value) => match usize::try_from(value) {
                Ok(size) if 0 < size && size <= limit => Ok(size),
                _ => Err(LoadError::Inconsistent(format!(
                    "{key} is {value}, which is not 1 to {limit}"
                ))),
            },
        }
    }

    fn size_or(&self, name: &str, limit: usize, default: usize) -> Result<usize, LoadError> {
        if self.file.value(&self.key(name)).is_some() {
            return self.size(name, limit);
        }
        if default == 0 {
            return Err(LoadError::Inconsistent(format!(
                "{} would be 0",
                self.key(name)
            )));
        }
        Ok(default)
    }

    fn float_or(&self, name: &str, default: f32) -> f32 {
        self.file.float(&self.key(name)).unwrap_or(default)
    }

    fn window(&self) -> Result<Option<Window>, LoadError> {
        let key = self.key("attention.sliding_window");
        let length = match self.file.integer(&key) {
            None | Some(0) => return Ok(None),
            Some(_) => self.size("attention.sliding_window", CONTEXT_LENGTH_MAX)?,
        };
        Ok(Some(Window {
            length,
            global_every: 6,
            rope_base: 1e4,
        }))
    }

    fn rope_scale(&self) -> Result<f32, LoadError> {
        match self.file.string(&self.key("rope.scaling.type")) {
            None | Some("none") => Ok(1.0),
            Some("linear") => {
                let factor = self.float_or("rope.scaling.factor", 1.0);
                if factor.is_finite() && 0.0 < factor {
                    Ok(factor)
                } else {
                    Ok(1.0)
                }
            }
            Some(other) => Err(LoadError::UnsupportedFeature(format!(
                "rope scaling of type {other}"
            ))),
        }
    }

    /// Names features that would silently give wrong numbers.
    fn refuse_features(&self) -> Result<(), LoadError> {
        let present = |name: &str| {
            self.file
                .integer(&self.key(name))
                .is_some_and(|value| value != 0)
        };
        for (name, feature) in [
            ("expert_count", "mixture of experts"),
            ("attn_logit_softcapping", "soft-capped attention"),
        ] {
            if present(name) {
                return Err(LoadError::UnsupportedFeature(feature.to_owned()));
            }
        }
        let (key, value) = (
            self.key("attention.key_length"),
            self.key("attention.value_length"),
        );
        if self.file.integer(&key) != self.file.integer(&value) {
            return Err(LoadError::UnsupportedFeature(
                "keys and values of different lengths".to_owned(),
            ));
        }
        Ok(())
    }
}
