//! Synthetic models: files of any shape with random weights, for tests and measurements.
//!
//! They load and answer like real ones, offline and at once; what they say means nothing.

mod adapter;

use std::io;
use std::path::Path;

use crate::gguf::Value;
use crate::gguf::writer::Writer;
use crate::quant::TensorKind;
use crate::tokenizer::byte_texts;

pub use adapter::SyntheticAdapter;

/// A ChatML template, as SmolLM2 and Qwen have it.
pub const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

const SPECIAL: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
const CONTROL: i64 = 3;
const NORMAL: i64 = 1;

/// The shape of a synthetic model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticModel {
    /// `llama`, `qwen2`, `qwen3` or `gemma3`.
    pub architecture: &'static str,
    /// Number of layers.
    pub layers: usize,
    /// Numbers that represent a token.
    pub width: usize,
    /// Numbers inside the feed-forward layer.
    pub feed_forward_width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub key_value_heads: usize,
    /// Longest sequence.
    pub context_length: usize,
    /// Tokens that a token sees in layers with a window (Gemma 3).
    pub window: usize,
    /// Equal seeds give equal files.
    pub seed: u64,
}

impl Default for SyntheticModel {
    fn default() -> Self {
        Self {
            architecture: "llama",
            layers: 2,
            width: 32,
            feed_forward_width: 48,
            heads: 4,
            key_value_heads: 2,
            context_length: 256,
            window: 8,
            seed: 1,
        }
    }
}

impl SyntheticModel {
    /// Writes the model as a GGUF file.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        self.writer().write(path)
    }

    pub(crate) fn writer(&self) -> Writer {
        let mut writer = Writer::default();
        let vocabulary = self.write_tokenizer(&mut writer);
        self.write_shape(&mut writer);
        self.write_tensors(&mut writer, vocabulary);
        writer
    }

    const fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn write_shape(&self, writer: &mut Writer) {
        let name = self.architecture;
        writer.value("general.architecture", Value::String(name.to_owned()));
        let sizes = [
            ("block_count", self.layers),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward_width),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.key_value_heads),
            ("context_length", self.context_length),
        ];
        for (key, size) in sizes {
            writer.value(format!("{name}.{key}"), Value::Integer(size as i64));
        }
        if name == "gemma3" {
            writer.value(
                "gemma3.attention.sliding_window",
                Value::Integer(self.window as i64),
            );
        }
        writer.value(
            format!("{name}.attention.layer_norm_rms_epsilon"),
            Value::Float(1e-5),
        );
        writer.value(format!("{name}.rope.freq_base"), Value::Float(10_000.0));
    }

    /// Writes a tokenizer of single bytes and returns the size of the vocabulary.
    fn write_tokenizer(&self, writer: &mut Writer) -> usize {
        let mut texts: Vec<String> = SPECIAL.iter().map(|text| (*text).to_owned()).collect();
        texts.extend(byte_texts());
        let count = texts.len();
        let types = (0..count)
            .map(|index| {
                if index < SPECIAL.len() {
                    CONTROL
                } else {
                    NORMAL
                }
            })
            .collect();
        let merges = ["t h", "th e"].map(str::to_owned).to_vec();
        texts.extend(["th".to_owned(), "the".to_owned()]);
        let mut types: Vec<i64> = types;
        types.extend([NORMAL, NORMAL]);
        let vocabulary = texts.len();
        let text = |text: &str| Value::String(text.to_owned());
        writer.value("tokenizer.ggml.model", text("gpt2"));
        writer.value("tokenizer.ggml.pre", text("default"));
        writer.value("tokenizer.ggml.tokens", Value::Strings(texts));
        writer.value("tokenizer.ggml.token_type", Value::Integers(types));
        writer.value("tokenizer.ggml.merges", Value::Strings(merges));
        writer.value("tokenizer.ggml.eos_token_id", Value::Integer(2));
        writer.value("tokenizer.chat_template", text(CHAT_TEMPLATE));
        vocabulary
    }

    fn write_tensors(&self, writer: &mut Writer, vocabulary: usize) {
        let mut random = Random(self.seed);
        let mut tensor = |name: String, shape: &[usize], center: f32, spread: f32| {
            let count = shape.iter().product();
            let numbers = (0..count).map(|_| center + spread * random.next());
            let bytes = numbers.flat_map(f32::to_le_bytes).collect();
            writer.tensor(name, TensorKind::F32, shape, bytes);
        };
        let (width, inner) = (self.width, self.feed_forward_width);
        let (queries, keys) = (
            self.heads * self.head_width(),
            self.key_value_heads * self.head_width(),
        );
        tensor(
            "token_embd.weight".to_owned(),
            &[width, vocabulary],
            0.0,
            0.5,
        );
        tensor("output_norm.weight".to_owned(), &[width], 1.0, 0.2);
        for layer in 0..self.layers {
            let matrices = [
                ("attn_q", width, queries),
                ("attn_k", width, keys),
                ("attn_v", width, keys),
                ("attn_output", queries, width),
                ("ffn_gate", width, inner),
                ("ffn_up", width, inner),
                ("ffn_down", inner, width),
            ];
            for (name, columns, rows) in matrices {
                tensor(
                    format!("blk.{layer}.{name}.weight"),
                    &[columns, rows],
                    0.0,
                    0.4,
                );
            }
            for (name, length) in self.norms() {
                tensor(format!("blk.{layer}.{name}.weight"), &[length], 1.0, 0.2);
            }
            if self.architecture == "qwen2" {
                for (name, length) in [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)] {
                    tensor(format!("blk.{layer}.{name}.bias"), &[length], 0.0, 0.5);
                }
            }
        }
    }

    fn norms(&self) -> Vec<(&'static str, usize)> {
        let mut norms = vec![("attn_norm", self.width), ("ffn_norm", self.width)];
        if matches!(self.architecture, "gemma3" | "qwen3") {
            norms.extend([
                ("attn_q_norm", self.head_width()),
                ("attn_k_norm", self.head_width()),
            ]);
        }
        if self.architecture == "gemma3" {
            norms.extend([
                ("post_attention_norm", self.width),
                ("post_ffw_norm", self.width),
            ]);
        }
        norms
    }
}

/// A linear congruential generator: the same numbers on every machine.
struct Random(u64);

impl Random {
    /// A number from -1 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f32) / 8_388_608.0 - 1.0
    }
}
