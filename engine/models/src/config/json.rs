//! The shape of a model out of a `config.json`.
//!
//! Two generations of names occur: `rope_theta` with `rope_scaling`, and `rope_parameters` with both inside. What a
//! file leaves out has the value that the model library gives it.

use serde_json::{Map, Value};

use crate::weights::LoadError;

use super::rope::yarn_magnitude;
use super::{
    Activation, CONTEXT_LENGTH_MAX, GEMMA3, GEMMA3_INTERVAL, GEMMA3_LOCAL_BASE, HEADS_MAX,
    LAYERS_MAX, LLAMA, LOCAL, LayerKind, MISTRAL, ModelConfig, POSITIONLESS, QWEN2, QWEN3,
    RopeStyle, SMOLLM3, SMOLLM3_INTERVAL, Scaling, VOCABULARY_MAX, WIDTH_MAX, WINDOWED, Window,
    alternate,
};

/// What Gemma 3's configurations leave out: the values of its 4B.
const GEMMA3_DEFAULTS: [(&str, usize); 5] = [
    ("vocab_size", 262_208),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
];
const GEMMA3_SCORE_WIDTH: f64 = 256.0;
const WINDOW_DEFAULT: usize = 4096;
const WINDOW_LAYERS_DEFAULT: usize = 28;

impl ModelConfig {
    /// Reads the shape and checks that it makes sense.
    pub(crate) fn from_json(config: &Value) -> Result<Self, LoadError> {
        let kind = config["model_type"].as_str().unwrap_or_default();
        let (architecture, fields) = match kind {
            LLAMA | MISTRAL | QWEN2 | QWEN3 | SMOLLM3 => (kind, config),
            "gemma3_text" => (GEMMA3, config),
            GEMMA3 => (GEMMA3, &config["text_config"]),
            other => {
                return Err(LoadError::UnsupportedArchitecture {
                    architecture: other.to_owned(),
                });
            }
        };
        let fields = fields.as_object().ok_or_else(|| {
            LoadError::Inconsistent("the configuration is not a JSON object".to_owned())
        })?;
        let fields = Fields {
            fields,
            is_gemma: architecture == GEMMA3,
        };
        fields.refuse_features(config)?;
        fields.config(architecture)?.check()
    }
}

struct Fields<'a> {
    fields: &'a Map<String, Value>,
    is_gemma: bool,
}

impl Fields<'_> {
    fn config(&self, architecture: &str) -> Result<ModelConfig, LoadError> {
        let width = self.size("hidden_size", WIDTH_MAX)?;
        let heads = self.size("num_attention_heads", HEADS_MAX)?;
        let head_width = self.size_or("head_dim", WIDTH_MAX, width / heads)?;
        let layers = self.size("num_hidden_layers", LAYERS_MAX)?;
        let context_length = self.size("max_position_embeddings", CONTEXT_LENGTH_MAX)?;
        let rope = self.rope()?;
        let share =
            number_in(&rope, "partial_rotary_factor")?.or(self.number("partial_rotary_factor")?);
        let rope_width = (head_width as f64 * share.unwrap_or(1.0).clamp(0.0, 1.0)) as usize;
        let base = number_in(&rope, "rope_theta")?.or(self.number("rope_theta")?);
        let default_base = match architecture {
            GEMMA3 => 1e6,
            SMOLLM3 => 2e6,
            _ => 1e4,
        };
        let rope_base = base.unwrap_or(default_base) as f32;
        let scaling = scaling(
            &rope,
            self.number("original_max_position_embeddings")?,
            context_length,
        )?;
        let score_width = if self.is_gemma {
            self.number("query_pre_attn_scalar")?
                .unwrap_or(GEMMA3_SCORE_WIDTH)
        } else {
            head_width as f64
        };
        if scaling.product_scale() != 1.0 && rope_width != head_width {
            return Err(unsupported("stretched positions in a part of each head"));
        }
        let window = self.window(architecture)?;
        Ok(ModelConfig {
            architecture: architecture.to_owned(),
            layers,
            width,
            feed_forward_width: self.size("intermediate_size", WIDTH_MAX)?,
            heads,
            key_value_heads: self.size_or("num_key_value_heads", HEADS_MAX, heads)?,
            head_width,
            vocabulary: self.size("vocab_size", VOCABULARY_MAX)?,
            context_length,
            norm_epsilon: self.number("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope_style: RopeStyle::Halves,
            rope_width,
            rope_base,
            rope_scale: scaling.scale(),
            rope_divisors: scaling.divisors(rope_width, rope_base),
            activation: self.activation()?,
            embedding_scale: if self.is_gemma {
                (width as f32).sqrt()
            } else {
                1.0
            },
            attention_scale: scaling.product_scale() / score_width.sqrt() as f32,
            layer_kinds: self.layer_kinds(architecture, layers, window.is_some())?,
            window,
        })
    }

    fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|value| !value.is_null())
    }

    fn size(&self, name: &str, limit: usize) -> Result<usize, LoadError> {
        let default = GEMMA3_DEFAULTS
            .iter()
            .find(|(key, _)| self.is_gemma && *key == name);
        match (self.value(name), default) {
            (Some(value), _) => match value.as_u64() {
                Some(size) if 0 < size && size <= limit as u64 => Ok(size as usize),
                _ => Err(LoadError::Inconsistent(format!(
                    "{name} is {}, which is not 1 to {limit}",
                    short(value)
                ))),
            },
            (None, Some((_, default))) => Ok(*default),
            (None, None) => Err(LoadError::Inconsistent(format!("{name} is missing"))),
        }
    }

    fn size_or(&self, name: &str, limit: usize, default: usize) -> Result<usize, LoadError> {
        let has_default = self.is_gemma && GEMMA3_DEFAULTS.iter().any(|(key, _)| *key == name);
        if self.value(name).is_some() || has_default {
            return self.size(name, limit);
        }
        if default == 0 {
            return Err(LoadError::Inconsistent(format!("{name} would be 0")));
        }
        Ok(default)
    }

    fn number(&self, name: &str) -> Result<Option<f64>, LoadError> {
        number_in(self.fields, name)
    }

    fn bool(&self, name: &str) -> bool {
        self.value(name).and_then(Value::as_bool).unwrap_or(false)
    }

    fn activation(&self) -> Result<Activation, LoadError> {
        let name = if self.is_gemma {
            self.value("hidden_activation")
        } else {
            self.value("hidden_act")
        };
        match name.map(|name| name.as_str().unwrap_or_default()) {
            None if self.is_gemma => Ok(Activation::Gelu),
            None | Some("silu" | "swish") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::Gelu),
            Some(other) => Err(unsupported(&format!("the activation {other}"))),
        }
    }

    /// The parameters of rotary positions, of both generations, in layers that see everything.
    fn rope(&self) -> Result<Map<String, Value>, LoadError> {
        let parameters = self.value("rope_parameters").or(self.value("rope_scaling"));
        let Some(parameters) = parameters else {
            return Ok(Map::new());
        };
        let parameters = parameters.get("full_attention").unwrap_or(parameters);
        parameters.as_object().cloned().ok_or_else(|| {
            LoadError::Inconsistent("the parameters of positions are not an object".to_owned())
        })
    }

    fn window(&self, architecture: &str) -> Result<Option<Window>, LoadError> {
        let is_on = match architecture {
            MISTRAL => self
                .fields
                .get("sliding_window")
                .is_none_or(|value| !value.is_null()),
            QWEN2 | QWEN3 | SMOLLM3 => self.bool("use_sliding_window"),
            GEMMA3 => true,
            _ => false,
        };
        if !is_on {
            return Ok(None);
        }
        let local = self.value("rope_parameters").and_then(|parameters| {
            parameters
                .get("sliding_attention")?
                .get("rope_theta")?
                .as_f64()
        });
        let local = local.or(self.number("rope_local_base_freq")?);
        Ok(Some(Window {
            length: self.size_or("sliding_window", CONTEXT_LENGTH_MAX, WINDOW_DEFAULT)?,
            rope_base: local.map_or(GEMMA3_LOCAL_BASE, |base| base as f32),
        }))
    }

    fn layer_kinds(
        &self,
        architecture: &str,
        layers: usize,
        has_window: bool,
    ) -> Result<Vec<LayerKind>, LoadError> {
        let windowed = if architecture == GEMMA3 {
            LOCAL
        } else {
            WINDOWED
        };
        let mut kinds = match (self.value("layer_types"), architecture) {
            (Some(types), _) => listed(types, layers, windowed)?,
            (None, MISTRAL) => vec![windowed; layers],
            (None, QWEN2 | QWEN3) => {
                let first = self
                    .value("max_window_layers")
                    .and_then(Value::as_u64)
                    .map_or(WINDOW_LAYERS_DEFAULT, |first| first as usize);
                (0..layers)
                    .map(|layer| {
                        if layer < first {
                            LayerKind::PLAIN
                        } else {
                            windowed
                        }
                    })
                    .collect()
            }
            (None, GEMMA3) => {
                let interval =
                    self.size_or("sliding_window_pattern", LAYERS_MAX, GEMMA3_INTERVAL)?;
                alternate(layers, interval, windowed, LayerKind::PLAIN)
            }
            (None, _) => vec![LayerKind::PLAIN; layers],
        };
        if !has_window {
            kinds.iter_mut().for_each(|kind| kind.has_window = false);
        }
        if architecture == SMOLLM3 {
            let is_listed = self.value("layer_types").is_some();
            for (kind, turns) in kinds.iter_mut().zip(self.turning_layers(layers)?) {
                if !turns {
                    *kind = LayerKind {
                        has_window: if is_listed {
                            kind.has_window
                        } else {
                            has_window
                        },
                        ..POSITIONLESS
                    };
                }
            }
        }
        Ok(kinds)
    }

    /// Which of SmolLM3's layers have positions.
    fn turning_layers(&self, layers: usize) -> Result<Vec<bool>, LoadError> {
        let Some(list) = self.value("no_rope_layers") else {
            let interval = self.size_or("no_rope_layer_interval", LAYERS_MAX, SMOLLM3_INTERVAL)?;
            return Ok((1..=layers).map(|number| number % interval != 0).collect());
        };
        let list = list.as_array().filter(|list| layers <= list.len());
        let list = list.ok_or_else(|| {
            LoadError::Inconsistent("no_rope_layers does not name each layer".to_owned())
        })?;
        Ok(list
            .iter()
            .take(layers)
            .map(|turns| turns.as_u64() != Some(0))
            .collect())
    }

    /// Names features that would silently give wrong numbers.
    fn refuse_features(&self, whole: &Value) -> Result<(), LoadError> {
        for (name, feature) in [
            ("attn_logit_softcapping", "soft-capped attention"),
            ("final_logit_softcapping", "soft-capped logits"),
            ("num_experts", "mixture of experts"),
            ("num_local_experts", "mixture of experts"),
        ] {
            if self.value(name).is_some() {
                return Err(unsupported(feature));
            }
        }
        if self.bool("use_bidirectional_attention") {
            return Err(unsupported("attention to later tokens"));
        }
        let quantized = [
            whole.get("quantization_config"),
            self.value("quantization_config"),
        ];
        if let Some(quantized) = quantized
            .into_iter()
            .flatten()
            .find(|value| !value.is_null())
        {
            let method = quantized["quant_method"]
                .as_str()
                .unwrap_or("an unknown method");
            return Err(unsupported(&format!("weights quantized by {method}")));
        }
        Ok(())
    }
}

/// The kinds of layers that a configuration lists.
fn listed(types: &Value, layers: usize, windowed: LayerKind) -> Result<Vec<LayerKind>, LoadError> {
    let types = types.as_array().filter(|types| layers <= types.len());
    let types = types.ok_or_else(|| {
        LoadError::Inconsistent("layer_types does not name each layer".to_owned())
    })?;
    types
        .iter()
        .take(layers)
        .map(|kind| match kind.as_str() {
            Some("full_attention") => Ok(LayerKind::PLAIN),
            Some("sliding_attention") => Ok(windowed),
            _ => Err(unsupported(&format!("layers of type {}", short(kind)))),
        })
        .collect()
}

fn scaling(
    rope: &Map<String, Value>,
    trained_length: Option<f64>,
    context_length: usize,
) -> Result<Scaling, LoadError> {
    let kind = rope.get("rope_type").or_else(|| rope.get("type"));
    let factor = number_in(rope, "factor")?;
    let needed = |name: &str| -> Result<f64, LoadError> {
        number_in(rope, name)?
            .filter(|number| 0.0 < *number)
            .ok_or_else(|| LoadError::Inconsistent(format!("{name} of the positions is missing")))
    };
    let length = number_in(rope, "original_max_position_embeddings")?.or(trained_length);
    let length = length.unwrap_or(context_length as f64).max(1.0);
    match kind.and_then(Value::as_str).unwrap_or("default") {
        "default" => Ok(Scaling::None),
        "linear" => Ok(Scaling::Linear {
            factor: needed("factor")?,
        }),
        "llama3" => Ok(Scaling::Llama3 {
            factor: needed("factor")?,
            low: needed("low_freq_factor")?,
            high: needed("high_freq_factor")?,
            length,
        }),
        "yarn" => {
            let factor = factor
                .unwrap_or(context_length as f64 / length)
                .max(f64::MIN_POSITIVE);
            let weight = number_in(rope, "mscale")?.filter(|weight| *weight != 0.0);
            let whole = number_in(rope, "mscale_all_dim")?.filter(|weight| *weight != 0.0);
            let magnitude = match (number_in(rope, "attention_factor")?, weight, whole) {
                (Some(magnitude), _, _) => magnitude,
                (None, Some(weight), Some(whole)) => {
                    yarn_magnitude(factor, weight) / yarn_magnitude(factor, whole)
                }
                (None, _, _) => yarn_magnitude(factor, 1.0),
            };
            let turns = |name: &str, default: f64| -> Result<f64, LoadError> {
                Ok(number_in(rope, name)?
                    .filter(|turns| 0.0 < *turns)
                    .unwrap_or(default))
            };
            Ok(Scaling::Yarn {
                factor,
                fast: turns("beta_fast", 32.0)?,
                slow: turns("beta_slow", 1.0)?,
                length,
                magnitude,
                rounds: rope
                    .get("truncate")
                    .and_then(Value::as_bool)
                    .unwrap_or(true),
            })
        }
        other => Err(unsupported(&format!("rope scaling of type {other}"))),
    }
}

fn number_in(fields: &Map<String, Value>, name: &str) -> Result<Option<f64>, LoadError> {
    match fields.get(name).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(LoadError::Inconsistent(format!(
                "{name} is {}, which is not a number",
                short(value)
            ))),
        },
    }
}

fn unsupported(feature: &str) -> LoadError {
    LoadError::UnsupportedFeature(feature.to_owned())
}

/// A value for a message, however long it is.
fn short(value: &Value) -> String {
    const SHOWN: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}
