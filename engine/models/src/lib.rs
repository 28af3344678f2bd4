//! Weights, tokenizer, architectures and the CPU backend.
//!
//! A model file is data from outside: whatever it holds, loading ends in a model or in a [`LoadError`], never in a
//! panic. The arithmetic of a token does not depend on the batch it is computed in, so an answer is the same alone
//! and among others.

mod adapter;
mod backend;
mod chat;
mod config;
mod cpu;
mod encoder;
mod files;
mod gguf;
#[cfg(test)]
mod hostile;
mod quant;
mod safetensors;
pub mod synthetic;
mod tokenizer;
mod weights;

pub use adapter::{Adapter, AdapterError, AdapterLayer, LowRank};
pub use backend::{Backend, BatchRow, CacheShape, Logits, MemoryUse, SleepLevel};
pub use chat::{ChatInput, ChatTemplate, InvalidChat};
pub use config::{Activation, LayerKind, ModelConfig, Positions, RopeStyle, Window};
pub use cpu::{Arithmetic, CpuBackend, CpuOptions, FloatWeights};
pub use encoder::{Encoder, EncoderConfig, InvalidInput, LoadedEncoder, Pooling};
pub use files::FileError;
pub use gguf::{GgufError, GgufFile, TensorInfo, Value};
pub use quant::{TensorKind, dequantize};
pub use safetensors::SafetensorsError;
pub use tokenizer::{Tokenizer, UnsupportedTokenizer};
pub use weights::{LoadError, Loaded, Model, Opened, open};
