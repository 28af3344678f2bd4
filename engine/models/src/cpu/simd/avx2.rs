//! Vectors in two registers of AVX2.
#![expect(unsafe_code, reason = "calling instructions of AVX2, FMA and F16C")]

use std::arch::x86_64::{
    __m128i, __m256, _CMP_LE_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_loadu_si128,
    _mm_storeu_si128, _mm256_add_epi32, _mm256_add_ps, _mm256_and_ps, _mm256_castsi256_ps,
    _mm256_cmp_ps, _mm256_cvtph_ps, _mm256_cvtps_epi32, _mm256_cvtps_ph, _mm256_div_ps,
    _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps,
    _mm256_permute_ps, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_slli_epi32,
    _mm256_storeu_ps, _mm256_sub_ps,
};

use super::{Kernel, LANES, Simd};

const HALF: usize = LANES / 2;
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

type Halves = [__m256; 2];

/// AVX2, FMA and F16C; only used inside [`run`].
pub(super) struct Avx2(());

/// Computes with AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx2>()
}

/// Functions of one expression each.
macro_rules! instructions {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name($($argument: $kind),*) -> $result {
            // SAFETY: this type is only used inside `run`, whose caller has seen that the processor has these
            // instructions; memory is accessed through references to as many numbers as the instructions take.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx2 {
    type Vector = Halves;

    const HAS_MANY_REGISTERS: bool = false;

    instructions! {
        fn splat(value: f32) -> Halves { [_mm256_set1_ps(value); 2] }
        fn load(values: &[f32; LANES]) -> Halves {
            [_mm256_loadu_ps(values.as_ptr()), _mm256_loadu_ps(values.as_ptr().add(HALF))]
        }
        fn load_half(values: &[u16; LANES]) -> Halves {
            [
                _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().cast::<__m128i>())),
                _mm256_cvtph_ps(_mm_loadu_si128(values.as_ptr().add(HALF).cast::<__m128i>())),
            ]
        }
        fn store(vector: Halves, values: &mut [f32; LANES]) -> () {{
            _mm256_storeu_ps(values.as_mut_ptr(), vector[0]);
            _mm256_storeu_ps(values.as_mut_ptr().add(HALF), vector[1]);
        }}
        fn store_half(vector: Halves, values: &mut [u16; LANES]) -> () {{
            let start = values.as_mut_ptr();
            _mm_storeu_si128(start.cast::<__m128i>(), _mm256_cvtps_ph::<0>(vector[0]));
            _mm_storeu_si128(start.add(HALF).cast::<__m128i>(), _mm256_cvtps_ph::<0>(vector[1]));
        }}
        fn add(left: Halves, right: Halves) -> Halves {
            [_mm256_add_ps(left[0], right[0]), _mm256_add_ps(left[1], right[1])]
        }
        fn subtract(left: Halves, right: Halves) -> Halves {
            [_mm256_sub_ps(left[0], right[0]), _mm256_sub_ps(left[1], right[1])]
        }
        fn multiply(left: Halves, right: Halves) -> Halves {
            [_mm256_mul_ps(left[0], right[0]), _mm256_mul_ps(left[1], right[1])]
        }
        fn divide(left: Halves, right: Halves) -> Halves {
            [_mm256_div_ps(left[0], right[0]), _mm256_div_ps(left[1], right[1])]
        }
        fn multiply_add(left: Halves, right: Halves, sum: Halves) -> Halves {
            [_mm256_fmadd_ps(left[0], right[0], sum[0]), _mm256_fmadd_ps(left[1], right[1], sum[1])]
        }
        fn highest_of(left: Halves, right: Halves) -> Halves {
            [_mm256_max_ps(left[0], right[0]), _mm256_max_ps(left[1], right[1])]
        }
        fn lowest_of(left: Halves, right: Halves) -> Halves {
            [_mm256_min_ps(left[0], right[0]), _mm256_min_ps(left[1], right[1])]
        }
        fn round(vector: Halves) -> Halves {
            [_mm256_round_ps::<NEAREST>(vector[0]), _mm256_round_ps::<NEAREST>(vector[1])]
        }
        fn power_of_two(vector: Halves) -> Halves {
            [power_of_two(vector[0]), power_of_two(vector[1])]
        }
        fn keep_from(kept: Halves, number: Halves, limit: Halves) -> Halves {
            [
                _mm256_and_ps(kept[0], _mm256_cmp_ps::<_CMP_LE_OQ>(limit[0], number[0])),
                _mm256_and_ps(kept[1], _mm256_cmp_ps::<_CMP_LE_OQ>(limit[1], number[1])),
            ]
        }
        fn swap_neighbours(vector: Halves) -> Halves {
            [
                _mm256_permute_ps::<0b10_11_00_01>(vector[0]),
                _mm256_permute_ps::<0b10_11_00_01>(vector[1]),
            ]
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn power_of_two(vector: __m256) -> __m256 {
    let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(vector), _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
}
