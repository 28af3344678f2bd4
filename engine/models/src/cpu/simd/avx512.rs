//! Vectors in one register of AVX-512.
#![expect(unsafe_code, reason = "calling instructions of AVX-512")]

use std::arch::x86_64::{
    __m256i, __m512, _CMP_LE_OQ, _mm256_loadu_si256, _mm256_storeu_si256, _mm512_add_epi32,
    _mm512_add_ps, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtph_ps, _mm512_cvtps_epi32,
    _mm512_cvtps_ph, _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_maskz_mov_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_permute_ps, _mm512_roundscale_ps,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_slli_epi32, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::{Kernel, LANES, Simd};

/// AVX-512 F; only used inside [`run`].
pub(super) struct Avx512(());

/// Computes with AVX-512.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
pub(super) fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run::<Avx512>()
}

/// Functions of one expression each.
macro_rules! instructions {
    ($(fn $name:ident($($argument:ident: $kind:ty),*) -> $result:ty { $body:expr })*) => {$(
        #[inline(always)]
        fn $name($($argument: $kind),*) -> $result {
            // SAFETY: this type is only used inside `run`, whose caller has seen that the processor has these
            // instructions; memory is accessed through references to as many numbers as the instruction takes.
            unsafe { $body }
        }
    )*};
}

impl Simd for Avx512 {
    type Vector = __m512;

    const HAS_MANY_REGISTERS: bool = true;

    instructions! {
        fn splat(value: f32) -> __m512 { _mm512_set1_ps(value) }
        fn load(values: &[f32; LANES]) -> __m512 { _mm512_loadu_ps(values.as_ptr()) }
        fn load_half(values: &[u16; LANES]) -> __m512 {
            _mm512_cvtph_ps(_mm256_loadu_si256(values.as_ptr().cast::<__m256i>()))
        }
        fn store(vector: __m512, values: &mut [f32; LANES]) -> () {
            _mm512_storeu_ps(values.as_mut_ptr(), vector)
        }
        fn store_half(vector: __m512, values: &mut [u16; LANES]) -> () {
            _mm256_storeu_si256(values.as_mut_ptr().cast::<__m256i>(), _mm512_cvtps_ph::<0>(vector))
        }
        fn add(left: __m512, right: __m512) -> __m512 { _mm512_add_ps(left, right) }
        fn subtract(left: __m512, right: __m512) -> __m512 { _mm512_sub_ps(left, right) }
        fn multiply(left: __m512, right: __m512) -> __m512 { _mm512_mul_ps(left, right) }
        fn divide(left: __m512, right: __m512) -> __m512 { _mm512_div_ps(left, right) }
        fn multiply_add(left: __m512, right: __m512, sum: __m512) -> __m512 {
            _mm512_fmadd_ps(left, right, sum)
        }
        fn highest_of(left: __m512, right: __m512) -> __m512 { _mm512_max_ps(left, right) }
        fn lowest_of(left: __m512, right: __m512) -> __m512 { _mm512_min_ps(left, right) }
        fn round(vector: __m512) -> __m512 { _mm512_roundscale_ps::<0>(vector) }
        fn power_of_two(vector: __m512) -> __m512 {
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(_mm512_add_epi32(
                _mm512_cvtps_epi32(vector),
                _mm512_set1_epi32(127),
            )))
        }
        fn keep_from(kept: __m512, number: __m512, limit: __m512) -> __m512 {
            _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(limit, number), kept)
        }
        fn swap_neighbours(vector: __m512) -> __m512 { _mm512_permute_ps::<0b10_11_00_01>(vector) }
    }
}
