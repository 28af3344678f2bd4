//! The shape of a model out of a GGUF file's metadata.

use crate::gguf::GgufFile;
use crate::weights::LoadError;

use super::rope::yarn_magnitude;
use super::{
    Activation, CONTEXT_LENGTH_MAX, GEMMA3, GEMMA3_INTERVAL, GEMMA3_LOCAL_BASE, HEADS_MAX,
    LAYERS_MAX, LLAMA, LOCAL, LayerKind, ModelConfig, POSITIONLESS, QWEN2, QWEN3, RopeStyle,
    SMOLLM3, SMOLLM3_INTERVAL, Scaling, WIDTH_MAX, Window, alternate,
};

/// Gemma 3 with so many layers, its largest, scales attention by another width than its heads'.
const GEMMA3_27B_LAYERS: usize = 62;

impl ModelConfig {
    /// Reads the shape out of a file's metadata and checks that it makes sense.
    pub(crate) fn read(file: &GgufFile, vocabulary: usize) -> Result<Self, LoadError> {
        let architecture = file
            .string("general.architecture")
            .unwrap_or_default()
            .to_owned();
        if ![LLAMA, QWEN2, QWEN3, GEMMA3, SMOLLM3].contains(&architecture.as_str()) {
            return Err(LoadError::UnsupportedArchitecture { architecture });
        }
        let keys = Keys {
            file,
            architecture: &architecture,
        };
        keys.refuse_features()?;
        let is_gemma = architecture == GEMMA3;
        let layers = keys.size("block_count", LAYERS_MAX)?;
        let width = keys.size("embedding_length", WIDTH_MAX)?;
        let heads = keys.size("attention.head_count", HEADS_MAX)?;
        let head_width = keys.size_or("attention.key_length", WIDTH_MAX, width / heads)?;
        let context_length = keys.size("context_length", CONTEXT_LENGTH_MAX)?;
        let rope_width = keys.size_or("rope.dimension_count", WIDTH_MAX, head_width)?;
        let rope_base = keys.float_or("rope.freq_base", if is_gemma { 1e6 } else { 1e4 });
        let scaling = keys.rope_scaling(context_length)?;
        let score_width = if is_gemma && layers == GEMMA3_27B_LAYERS {
            width / heads
        } else {
            head_width
        };
        let window = if is_gemma { keys.window()? } else { None };
        let config = Self {
            layers,
            width,
            feed_forward_width: keys.size("feed_forward_length", WIDTH_MAX)?,
            heads,
            key_value_heads: keys.size_or("attention.head_count_kv", HEADS_MAX, heads)?,
            head_width,
            vocabulary,
            context_length,
            norm_epsilon: keys.float_or("attention.layer_norm_rms_epsilon", 1e-5),
            rope_style: if [LLAMA, SMOLLM3].contains(&architecture.as_str()) {
                RopeStyle::Interleaved
            } else {
                RopeStyle::Halves
            },
            rope_width,
            rope_base,
            rope_scale: scaling.scale(),
            rope_divisors: scaling.divisors(rope_width, rope_base),
            activation: if is_gemma {
                Activation::Gelu
            } else {
                Activation::Silu
            },
            embedding_scale: if is_gemma { (width as f32).sqrt() } else { 1.0 },
            attention_scale: scaling.product_scale() / (score_width as f32).sqrt(),
            window,
            layer_kinds: keys.layer_kinds(layers, window.is_some())?,
            architecture: architecture.clone(),
        };
        config.check()
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

    fn layer_kinds(&self, layers: usize, has_window: bool) -> Result<Vec<LayerKind>, LoadError> {
        match self.architecture {
            GEMMA3 if has_window => {
                const PATTERN: &str = "attention.sliding_window_pattern";
                if let Some(pattern) = self.file.integers(&self.key(PATTERN)) {
                    let kind = |windowed: &i64| {
                        if *windowed == 0 {
                            LayerKind::PLAIN
                        } else {
                            LOCAL
                        }
                    };
                    return Ok(pattern.iter().take(layers).map(kind).collect());
                }
                let interval = self.size_or(PATTERN, LAYERS_MAX, GEMMA3_INTERVAL)?;
                Ok(alternate(layers, interval, LOCAL, LayerKind::PLAIN))
            }
            SMOLLM3 => Ok(alternate(
                layers,
                SMOLLM3_INTERVAL,
                LayerKind::PLAIN,
                POSITIONLESS,
            )),
            _ => Ok(vec![LayerKind::PLAIN; layers]),
        }
    }

    fn window(&self) -> Result<Option<Window>, LoadError> {
        let key = self.key("attention.sliding_window");
        let length = match self.file.integer(&key) {
            None | Some(0) => return Ok(None),
            Some(_) => self.size("attention.sliding_window", CONTEXT_LENGTH_MAX)?,
        };
        Ok(Some(Window {
            length,
            rope_base: self.float_or("rope.freq_base_swa", GEMMA3_LOCAL_BASE),
        }))
    }

    fn rope_scaling(&self, context_length: usize) -> Result<Scaling, LoadError> {
        let number = |name: &str, default: f64| {
            let number = f64::from(self.float_or(&format!("rope.scaling.{name}"), default as f32));
            if number.is_finite() && 0.0 < number {
                number
            } else {
                default
            }
        };
        let factor = number("factor", 1.0);
        match self.file.string(&self.key("rope.scaling.type")) {
            None | Some("none") => Ok(Scaling::None),
            Some("linear") => Ok(Scaling::Linear { factor }),
            Some("yarn") => Ok(Scaling::Yarn {
                factor,
                fast: number("yarn_beta_fast", 32.0),
                slow: number("yarn_beta_slow", 1.0),
                length: number("original_context_length", context_length as f64),
                magnitude: number("attn_factor", 1.0) * yarn_magnitude(factor, 1.0),
                rounds: true,
            }),
            Some(other) => Err(LoadError::UnsupportedFeature(format!(
                "rope scaling of type {other}"
            ))),
        }
    }

    /// Names features that would silently give wrong numbers.
    fn refuse_features(&self) -> Result<(), LoadError> {
        let present = |name: &str| {
            self.file
                .float(&self.key(name))
                .is_some_and(|value| value != 0.0)
        };
        for (name, feature) in [
            ("expert_count", "mixture of experts"),
            ("attn_logit_softcapping", "soft-capped attention"),
            ("final_logit_softcapping", "soft-capped logits"),
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
