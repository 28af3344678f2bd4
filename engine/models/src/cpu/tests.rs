//! Claims about the backend: against a plain forward function for each architecture, and between its own levels.

mod plain;
mod states;

use std::num::{NonZeroU32, NonZeroUsize};

use engine_core::{BlockId, BlockPool, TokenId};

use super::level::Level;
use super::{Arithmetic, CpuBackend, CpuOptions, FloatWeights};
use crate::backend::{Backend, BatchRow, CacheShape};
use crate::synthetic::SyntheticModel;
use crate::weights::{Loaded, Model};

const TOKENS: [TokenId; 24] = [
    7, 80, 33, 200, 5, 6, 41, 99, 100, 7, 7, 250, 18, 64, 128, 255, 3, 9, 27, 81, 243, 11, 12, 13,
];
const MODES: [Arithmetic; 2] = [Arithmetic::F32, Arithmetic::Int8];

fn model(shape: &SyntheticModel) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    shape.write(&path).unwrap();
    Loaded::open(&path).unwrap().model
}

/// A backend and the blocks of one sequence, which lie in any order in a cache that is in use.
fn backend(
    model: Model,
    arithmetic: Arithmetic,
    threads: usize,
    block_tokens: usize,
) -> (CpuBackend, Vec<BlockId>) {
    let blocks = 1024 / block_tokens;
    let count = u32::try_from(blocks).unwrap();
    let size = NonZeroU32::new(u32::try_from(block_tokens).unwrap()).unwrap();
    let mut lent = BlockPool::new(count, size).lend(blocks).unwrap();
    lent.reverse();
    let options = CpuOptions {
        cache: CacheShape {
            blocks,
            block_tokens,
        },
        threads: NonZeroUsize::new(threads).unwrap(),
        arithmetic,
        float_weights: FloatWeights::Quantize8,
    };
    (CpuBackend::new(model, options), lent)
}

/// Logits behind each of the chunks that the tokens are computed in.
fn forward(
    (mut backend, blocks): (CpuBackend, Vec<BlockId>),
    tokens: &[TokenId],
    chunks: &[usize],
) -> Vec<Vec<f32>> {
    let mut start = 0;
    let mut out = Vec::new();
    for length in chunks {
        let logits = backend.forward(&[BatchRow {
            tokens: &tokens[start..start + length],
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
    for (arithmetic, tolerance) in [(Arithmetic::F32, 1e-4), (Arithmetic::Int8, 0.2)] {
        for block_tokens in [4, 16] {
            let backend = backend(model(&shape), arithmetic, 2, block_tokens);
            let got = forward(backend, &TOKENS, &[1; 24]);
            for (got, expected) in got.iter().zip(&expected) {
                check_close(got, expected, tolerance);
            }
        }
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
        for arithmetic in MODES {
            let backend = |threads| backend(model(&shape), arithmetic, threads, 4);
            let expected = forward(backend(1), &TOKENS, &[24]);
            for (threads, chunks) in [
                (1, [23, 1].as_slice()),
                (2, &[1; 24]),
                (3, &[5, 7, 12]),
                (4, &[4, 4, 16]),
            ] {
                let got = forward(backend(threads), &TOKENS, chunks);
                assert!(
                    got.last() == expected.last(),
                    "{arithmetic:?}, {threads} threads, chunks {chunks:?}"
                );
            }
        }
    }
}

#[test]
fn long_sequences_have_the_same_bits_span_by_span() {
    let tokens: Vec<TokenId> = TOKENS.iter().copied().cycle().take(900).collect();
    for architecture in ["llama", "gemma3"] {
        let shape = SyntheticModel {
            architecture,
            context_length: 1024,
            window: 300,
            ..SyntheticModel::default()
        };
        for arithmetic in MODES {
            let backend = |threads| backend(model(&shape), arithmetic, threads, 16);
            let expected = forward(backend(1), &tokens, &[900]);
            for (threads, chunks) in [(2, [899, 1].as_slice()), (3, &[250, 350, 297, 3])] {
                let got = forward(backend(threads), &tokens, chunks);
                assert!(
                    got.last() == expected.last(),
                    "{arithmetic:?}, {threads} threads, chunks {chunks:?}"
                );
            }
        }
    }
}

#[test]
fn every_level_computes_the_same_up_to_rounding() {
    let shape = SyntheticModel {
        width: 40,
        feed_forward_width: 52,
        ..SyntheticModel::default()
    };
    for arithmetic in MODES {
        let at = |level| {
            let (mut backend, blocks) = backend(model(&shape), arithmetic, 2, 4);
            backend.team.level = level;
            forward((backend, blocks), &TOKENS, &[10, 14])
        };
        let expected = at(Level::Portable);
        for level in Level::supported() {
            for (got, expected) in at(level).iter().zip(&expected) {
                check_close(got, expected, 1e-4);
            }
        }
    }
}

#[test]
fn rows_yield_as_many_logits_as_they_want() {
    for arithmetic in MODES {
        let shape = SyntheticModel::default();
        let single = forward(backend(model(&shape), arithmetic, 2, 4), &TOKENS, &[1; 24]);
        let (mut backend, blocks) = backend(model(&shape), arithmetic, 2, 4);
        let (first, second) = blocks.split_at(20);
        let row = |blocks, length, outputs| BatchRow {
            tokens: &TOKENS[..length],
            start: 0,
            blocks,
            outputs,
            adapter: None,
        };
        let logits = backend.forward(&[row(first, 24, 5), row(second, 20, 0)]);
        let got: Vec<_> = logits.rows().map(<[f32]>::to_vec).collect();
        assert!(got == single[19..]);
        let logits = backend.forward(&[row(first, 24, 0)]);
        assert_eq!(logits.rows().count(), 0);
        let logits = backend.forward(&[row(first, 24, 24), row(second, 3, 1)]);
        let got: Vec<_> = logits.rows().map(<[f32]>::to_vec).collect();
        assert!(got[..24] == single && got[24] == single[2]);
    }
}
