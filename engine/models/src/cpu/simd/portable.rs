//! Vectors as arrays, for the instructions that every processor has.

use half::f16;

use super::{LANES, Simd};

/// Arrays of sixteen floats.
pub(super) struct Portable;

type Lanes = [f32; LANES];

#[inline(always)]
fn zip(left: Lanes, right: Lanes, join: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|lane| join(left[lane], right[lane]))
}

impl Simd for Portable {
    type Vector = Lanes;

    const HAS_MANY_REGISTERS: bool = false;

    #[inline(always)]
    fn splat(value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(values: &Lanes) -> Lanes {
        *values
    }

    #[inline(always)]
    fn load_half(values: &[u16; LANES]) -> Lanes {
        values.map(|bits| f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    fn store(vector: Lanes, values: &mut Lanes) {
        *values = vector;
    }

    #[inline(always)]
    fn store_half(vector: Lanes, values: &mut [u16; LANES]) {
        *values = vector.map(|value| f16::from_f32(value).to_bits());
    }

    #[inline(always)]
    fn add(left: Lanes, right: Lanes) -> Lanes {
        zip(left, right, |left, right| left + right)
    }

    #[inline(always)]
    fn subtract(left: Lanes, right: Lanes) -> Lanes {
        zip(left, right, |left, right| left - right)
    }

    #[inline(always)]
    fn multiply(left: Lanes, right: Lanes) -> Lanes {
        zip(left, right, |left, right| left * right)
    }

    #[inline(always)]
    fn divide(left: Lanes, right: Lanes) -> Lanes {
        zip(left, right, |left, right| left / right)
    }

    #[inline(always)]
    fn multiply_add(left: Lanes, right: Lanes, sum: Lanes) -> Lanes {
        std::array::from_fn(|lane| left[lane].mul_add(right[lane], sum[lane]))
    }

    #[inline(always)]
    fn highest_of(left: Lanes, right: Lanes) -> Lanes {
        zip(
            left,
            right,
            |left, right| if left > right { left } else { right },
        )
    }

    #[inline(always)]
    fn lowest_of(left: Lanes, right: Lanes) -> Lanes {
        zip(
            left,
            right,
            |left, right| if left < right { left } else { right },
        )
    }

    #[inline(always)]
    fn round(vector: Lanes) -> Lanes {
        vector.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn power_of_two(vector: Lanes) -> Lanes {
        vector.map(|power| f32::from_bits(((power as i32 + 127) << 23).cast_unsigned()))
    }

    #[inline(always)]
    fn keep_from(kept: Lanes, number: Lanes, limit: Lanes) -> Lanes {
        std::array::from_fn(|lane| {
            if limit[lane] <= number[lane] {
                kept[lane]
            } else {
                0.0
            }
        })
    }

    #[inline(always)]
    fn swap_neighbours(vector: Lanes) -> Lanes {
        std::array::from_fn(|lane| vector[lane ^ 1])
    }
}
