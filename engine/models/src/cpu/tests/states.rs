//! Claims about what a backend holds: adapters, blocks that are copied, sleep.

use std::sync::Arc;

use engine_core::{AdapterId, BlockId};

use super::{MODES, TOKENS, backend, check_close, model, plain};
use crate::adapter::{Adapter, AdapterLayer, LowRank};
use crate::backend::{Backend, BatchRow, SleepLevel};
use crate::cpu::{Arithmetic, CpuBackend};
use crate::synthetic::SyntheticModel;

fn low_rank(rows: usize, columns: usize, seed: usize) -> Option<LowRank> {
    let number = |index: usize| ((index * 31 + seed * 17) % 23) as f32 / 230.0 - 0.05;
    Some(LowRank {
        a: (0..3 * columns).map(number).collect(),
        b: (0..3 * rows).map(|index| number(index + 5)).collect(),
        rank: 3,
    })
}

fn adapter(shape: &SyntheticModel, seed: usize) -> Adapter {
    let config = &model(shape).config;
    let (width, inner) = (config.width, config.feed_forward_width);
    let (queries, keys) = (config.query_width(), config.key_value_width());
    let layer = |index: usize| AdapterLayer {
        query: low_rank(queries, width, seed + index),
        key: low_rank(keys, width, seed + index + 1),
        value: low_rank(keys, width, seed + index + 2),
        attention_output: low_rank(width, queries, seed + index + 3),
        gate: low_rank(inner, width, seed + index + 4),
        up: low_rank(inner, width, seed + index + 5),
        down: low_rank(width, inner, seed + index + 6).filter(|_| index == 0),
    };
    Adapter {
        layers: (0..config.layers).map(layer).collect(),
    }
}

fn row(blocks: &[BlockId], adapter: Option<u32>) -> BatchRow<'_> {
    BatchRow {
        tokens: &TOKENS,
        start: 0,
        blocks,
        outputs: 1,
        adapter: adapter.map(AdapterId),
    }
}

fn logits(backend: &mut CpuBackend, rows: &[BatchRow<'_>]) -> Vec<Vec<f32>> {
    let logits = backend.forward(rows);
    logits.rows().map(<[f32]>::to_vec).collect()
}

#[test]
fn an_adapter_changes_its_own_rows_and_no_others() {
    for architecture in ["llama", "gemma3"] {
        let shape = SyntheticModel {
            architecture,
            ..SyntheticModel::default()
        };
        for arithmetic in MODES {
            let (mut backend, blocks) = backend(model(&shape), arithmetic, 2, 16);
            let parts: Vec<_> = blocks.chunks(2).collect();
            let plain = logits(&mut backend, &[row(parts[0], None)]);
            for id in [1, 2] {
                backend.add_adapter(AdapterId(id), Arc::new(adapter(&shape, id as usize)));
            }
            assert!(0 < backend.memory().adapters);
            let first = logits(&mut backend, &[row(parts[0], Some(1))]);
            let second = logits(&mut backend, &[row(parts[0], Some(2))]);
            assert!(first != plain && second != plain && first != second);
            let together = [Some(2), None, Some(1), Some(9), Some(2)];
            let rows: Vec<_> = parts.iter().zip(together).collect();
            let rows: Vec<_> = rows.iter().map(|(blocks, id)| row(blocks, *id)).collect();
            let expected = [&second, &plain, &first, &plain, &second].map(|one| one[0].clone());
            assert!(logits(&mut backend, &rows) == expected, "{arithmetic:?}");
            backend.remove_adapter(AdapterId(1));
            assert!(logits(&mut backend, &[row(parts[0], Some(1))]) == plain);
        }
    }
}

#[test]
fn an_adapter_computes_what_changed_matrices_do() {
    let shape = SyntheticModel::default();
    let adapter = adapter(&shape, 3);
    let expected = plain::forward_with(&model(&shape), &TOKENS, Some(&adapter));
    let (mut backend, blocks) = backend(model(&shape), Arithmetic::F32, 2, 16);
    backend.add_adapter(AdapterId(0), Arc::new(adapter));
    let got = logits(&mut backend, &[row(&blocks, Some(0))]);
    check_close(&got[0], expected.last().unwrap(), 1e-4);
}

#[test]
fn copied_blocks_continue_a_sequence_elsewhere() {
    for arithmetic in MODES {
        let shape = SyntheticModel::default();
        let (mut one, blocks) = backend(model(&shape), arithmetic, 2, 4);
        let (mut other, _) = backend(model(&shape), arithmetic, 1, 4);
        let expected = logits(&mut one, &[row(&blocks, None)]);
        let mut bytes = vec![0; one.block_bytes()];
        // The copies lie in the opposite order.
        let moved: Vec<_> = blocks[..5].iter().rev().copied().collect();
        for (from, to) in blocks.iter().zip(&moved) {
            one.read_block(*from, &mut bytes);
            other.write_block(*to, &bytes);
        }
        let moved: Vec<_> = moved.iter().chain(&blocks[5..]).copied().collect();
        let rest = BatchRow {
            tokens: &TOKENS[20..],
            start: 20,
            ..row(&moved, None)
        };
        assert!(logits(&mut other, &[rest]) == expected, "{arithmetic:?}");
    }
}

#[test]
fn a_backend_that_has_slept_answers_as_before() {
    for arithmetic in MODES {
        for level in [SleepLevel::Light, SleepLevel::Deep] {
            let shape = SyntheticModel::default();
            let (mut backend, blocks) = backend(model(&shape), arithmetic, 2, 16);
            let awake = backend.memory();
            let expected = logits(&mut backend, &[row(&blocks, None)]);
            backend.sleep(level);
            let asleep = backend.memory();
            assert_eq!((asleep.cache, asleep.weights), (0, 0));
            let nothing = logits(&mut backend, &[row(&blocks, None)]);
            assert_eq!(nothing, [vec![0.0; expected[0].len()]]);
            backend.wake().unwrap();
            assert_eq!(backend.memory().cache, awake.cache);
            assert_eq!(backend.memory().weights, awake.weights);
            assert!(logits(&mut backend, &[row(&blocks, None)]) == expected);
        }
    }
}

#[test]
fn blocks_are_as_large_as_they_are_planned() {
    for arithmetic in MODES {
        let model = model(&SyntheticModel::default());
        let planned = CpuBackend::cache_block_bytes(model.config(), 4, arithmetic);
        let (backend, _) = backend(model, arithmetic, 2, 4);
        assert_eq!(backend.block_bytes(), planned, "{arithmetic:?}");
        let cache = backend.memory().cache;
        assert!(
            0 < cache && cache.is_multiple_of(planned),
            "{arithmetic:?}: {cache}"
        );
    }
}
