//! Claims about the backend: against a plain forward function for each architecture, and between its own levels.

mod plain;

use std::num::{NonZeroU32, NonZeroUsize};

use engine_core::{BlockPool, TokenId};

use super::kernel::Level;
use super::{Arithmetic, CpuBackend, CpuOptions, FloatWeights};
use crate::backend::{Backend, BatchRow, CacheShape};
use crate::synthetic::SyntheticModel;
use crate::weights::{Loaded, Model};

const TOKENS: [TokenId; 24] = [
    7, 80, 33, 200, 5, 6, 41, 99, 100, 7, 7, 250, 18, 64, 128, 255, 3, 9, 27, 81, 243, 11, 12, 13,
];

fn model(shape: &SyntheticModel) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    shape.write(&path).unwrap();
    Loaded::open(&path).unwrap().model
}

/// Logits behind each of the chunks that the tokens are computed in.
fn forward(model: Model, level: Level, threads: usize, chunks: &[usize]) -> Vec<Vec<f32>> {
    let shape = CacheShape {
        blocks: 16,
        block_tokens: 4,
    };
    let mut pool = BlockPool::new(16, NonZeroU32::new(4).unwrap());
    let mut blocks = pool.lend(16).unwrap();
    // Blocks lie in any order in a cache that is in use.
    blocks.reverse();
    let mut backend = CpuBackend::new(
        model,
        CpuOptions {
            cache: shape,
            threads: NonZeroUsize::new(threads).unwrap(),
            arithmetic: Arithmetic::F32,
            float_weights: FloatWeights::Keep,
        },
    );
    backend.level = level;
    let mut start = 0;
    let mut out = Vec::new();
    for length in chunks {
        let tokens = &TOKENS[start..start + length];
        let logits = backend.forward(&[BatchRow {
            tokens,
            start,
            blocks: &blocks,
            outputs: 1,
            adapter: None,
        }]);
        out.extend(logits.rows().map(<[f32]>::to_vec));
        start += length;
    }
    out
}

#[track_caller]
fn check_close(got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0.0_f32, |highest, value| highest.max(value.abs()));
    let distance = got
        .iter()
        .zip(expected)
        .fold(0.0_f32, |most, (got, expected)| {
            most.max((got - expected).abs())
        });
    assert!(
        distance <= tolerance * scale,
        "{distance} away at a scale of {scale}"
    );
}

#[track_caller]
fn check_architecture(architecture: &'static str) {
    let shape = SyntheticModel {
        architecture,
        layers: 7,
        ..SyntheticModel::default()
    };
    let expected = plain::forward(&model(&shape), &TOKENS);
    let got = forward(model(&shape), Level::detect(), 2, &[1; 24]);
    for (got, expected) in got.iter().zip(&expected) {
        check_close(got, expected, 1e-4);
    }
}

#[test]
fn every_architecture_computes_what_a_plain_forward_function_does() {
    for architecture in ["llama", "qwen2", "qwen3", "gemma3"] {
        check_architecture(architecture);
    }
}

#[test]
fn chunks_and_threads_change_no_bit() {
    for architecture in ["llama", "gemma3"] {
        let shape = SyntheticModel {
            architecture,
            ..SyntheticModel::default()
        };
        let expected = forward(model(&shape), Level::detect(), 1, &[24]);
        for (threads, chunks) in [
            (1, [23, 1, 0].as_slice()),
            (2, &[1; 24]),
            (3, &[5, 7, 12]),
            (4, &[4, 4, 16]),
        ] {
            let chunks: Vec<_> = chunks
                .iter()
                .copied()
                .filter(|length| 0 < *length)
                .collect();
            let got = forward(model(&shape), Level::detect(), threads, &chunks);
            assert!(
                got.last() == expected.last(),
                "{threads} threads, chunks {chunks:?}"
            );
        }
    }
}

#[test]
fn the_portable_level_computes_the_same_up_to_rounding() {
    let shape = SyntheticModel {
        width: 40,
        feed_forward_width: 52,
        ..SyntheticModel::default()
    };
    let portable = forward(model(&shape), Level::Portable, 2, &[10, 14]);
    let detected = forward(model(&shape), Level::detect(), 2, &[10, 14]);
    for (portable, detected) in portable.iter().zip(&detected) {
        check_close(portable, detected, 1e-4);
    }
}
