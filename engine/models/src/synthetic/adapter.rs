//! Synthetic adapters: random low-rank changes of every matrix, in memory or as a folder.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::json;

use crate::adapter::{Adapter, AdapterLayer, LowRank, is_interleaved, parts, separate};
use crate::config::ModelConfig;

use super::Random;

/// An adapter with random numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SyntheticAdapter {
    /// Rows of the first matrix and columns of the second.
    pub rank: usize,
    /// The scale, as PEFT's files have it; the product is multiplied by `alpha / rank`.
    pub alpha: f32,
    /// Equal seeds give equal adapters.
    pub seed: u64,
}

impl Default for SyntheticAdapter {
    fn default() -> Self {
        Self {
            rank: 4,
            alpha: 8.0,
            seed: 1,
        }
    }
}

impl SyntheticAdapter {
    /// The adapter in memory.
    pub fn build(&self, config: &ModelConfig) -> Adapter {
        let scale = self.alpha / self.rank as f32;
        let mut random = Random(self.seed);
        let layer = |_| {
            let [query, key, value, attention_output, gate, up, down] =
                parts(config).map(|(_, rows, columns)| {
                    let (a, mut b) = self.numbers(&mut random, rows, columns);
                    b.iter_mut().for_each(|value| *value *= scale);
                    Some(LowRank {
                        a,
                        b,
                        rank: self.rank,
                    })
                });
            AdapterLayer {
                query,
                key,
                value,
                attention_output,
                gate,
                up,
                down,
            }
        };
        Adapter {
            layers: (0..config.layers).map(layer).collect(),
        }
    }

    /// Writes the adapter as PEFT does: `adapter_config.json` and `adapter_model.safetensors`.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn write(&self, folder: &Path, config: &ModelConfig) -> io::Result<()> {
        let mut random = Random(self.seed);
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for layer in 0..config.layers {
            for (part, rows, columns) in parts(config) {
                let (a, mut b) = self.numbers(&mut random, rows, columns);
                if is_interleaved(config, part) {
                    b = separate(&b, config.head_width * self.rank, self.rank);
                }
                let matrices = [("A", a, [self.rank, columns]), ("B", b, [rows, self.rank])];
                for (letter, numbers, shape) in matrices {
                    let start = data.len();
                    data.extend(numbers.into_iter().flat_map(f32::to_le_bytes));
                    let name = format!(
                        "base_model.model.model.layers.{layer}.{part}.lora_{letter}.weight"
                    );
                    let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [start, data.len()]});
                    header.insert(name, tensor);
                }
            }
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header);
        file.extend(data);
        fs::create_dir_all(folder)?;
        fs::write(folder.join("adapter_model.safetensors"), file)?;
        let names = parts(config).map(|(name, ..)| name.rsplit('.').next().unwrap_or(name));
        let description = json!({
            "peft_type": "LORA", "r": self.rank, "lora_alpha": self.alpha, "use_rslora": false,
            "target_modules": names, "bias": "none",
        });
        fs::write(folder.join("adapter_config.json"), description.to_string())
    }

    fn numbers(&self, random: &mut Random, rows: usize, columns: usize) -> (Vec<f32>, Vec<f32>) {
        let a = (0..self.rank * columns)
            .map(|_| 0.3 * random.next())
            .collect();
        let b = (0..rows * self.rank).map(|_| 0.3 * random.next()).collect();
        (a, b)
    }
}
