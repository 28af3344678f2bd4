//! Matrices of floats: kept as they are, or quantized to 8 or 4 bits.

use half::f16;

use super::super::format::Format;
use super::super::{GROUP, STRIPE_ROWS};
use super::codes::Group;
use crate::quant::{TensorKind, dequantize};

/// Puts a row of floats beside those of the other rows; columns that fill the last tile stay zeros.
pub(super) fn keep<const BYTES: usize>(bytes: &[u8], row: usize, tiles: &mut [u8]) {
    let (values, _) = bytes.as_chunks::<BYTES>();
    let (places, _) = tiles.as_chunks_mut::<BYTES>();
    for (value, column) in values.iter().zip(places.chunks_exact_mut(STRIPE_ROWS)) {
        column[row] = *value;
    }
}

/// Quantizes a row of floats; columns that fill the last group count as zeros.
pub(super) fn quantize<'a>(
    kind: TensorKind,
    bytes: &[u8],
    row: usize,
    target: (impl Iterator<Item = &'a mut [u8]>, Format),
) {
    let (tiles, format) = target;
    for (bytes, tile) in bytes.chunks(kind.row_bytes(GROUP)).zip(tiles) {
        let mut values = [0.0; GROUP];
        dequantize(kind, bytes, &mut values[..bytes.len() / kind.block_bytes()]);
        let group = match format {
            Format::NibblesWithMinimum => to_nibbles(&values),
            Format::Nibbles
            | Format::Bytes
            | Format::BytesWithMinimum
            | Format::BytesInHalves
            | Format::Half
            | Format::Brain
            | Format::Single => to_bytes(&values),
        };
        group.write(row, tile);
    }
}

fn to_bytes(values: &[f32; GROUP]) -> Group {
    let largest = values
        .iter()
        .fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let scale = f16::from_f32(largest / 127.0);
    let inverse = inverse(scale);
    let code = |value: f32| (value * inverse).round_ties_even().clamp(-127.0, 127.0) as i16 + 128;
    Group::Bytes(values.map(|value| code(value) as u8), [scale, f16::ZERO])
}

fn to_nibbles(values: &[f32; GROUP]) -> Group {
    let (low, high) = values
        .iter()
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let minimum = f16::from_f32(low);
    let scale = f16::from_f32((high - minimum.to_f32()) / 15.0);
    let inverse = inverse(scale);
    let code = |value: f32| {
        ((value - minimum.to_f32()) * inverse)
            .round_ties_even()
            .clamp(0.0, 15.0) as u8
    };
    let pairs = std::array::from_fn(|index| code(values[index]) | (code(values[index + 16]) << 4));
    Group::Nibbles(pairs, [scale, minimum])
}

/// 1 / scale, or zero where everything is too small for a scale.
fn inverse(scale: f16) -> f32 {
    if scale == f16::ZERO {
        0.0
    } else {
        1.0 / scale.to_f32()
    }
}
