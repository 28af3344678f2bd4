//! Reads adapters as PEFT writes them: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::Path;

use serde_json::Value;

use crate::config::{ModelConfig, RopeStyle};
use crate::files;
use crate::safetensors;
use crate::weights::Tensors;

use super::{Adapter, AdapterError, AdapterLayer, LowRank};

const CONFIG_BYTES_MAX: u64 = 1 << 20;
const RANK_MAX: u64 = 4096;

/// A part of a layer: its name, its rows and its columns.
type Part = (&'static str, usize, usize);

impl Adapter {
    /// Reads the adapter in a folder for a model of this shape.
    ///
    /// # Errors
    /// [`AdapterError`] names what is broken, unsupported or does not fit the model.
    pub fn open(folder: &Path, config: &ModelConfig) -> Result<Self, AdapterError> {
        let json = files::read_json(&folder.join("adapter_config.json"), CONFIG_BYTES_MAX)?;
        let scale = scale(&json)?;
        let tensors = safetensors::open_file(&folder.join("adapter_model.safetensors"))?;
        let mut adapter = Self {
            layers: vec![AdapterLayer::default(); config.layers],
        };
        for name in tensors.names() {
            let unknown = || AdapterError::UnknownTensor {
                folder: folder.to_owned(),
                tensor: name.to_owned(),
            };
            let (module, end) = split_end(name).ok_or_else(unknown)?;
            let (layer, part) = place(module).ok_or_else(unknown)?;
            let (_, rows, columns) = *parts(config)
                .iter()
                .find(|(name, ..)| *name == part)
                .ok_or_else(unknown)?;
            let slot = adapter
                .layers
                .get_mut(layer)
                .and_then(|layer| layer.slot(part))
                .ok_or_else(unknown)?;
            if slot.is_none() {
                let (a, b) = (
                    format!("{module}.lora_A{end}"),
                    format!("{module}.lora_B{end}"),
                );
                let mut change = low_rank(&tensors, (&a, &b), (rows, columns), scale)?;
                if is_interleaved(config, part) {
                    change.b = interleave(&change.b, config.head_width * change.rank, change.rank);
                }
                *slot = Some(change);
            }
        }
        Ok(adapter)
    }
}

impl AdapterLayer {
    fn slot(&mut self, part: &str) -> Option<&mut Option<LowRank>> {
        Some(match part {
            "self_attn.q_proj" => &mut self.query,
            "self_attn.k_proj" => &mut self.key,
            "self_attn.v_proj" => &mut self.value,
            "self_attn.o_proj" => &mut self.attention_output,
            "mlp.gate_proj" => &mut self.gate,
            "mlp.up_proj" => &mut self.up,
            "mlp.down_proj" => &mut self.down,
            _ => return None,
        })
    }
}

/// The parts of a layer that an adapter can change.
pub(crate) const fn parts(config: &ModelConfig) -> [Part; 7] {
    let (width, inner) = (config.width, config.feed_forward_width);
    let (queries, keys) = (config.query_width(), config.key_value_width());
    [
        ("self_attn.q_proj", queries, width),
        ("self_attn.k_proj", keys, width),
        ("self_attn.v_proj", keys, width),
        ("self_attn.o_proj", width, queries),
        ("mlp.gate_proj", inner, width),
        ("mlp.up_proj", inner, width),
        ("mlp.down_proj", width, inner),
    ]
}

/// Whether the model has the rows of this part in another order than adapters: GGUF files put those next to each
/// other that rotate together, adapters are made for halves.
pub(crate) fn is_interleaved(config: &ModelConfig, part: &str) -> bool {
    config.rope_style == RopeStyle::Interleaved
        && matches!(part, "self_attn.q_proj" | "self_attn.k_proj")
}

/// Takes the rows of each head from its halves in turn. A head has `head` numbers, a row has `row`.
pub(crate) fn interleave(numbers: &[f32], head: usize, row: usize) -> Vec<f32> {
    let heads = numbers.chunks_exact(head.max(1));
    let turns = heads.flat_map(|head| {
        let (first, second) = head.split_at(head.len() / 2);
        first.chunks(row).zip(second.chunks(row))
    });
    turns
        .flat_map(|(first, second)| [first, second].concat())
        .collect()
}

/// Undoes [`interleave`].
pub(crate) fn separate(numbers: &[f32], head: usize, row: usize) -> Vec<f32> {
    let half = |head: &[f32], skip: usize| -> Vec<f32> {
        head.chunks(row)
            .skip(skip)
            .step_by(2)
            .flatten()
            .copied()
            .collect()
    };
    let heads = numbers.chunks_exact(head.max(1));
    heads
        .flat_map(|head| [half(head, 0), half(head, 1)].concat())
        .collect()
}

/// What the product of both matrices is multiplied by.
fn scale(json: &Value) -> Result<f32, AdapterError> {
    let unsupported = |what: &str| Err(AdapterError::UnsupportedFeature(what.to_owned()));
    let is_set = |name: &str| match &json[name] {
        Value::Null | Value::Bool(false) => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::String(text) => text != "none",
        Value::Bool(true) | Value::Number(_) => true,
    };
    if json["peft_type"].as_str().unwrap_or("LORA") != "LORA" {
        return unsupported("another method than LoRA");
    }
    for (name, what) in [
        ("use_dora", "weights by direction and magnitude (DoRA)"),
        ("rank_pattern", "a rank for each module"),
        ("alpha_pattern", "a scale for each module"),
        ("modules_to_save", "whole modules beside low-rank ones"),
        ("bias", "biases"),
        ("trainable_token_indices", "tokens of its own"),
        ("lora_bias", "biases"),
    ] {
        if is_set(name) {
            return unsupported(what);
        }
    }
    let rank = json["r"]
        .as_u64()
        .filter(|rank| (1..=RANK_MAX).contains(rank));
    let rank = rank.ok_or_else(|| {
        AdapterError::Inconsistent(format!("the rank r is missing, or not 1 to {RANK_MAX}"))
    })? as f64;
    let alpha = json["lora_alpha"].as_f64().unwrap_or(8.0);
    let divisor = if json["use_rslora"] == true {
        rank.sqrt()
    } else {
        rank
    };
    Ok((alpha / divisor) as f32)
}

/// `…q_proj.lora_A.weight` as the module and what stands behind the letter.
fn split_end(name: &str) -> Option<(&str, &str)> {
    let split = |mark: &str| {
        let (module, end) = name.split_once(mark)?;
        matches!(end, ".weight" | ".default.weight").then_some((module, end))
    };
    split(".lora_A").or_else(|| split(".lora_B"))
}

/// `base_model.model.model.layers.3.self_attn.q_proj` as 3 and `self_attn.q_proj`.
fn place(module: &str) -> Option<(usize, &str)> {
    let (_, rest) = module.split_once("layers.")?;
    let (layer, part) = rest.split_once('.')?;
    Some((layer.parse().ok()?, part))
}

fn low_rank(
    tensors: &Tensors,
    (a, b): (&str, &str),
    (rows, columns): (usize, usize),
    scale: f32,
) -> Result<LowRank, AdapterError> {
    let rank = tensors.shape(a).and_then(|shape| shape.first().copied());
    let rank = rank.filter(|rank| 0 < *rank && *rank as u64 <= RANK_MAX);
    let rank = rank.ok_or_else(|| {
        AdapterError::Inconsistent(format!("tensor {a} is missing, or has an impossible rank"))
    })?;
    let mut factors = tensors.numbers(b, &[rows, rank])?;
    factors.iter_mut().for_each(|value| *value *= scale);
    Ok(LowRank {
        a: tensors.numbers(a, &[rank, columns])?,
        b: factors,
        rank,
    })
}
