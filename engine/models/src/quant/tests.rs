//! Claims about block formats: numbers against hand-made blocks, and all types against the reference's output.

use serde::Deserialize;

use super::{TensorKind, blocks, dequantize};

#[test]
fn every_finite_half_float_is_exact() {
    for bits in 0..=u16::MAX {
        let expected = half::f16::from_bits(bits);
        if expected.is_finite() {
            let got = blocks::half_to_f32(bits.to_le_bytes());
            assert_eq!(
                got.to_bits(),
                expected.to_f32().to_bits(),
                "bits {bits:#06x}"
            );
        }
    }
}

/// Blocks of random bytes and the numbers that ggml's own Python package makes of them.
#[derive(Deserialize)]
struct Reference {
    kinds: Vec<ReferenceKind>,
}

#[derive(Deserialize)]
struct ReferenceKind {
    name: String,
    ggml: u32,
    bytes: Vec<u8>,
    /// The numbers' bits, because JSON rounds floats.
    bits: Vec<u32>,
}

#[test]
fn every_type_decodes_as_the_reference_does() {
    let reference: Reference =
        serde_json::from_str(include_str!("../../testdata/quant.json")).unwrap();
    assert_eq!(reference.kinds.len(), 11);
    for case in reference.kinds {
        let kind = TensorKind::from_ggml(case.ggml).unwrap();
        assert_eq!(
            case.bytes.len(),
            kind.row_bytes(case.bits.len()),
            "{}",
            case.name
        );
        let mut got = vec![0.0; case.bits.len()];
        dequantize(kind, &case.bytes, &mut got);
        for (index, (got, bits)) in got.iter().zip(&case.bits).enumerate() {
            let expected = f32::from_bits(*bits);
            let tolerance = expected.abs() * 1e-6;
            assert!(
                (got - expected).abs() <= tolerance,
                "{} {index}: {got} is not {expected}",
                case.name
            );
        }
    }
}
