//! Claims about matrix products: the file's numbers are multiplied, and every instruction set computes the same bits.

mod speed;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;

use memmap2::Mmap;

use super::{
    Activations, Forms, GROUP, Gated, Level, Output, PAIR_ROWS, Packed, Parts, Product, Source,
    multiply, multiply_gated, pack_all,
};
use crate::cpu::{Arithmetic, FloatWeights};
use crate::quant::{TensorKind, dequantize};
use crate::weights::{Matrix, Place, Tensors};

const KINDS: [TensorKind; 11] = [
    TensorKind::F32,
    TensorKind::F16,
    TensorKind::BF16,
    TensorKind::Q4_0,
    TensorKind::Q4_1,
    TensorKind::Q5_0,
    TensorKind::Q5_1,
    TensorKind::Q8_0,
    TensorKind::Q4_K,
    TensorKind::Q5_K,
    TensorKind::Q6_K,
];

/// Numbers that only look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as u32
    }

    /// From −1 to 1.
    fn float(&mut self) -> f32 {
        self.next() as f32 / (1_u64 << 30) as f32 - 1.0
    }

    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }
}

/// The places of 16-bit floats in a block.
fn halves_of(kind: TensorKind) -> &'static [usize] {
    match kind {
        TensorKind::Q4_0 | TensorKind::Q5_0 | TensorKind::Q8_0 => &[0],
        TensorKind::Q4_1 | TensorKind::Q5_1 | TensorKind::Q4_K | TensorKind::Q5_K => &[0, 2],
        TensorKind::Q6_K => &[208],
        TensorKind::F32 | TensorKind::F16 | TensorKind::BF16 => &[],
    }
}

/// A row's bytes; with `code`, all integers have all their bits as in it.
fn random_row(kind: TensorKind, columns: usize, random: &mut Random, code: Option<u8>) -> Vec<u8> {
    match kind {
        TensorKind::F32 => (0..columns)
            .flat_map(|_| random.float().to_le_bytes())
            .collect(),
        TensorKind::F16 => (0..columns)
            .flat_map(|_| half::f16::from_f32(random.float()).to_le_bytes())
            .collect(),
        TensorKind::BF16 => (0..columns)
            .flat_map(|_| half::bf16::from_f32(random.float()).to_le_bytes())
            .collect(),
        _ => {
            let mut bytes: Vec<u8> = (0..kind.row_bytes(columns))
                .map(|_| code.unwrap_or((random.next() >> 8) as u8))
                .collect();
            for block in bytes.chunks_exact_mut(kind.block_bytes()) {
                for place in halves_of(kind) {
                    let scale = half::f16::from_f32(random.float() * 0.01);
                    block[*place..*place + 2].copy_from_slice(&scale.to_le_bytes());
                }
            }
            bytes
        }
    }
}

fn matrix_of(kind: TensorKind, (rows, columns): (usize, usize), bytes: &[u8]) -> Matrix {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    // SAFETY: nobody else has this file.
    let data = unsafe { Mmap::map(&file) }.unwrap();
    let place = Place {
        data: Arc::new(data),
        kind: Ok(kind),
        shape: vec![rows, columns],
        bytes: 0..bytes.len(),
    };
    let places = HashMap::from([("matrix".to_owned(), place)]);
    Tensors::new(places, bytes.len() as u64)
        .matrix("matrix", rows, columns)
        .unwrap()
}

fn random_matrix(kind: TensorKind, shape: (usize, usize), code: Option<u8>) -> Matrix {
    let mut random = Random(shape.0 as u64 * 31 + shape.1 as u64 + u64::from(kind.to_ggml()));
    let bytes: Vec<u8> = (0..shape.0)
        .flat_map(|_| random_row(kind, shape.1, &mut random, code))
        .collect();
    matrix_of(kind, shape, &bytes)
}

fn pack(matrix: &Matrix, arithmetic: Arithmetic, float_weights: FloatWeights) -> Packed {
    let source = Source {
        matrix,
        is_exact: false,
    };
    pack_source(source, arithmetic, float_weights)
}

/// Packs a matrix that multiplies integers together with what they leave over.
fn pack_exact(matrix: &Matrix) -> Packed {
    let source = Source {
        matrix,
        is_exact: true,
    };
    pack_source(source, Arithmetic::Int8, FloatWeights::Keep)
}

fn pack_source(source: Source<'_>, arithmetic: Arithmetic, float_weights: FloatWeights) -> Packed {
    let mut run = |chunks: usize, work: &(dyn Fn(usize) + Sync)| (0..chunks).for_each(work);
    pack_all(&[source], arithmetic, float_weights, &mut run)
        .unwrap()
        .remove(0)
}

/// The product, computed in chunks of some rows.
fn product(level: Level, matrix: &Packed, input: &[f32], chunk_rows: usize) -> Vec<f32> {
    let mut activations = Activations::default();
    activations.prepare(level, input, matrix.columns(), matrix.forms());
    product_of(level, matrix, &activations, chunk_rows)
}

fn product_of(
    level: Level,
    matrix: &Packed,
    activations: &Activations,
    chunk_rows: usize,
) -> Vec<f32> {
    let mut output = vec![f32::NAN; activations.tokens() * matrix.rows()];
    let parts = Parts::new(&mut output);
    let product = Product {
        matrix,
        bias: None,
        input: activations,
        output: &parts,
        mode: Output::Set,
    };
    let mut scratch = Vec::new();
    for first in (0..matrix.rows()).step_by(chunk_rows) {
        let rows = first..(first + chunk_rows).min(matrix.rows());
        multiply(level, &product, rows, &mut scratch);
    }
    output
}

/// The product in 64-bit floats, with activations rounded as integers if they become integers.
fn expected(matrix: &Matrix, input: &[f32], rounds: bool) -> Vec<f64> {
    let columns = matrix.columns();
    let mut weights = vec![0.0; matrix.rows() * columns];
    dequantize(
        matrix.kind(),
        matrix.row_bytes(0..matrix.rows()),
        &mut weights,
    );
    let round = |group: &[f32]| {
        let mut sizes: Vec<f32> = group.iter().map(|value| value.abs()).collect();
        sizes.sort_by(f32::total_cmp);
        let (largest, second) = match sizes[..] {
            [.., second, largest] => (largest, second),
            [largest] => (largest, 0.0),
            [] => (0.0, 0.0),
        };
        let scale = f64::from(second.max(largest / 256.0) / 127.0).max(1e-300);
        group
            .iter()
            .map(|value| match rounds {
                true => (f64::from(*value) / scale).round() * scale,
                false => f64::from(*value),
            })
            .collect::<Vec<_>>()
    };
    input
        .chunks_exact(columns)
        .flat_map(|input| {
            let input: Vec<f64> = input.chunks(GROUP).flat_map(round).collect();
            let dot = |row: &[f32]| {
                row.iter()
                    .zip(&input)
                    .map(|(weight, value)| f64::from(*weight) * value)
                    .sum()
            };
            weights.chunks_exact(columns).map(dot).collect::<Vec<f64>>()
        })
        .collect()
}

fn norm<'a>(values: impl Iterator<Item = &'a f64>) -> f64 {
    values.map(|value| value * value).sum::<f64>().sqrt()
}

/// The error of a product as a share of its size.
fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let errors: Vec<f64> = got
        .iter()
        .zip(expected)
        .map(|(got, expected)| f64::from(*got) - expected)
        .collect();
    norm(errors.iter()) / norm(expected.iter()).max(1e-30)
}

#[test]
fn packed_integers_are_those_of_the_file() {
    for kind in KINDS {
        let matrix = random_matrix(kind, (40, 512), None);
        let packed = pack(&matrix, Arithmetic::Int8, FloatWeights::Keep);
        let input = Random(7).floats(3 * 512);
        let got = product(Level::Portable, &packed, &input, PAIR_ROWS);
        // Scales of K-quants are rounded to 16 bits.
        let bound = match kind {
            TensorKind::Q4_K | TensorKind::Q5_K | TensorKind::Q6_K => 4e-4,
            _ => 1e-5_f64,
        };
        let error = relative_error(&got, &expected(&matrix, &input, rounds(&packed)));
        let bound = if packed.forms().remainders {
            bound.max(REMAINDERS)
        } else {
            bound
        };
        assert!(error < bound, "{kind:?}: {error}");
    }
}

/// What remainders leave over.
const REMAINDERS: f64 = 5e-5;

/// Whether a matrix multiplies activations of 8 bits.
fn rounds(matrix: &Packed) -> bool {
    let forms = matrix.forms();
    forms.integers && !forms.remainders
}

#[test]
fn remainders_make_activations_exact() {
    for kind in [TensorKind::Q4_0, TensorKind::Q4_1] {
        let matrix = random_matrix(kind, (64, 256), None);
        let (rounded, exact) = (
            pack(&matrix, Arithmetic::Int8, FloatWeights::Keep),
            pack_exact(&matrix),
        );
        for tokens in [1, 5, 8, 9, 16, 37] {
            let input = Random(tokens as u64).floats(tokens * 256);
            let floats = expected(&matrix, &input, false);
            for level in Level::supported() {
                let got = product(level, &exact, &input, 32);
                let error = relative_error(&got, &floats);
                assert!(error < REMAINDERS, "{kind:?} {level:?}: {error}");
                // A matrix beside it that rounds does not see them.
                let mut activations = Activations::default();
                activations.prepare(level, &input, 256, Forms::of([&rounded, &exact]));
                assert_eq!(product_of(level, &exact, &activations, 64), got);
                assert_eq!(
                    product_of(level, &rounded, &activations, 64),
                    product(level, &rounded, &input, 64)
                );
            }
        }
    }
}

/// With one scale for integers of 8 bits, the others would all be rounded to zero.
#[test]
fn a_large_activation_takes_no_bits_from_its_neighbours() {
    let matrix = random_matrix(TensorKind::Q4_0, (64, 256), None);
    let packed = pack(&matrix, Arithmetic::Int8, FloatWeights::Keep);
    let mut input = Random(11).floats(256);
    for group in input.chunks_exact_mut(GROUP) {
        group[9] = 250.0;
    }
    // What the large ones alone add is known: their place is the only one that is not zero.
    let large: Vec<f32> = (0..256)
        .map(|column| if column % GROUP == 9 { 250.0 } else { 0.0 })
        .collect();
    let rest: Vec<f32> = input
        .iter()
        .zip(&large)
        .map(|(all, large)| all - large)
        .collect();
    for level in Level::supported() {
        let [all, large] = [&input, &large].map(|input| product(level, &packed, input, 64));
        let got: Vec<f32> = all
            .iter()
            .zip(large)
            .map(|(all, large)| all - large)
            .collect();
        let error = relative_error(&got, &expected(&matrix, &rest, false));
        assert!(error < 0.02, "{level:?}: {error}");
    }
}

#[test]
fn every_level_computes_the_same_bits() {
    let codes = [None, Some(0), Some(0xff), Some(0x80), Some(0x7f)];
    for kind in KINDS {
        for (rows, columns) in [(1, 256), (16, 256), (37, 512), (48, 768)] {
            for code in codes {
                let matrix = random_matrix(kind, (rows, columns), code);
                for float_weights in [
                    FloatWeights::Keep,
                    FloatWeights::Quantize8,
                    FloatWeights::Quantize4,
                ] {
                    let packed = pack(&matrix, Arithmetic::Int8, float_weights);
                    check_levels(&packed, kind);
                }
                check_levels(&pack_exact(&matrix), kind);
            }
        }
    }
}

fn check_levels(matrix: &Packed, kind: TensorKind) {
    for tokens in [1, 3, 35] {
        let mut input = Random(tokens).floats(tokens as usize * matrix.columns());
        // Groups of extreme integers, of zeros, and of numbers too small for a scale.
        input[..32].fill(-1.0);
        input[32..64].fill(1.0);
        input[64..96].fill(0.0);
        input[96..128].fill(1e-38);
        // Wide integers in either half, alone, negative, and as wide as they get.
        input[128 + 5] = 30.0;
        input[160 + 30] = -1000.0;
        input[192..224].fill(0.0);
        input[192 + 17] = -7.0;
        input[224 + 31] = 1e9;
        let expected = product(Level::Portable, matrix, &input, 1024);
        for level in Level::supported() {
            let got = product(level, matrix, &input, 32);
            let same = got
                .iter()
                .zip(&expected)
                .all(|(got, expected)| got.to_bits() == expected.to_bits());
            assert!(
                same,
                "{kind:?} {level:?} {tokens} tokens: {got:?} is not {expected:?}"
            );
        }
    }
}

#[test]
fn a_token_is_computed_alike_alone_and_among_others() {
    for kind in KINDS {
        let matrix = random_matrix(kind, (80, 512), None);
        for packed in [
            pack(&matrix, Arithmetic::Int8, FloatWeights::Keep),
            pack_exact(&matrix),
            pack(&matrix, Arithmetic::F32, FloatWeights::Keep),
        ] {
            let forms = packed.forms();
            let input = Random(3).floats(41 * 512);
            let level = Level::detect();
            let together = product(level, &packed, &input, 32);
            for token in [0, 7, 15, 16, 39, 40] {
                let alone = product(level, &packed, &input[token * 512..(token + 1) * 512], 80);
                assert_eq!(
                    alone,
                    together[token * 80..(token + 1) * 80],
                    "{kind:?} {forms:?}"
                );
            }
            for tokens in 1..20 {
                let some = product(level, &packed, &input[..tokens * 512], 64);
                assert_eq!(some, together[..tokens * 80], "{kind:?} {forms:?}");
            }
        }
    }
}

#[test]
fn columns_need_not_fill_groups_where_weights_are_floats() {
    for kind in [TensorKind::F32, TensorKind::F16, TensorKind::BF16] {
        for (float_weights, bound) in [
            (FloatWeights::Keep, 1e-6),
            (FloatWeights::Quantize8, 0.01),
            (FloatWeights::Quantize4, 0.1),
        ] {
            for columns in [1, 31, 33, 100] {
                let matrix = random_matrix(kind, (19, columns), None);
                let packed = pack(&matrix, Arithmetic::Int8, float_weights);
                let input = Random(5).floats(3 * columns);
                for level in Level::supported() {
                    let got = product(level, &packed, &input, 32);
                    let expected = expected(&matrix, &input, rounds(&packed));
                    let error = relative_error(&got, &expected);
                    assert!(
                        error < bound,
                        "{kind:?} {float_weights:?} {columns} columns {level:?}: {error}"
                    );
                }
            }
        }
    }
}

#[test]
fn floats_in_the_file_are_multiplied_as_they_are() {
    for kind in KINDS {
        let matrix = random_matrix(kind, (21, 512), None);
        let packed = pack(&matrix, Arithmetic::F32, FloatWeights::Keep);
        let input = Random(9).floats(5 * 512);
        for level in Level::supported() {
            let error = relative_error(
                &product(level, &packed, &input, 32),
                &expected(&matrix, &input, false),
            );
            assert!(error < 1e-6, "{kind:?} {level:?}: {error}");
        }
    }
}

#[test]
fn a_product_adds_its_bias_and_what_is_there() {
    let packed = pack(
        &random_matrix(TensorKind::Q4_1, (40, 256), None),
        Arithmetic::Int8,
        FloatWeights::Keep,
    );
    let (level, input) = (Level::detect(), Random(2).floats(2 * 256));
    let plain = product(level, &packed, &input, 64);
    let bias: Vec<f32> = (0..40).map(|row| row as f32).collect();
    let mut output = vec![1000.0; 80];
    let mut activations = Activations::default();
    activations.prepare(level, &input, 256, packed.forms());
    let parts = Parts::new(&mut output);
    let product = Product {
        matrix: &packed,
        bias: Some(&bias),
        input: &activations,
        output: &parts,
        mode: Output::Add,
    };
    multiply(level, &product, 0..40, &mut Vec::new());
    for (place, (got, plain)) in output.iter().zip(&plain).enumerate() {
        assert_eq!(*got, 1000.0 + (plain + bias[place % 40]));
    }
}

#[test]
fn a_gated_product_is_the_combination_of_two() {
    for (kind, arithmetic) in [
        (TensorKind::Q4_K, Arithmetic::Int8),
        (TensorKind::F16, Arithmetic::Int8),
        (TensorKind::Q8_0, Arithmetic::F32),
    ] {
        let gate = pack(
            &random_matrix(kind, (96, 256), None),
            arithmetic,
            FloatWeights::Keep,
        );
        let up = pack(
            &random_matrix(kind, (96, 256), Some(0x53)),
            arithmetic,
            FloatWeights::Keep,
        );
        let down = pack(
            &random_matrix(TensorKind::Q4_1, (16, 96), None),
            arithmetic,
            FloatWeights::Keep,
        );
        let (level, input) = (Level::detect(), Random(4).floats(21 * 256));
        let combined: Vec<f32> = product(level, &gate, &input, 96)
            .iter()
            .zip(product(level, &up, &input, 96))
            .map(|(gate, up)| gate.max(0.0) * up)
            .collect();
        let expected = product(level, &down, &combined, 16);

        let (mut activations, mut hidden) = (Activations::default(), Activations::default());
        activations.prepare(level, &input, 256, gate.forms());
        hidden.reset(21, 96, down.forms());
        let slots = hidden.slots();
        let gated = Gated {
            gate: &gate,
            up: &up,
            gate_bias: None,
            up_bias: None,
            input: &activations,
            combine: &|gate, up| {
                gate.iter_mut()
                    .zip(up)
                    .for_each(|(gate, up)| *gate = gate.max(0.0) * up);
            },
            output: &slots,
        };
        let mut scratch = Vec::new();
        multiply_gated(level, &gated, 0..64, &mut scratch);
        multiply_gated(level, &gated, 64..96, &mut scratch);
        let mut output = vec![0.0; 21 * 16];
        let parts = Parts::new(&mut output);
        let product = Product {
            matrix: &down,
            bias: None,
            input: &hidden,
            output: &parts,
            mode: Output::Set,
        };
        multiply(level, &product, 0..16, &mut scratch);
        assert_eq!(output, expected, "{kind:?} {arithmetic:?}");
    }
}
