//! Claims about architectures: tiny checkpoints give the logits of a reference implementation.
//!
//! `testdata/architectures` is made by `testdata/tiny.py`.

use std::fs;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use engine_core::{BlockPool, TokenId};
use serde::Deserialize;

use super::Model;
use crate::backend::{Backend, BatchRow, CacheShape};
use crate::cpu::{Arithmetic, CpuBackend, CpuOptions, FloatWeights};

#[derive(Deserialize)]
struct Expected {
    prompt: Vec<TokenId>,
    /// Behind the last token.
    logits: Vec<f32>,
    /// The most probable token behind each token.
    best: Vec<TokenId>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("testdata/architectures")
        .join(name)
}

/// Logits behind each token of a prompt.
fn forward(model: Model, prompt: &[TokenId]) -> Vec<Vec<f32>> {
    let cache = CacheShape {
        blocks: 16,
        block_tokens: 8,
    };
    let mut pool = BlockPool::new(16, NonZeroU32::new(8).unwrap());
    let blocks = pool.lend(16).unwrap();
    let options = CpuOptions {
        cache,
        threads: NonZeroUsize::MIN,
        arithmetic: Arithmetic::F32,
        float_weights: FloatWeights::Keep,
    };
    let mut backend = CpuBackend::new(model, options);
    let row = BatchRow {
        tokens: prompt,
        start: 0,
        blocks: &blocks,
        outputs: prompt.len(),
        adapter: None,
    };
    backend
        .forward(&[row])
        .rows()
        .map(<[f32]>::to_vec)
        .collect()
}

fn best(logits: &[f32]) -> TokenId {
    let highest = logits
        .iter()
        .enumerate()
        .max_by(|left, right| left.1.total_cmp(right.1));
    highest.unwrap().0 as TokenId
}

#[track_caller]
fn check(name: &str) {
    let folder = folder(name);
    let expected = fs::read(folder.join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    let (model, _) = Model::open_folder(&folder).unwrap();
    let logits = forward(model, &expected.prompt);
    for (got, expected) in logits.last().unwrap().iter().zip(&expected.logits) {
        assert!(
            (got - expected).abs() < 2e-3 * expected.abs().max(1.0),
            "{name}: {got}, not {expected}"
        );
    }
    let got: Vec<_> = logits.iter().map(|logits| best(logits)).collect();
    assert_eq!(got, expected.best, "{name}");
}

#[test]
fn llamas_compute_as_the_reference_does() {
    check("llama");
    check("llama-bias-tied");
    check("llama-linear");
    check("llama-llama3");
}

#[test]
fn qwens_compute_as_the_reference_does() {
    check("qwen2-yarn");
    check("qwen2-window");
    check("qwen3");
}

#[test]
fn mistrals_compute_as_the_reference_does() {
    check("mistral");
    check("mistral-window");
}

#[test]
fn gemma3_computes_as_the_reference_does() {
    check("gemma3");
}

#[test]
fn smollm3_computes_as_the_reference_does() {
    check("smollm3");
}
