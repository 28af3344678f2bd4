//! Architectures as data: what distinguishes the models that one forward function computes.
//!
//! A configuration comes out of a GGUF file's metadata (`config/metadata.rs`) or out of a `config.json`
//! (`config/json.rs`); both end here, checked.

mod json;
mod metadata;
mod rope;
#[cfg(test)]
mod tests;

use crate::weights::LoadError;

pub(crate) use rope::Scaling;

const LAYERS_MAX: usize = 1024;
const WIDTH_MAX: usize = 1 << 17;
const HEADS_MAX: usize = 1 << 10;
const CONTEXT_LENGTH_MAX: usize = 1 << 24;
const VOCABULARY_MAX: usize = 1 << 24;

/// The architectures' names in the files.
const LLAMA: &str = "llama";
const MISTRAL: &str = "mistral";
const QWEN2: &str = "qwen2";
const QWEN3: &str = "qwen3";
const GEMMA3: &str = "gemma3";
const SMOLLM3: &str = "smollm3";

/// One layer in so many has no positions in SmolLM3, and one in so many sees everything in Gemma 3.
const SMOLLM3_INTERVAL: usize = 4;
const GEMMA3_INTERVAL: usize = 6;
const GEMMA3_LOCAL_BASE: f32 = 1e4;

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

/// Sliding-window attention in some layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Tokens that a token sees, itself included.
    pub length: usize,
    /// The base of [`Positions::Local`].
    pub rope_base: f32,
}

/// How a layer's heads know where a token stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Positions {
    /// They turn by the model's base, scale and divisors.
    Global,
    /// They turn by the window's base, neither scaled nor divided.
    Local,
    /// They do not turn.
    None,
}

/// What distinguishes a layer from its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerKind {
    /// Whether a token sees no further than the window.
    pub has_window: bool,
    /// How heads know where a token stands.
    pub positions: Positions,
}

impl LayerKind {
    /// A layer that sees everything.
    pub(crate) const PLAIN: Self = Self {
        has_window: false,
        positions: Positions::Global,
    };
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
    /// Divides the frequency of each pair of a head's numbers in layers that see everything.
    pub rope_divisors: Option<Vec<f32>>,
    /// Sliding windows, if the model has them.
    pub window: Option<Window>,
    /// The kind of each layer.
    pub layer_kinds: Vec<LayerKind>,
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

    /// The window of a layer, if it has one.
    pub fn window_of(&self, layer: usize) -> Option<Window> {
        self.window.filter(|_| self.kind_of(layer).has_window)
    }

    /// How a layer's heads know where a token stands.
    pub fn positions_of(&self, layer: usize) -> Positions {
        self.kind_of(layer).positions
    }

    fn kind_of(&self, layer: usize) -> LayerKind {
        self.layer_kinds
            .get(layer)
            .copied()
            .unwrap_or(LayerKind::PLAIN)
    }

    fn check(self) -> Result<Self, LoadError> {
        let is_positive = |number: f32| number.is_finite() && 0.0 < number;
        let faults = [
            (
                self.key_value_heads == 0 || !self.heads.is_multiple_of(self.key_value_heads),
                "the query heads are not shared evenly",
            ),
            (
                self.head_width < self.rope_width || self.rope_width == 0,
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
            (
                !is_positive(self.rope_scale) || !is_positive(self.attention_scale),
                "the scale of positions or of attention is not a number over 0",
            ),
            (
                self.window.is_some_and(|window| {
                    window.length == 0 || !(1.0..=f32::MAX).contains(&window.rope_base)
                }),
                "the sliding window is impossible",
            ),
            (
                self.rope_divisors
                    .iter()
                    .flatten()
                    .any(|divisor| !is_positive(*divisor)),
                "a divisor of the positions is not a number over 0",
            ),
            (
                self.layer_kinds.len() != self.layers,
                "there are not as many kinds of layers as layers",
            ),
        ];
        match faults.iter().find(|(is_fault, _)| *is_fault) {
            Some((_, fault)) => Err(LoadError::Inconsistent((*fault).to_owned())),
            None => Ok(self),
        }
    }
}

/// Kinds of layers where one in `interval` is of kind `rare`.
fn alternate(layers: usize, interval: usize, common: LayerKind, rare: LayerKind) -> Vec<LayerKind> {
    (1..=layers)
        .map(|number| {
            if number.is_multiple_of(interval) {
                rare
            } else {
                common
            }
        })
        .collect()
}

/// Gemma 3's layers with a window.
const LOCAL: LayerKind = LayerKind {
    has_window: true,
    positions: Positions::Local,
};

/// SmolLM3's layers without positions.
const POSITIONLESS: LayerKind = LayerKind {
    has_window: false,
    positions: Positions::None,
};

/// Mistral's and Qwen's layers with a window.
const WINDOWED: LayerKind = LayerKind {
    has_window: true,
    positions: Positions::Global,
};
