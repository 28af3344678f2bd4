//! Vectors of sixteen floats: what loops are written with once, and compiled for each level of instructions.
//!
//! Every level computes the same bits: products are added with one rounding, and lanes are summed up in one order.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(test)]
mod tests;

use super::level::Level;

/// Floats in a vector.
pub(crate) const LANES: usize = 16;

/// Numbers below this have an exponential that is not a normal float; it counts as zero.
const EXPONENT_MIN: f32 = -87.0;
const EXPONENT_MAX: f32 = 88.0;

/// Operations on vectors of sixteen floats.
pub(crate) trait Simd {
    /// Sixteen floats.
    type Vector: Copy;

    /// Whether registers hold 24 vectors at a time, or only six.
    const HAS_MANY_REGISTERS: bool;

    fn splat(value: f32) -> Self::Vector;
    fn load(values: &[f32; LANES]) -> Self::Vector;
    /// Widens 16-bit floats.
    fn load_half(values: &[u16; LANES]) -> Self::Vector;
    fn store(vector: Self::Vector, values: &mut [f32; LANES]);
    /// Rounds to 16-bit floats, to the nearest even one.
    fn store_half(vector: Self::Vector, values: &mut [u16; LANES]);
    fn add(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    fn subtract(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    fn multiply(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    fn divide(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// `left · right + sum`, rounded once.
    fn multiply_add(left: Self::Vector, right: Self::Vector, sum: Self::Vector) -> Self::Vector;
    /// The higher of each two numbers; `right` where `left` is no number.
    fn highest_of(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// The lower of each two numbers; `right` where `left` is no number.
    fn lowest_of(left: Self::Vector, right: Self::Vector) -> Self::Vector;
    /// Rounds to the nearest whole number, to the even one of two.
    fn round(vector: Self::Vector) -> Self::Vector;
    /// Two to the power of whole numbers from -126 to 127.
    fn power_of_two(vector: Self::Vector) -> Self::Vector;
    /// `kept` where `number` is not below `limit`, and zero elsewhere.
    fn keep_from(kept: Self::Vector, number: Self::Vector, limit: Self::Vector) -> Self::Vector;
    /// Exchanges each even lane with the odd one behind it.
    fn swap_neighbours(vector: Self::Vector) -> Self::Vector;

    fn lanes(vector: Self::Vector) -> [f32; LANES] {
        let mut lanes = [0.0; LANES];
        Self::store(vector, &mut lanes);
        lanes
    }
}

/// A computation that is compiled for each level.
pub(crate) trait Kernel {
    /// What it gives.
    type Output;

    /// Computes. Implementations and what they call are `#[inline(always)]`: only so is it all compiled with the
    /// instructions of `S`.
    fn run<S: Simd>(self) -> Self::Output;
}

/// Computes with a level's instructions.
#[expect(
    unsafe_code,
    reason = "calling functions compiled for wider instructions"
)]
pub(crate) fn run<K: Kernel>(level: Level, kernel: K) -> K::Output {
    match level {
        Level::Portable => kernel.run::<portable::Portable>(),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: these levels are only made where the processor has AVX2, FMA and F16C.
        Level::Avx2 | Level::AvxVnni => unsafe { avx2::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: this level is only made where the processor has AVX-512 F, BW, DQ and VL.
        Level::Avx512 => unsafe { avx512::run(kernel) },
        // The compiler turns arrays into NEON's vectors, which every processor of the architecture has.
        #[cfg(target_arch = "aarch64")]
        Level::Neon => kernel.run::<portable::Portable>(),
    }
}

/// Adds the lanes up, halving their number each time.
#[inline(always)]
pub(crate) fn sum<S: Simd>(vector: S::Vector) -> f32 {
    fold(S::lanes(vector), |left, right| left + right)
}

/// The highest lane.
#[inline(always)]
pub(crate) fn highest<S: Simd>(vector: S::Vector) -> f32 {
    fold(S::lanes(vector), f32::max)
}

#[inline(always)]
fn fold(mut lanes: [f32; LANES], join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = LANES / 2;
    while 0 < half {
        for lane in 0..half {
            lanes[lane] = join(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// e to the power of each number, 2e-7 of it away at most; zero below -87, e^88 above 88.
///
/// Source: the polynomial of Cephes' `expf` (Moshier).
#[inline(always)]
pub(crate) fn exponential<S: Simd>(number: S::Vector) -> S::Vector {
    const POLYNOMIAL: [f32; 5] = [
        1.398_199_9e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ];
    let limit = S::splat(EXPONENT_MIN);
    let bounded = S::lowest_of(S::highest_of(number, limit), S::splat(EXPONENT_MAX));
    let whole = S::round(S::multiply(bounded, S::splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts, so that the difference is exact.
    let rest = S::multiply_add(whole, S::splat(-0.693_359_4), bounded);
    let rest = S::multiply_add(whole, S::splat(2.121_944_4e-4), rest);
    let mut sum = S::splat(1.987_569_1e-4);
    for factor in POLYNOMIAL {
        sum = S::multiply_add(sum, rest, S::splat(factor));
    }
    let square = S::multiply(rest, rest);
    let power = S::add(S::multiply_add(sum, square, rest), S::splat(1.0));
    let power = S::multiply(power, S::power_of_two(whole));
    S::keep_from(power, number, limit)
}

/// What becomes of a number and those of other slices at the same place.
///
/// Implementations are `#[inline(always)]`, which closures cannot be: one that is not inlined is compiled without the
/// level's instructions, and each of its operations becomes a call.
pub(crate) trait Change<const N: usize> {
    fn of<S: Simd>(&self, value: S::Vector, others: [S::Vector; N]) -> S::Vector;
}

/// Replaces a slice's numbers, 16 at a time, by what `change` makes of them and of those of `others`.
#[inline(always)]
pub(crate) fn change<S: Simd, const N: usize>(
    values: &mut [f32],
    others: [&[f32]; N],
    change: &impl Change<N>,
) {
    let length = values.len();
    let others = others.map(|other| &other[..length]);
    for start in (0..length).step_by(LANES) {
        let mut inputs = [S::splat(0.0); N];
        for (input, other) in inputs.iter_mut().zip(&others) {
            *input = first::<S>(&other[start..]);
        }
        let rest = &mut values[start..];
        let result = change.of::<S>(first::<S>(rest), inputs);
        if let Some(vector) = rest.first_chunk_mut() {
            S::store(result, vector);
        } else {
            rest.copy_from_slice(&S::lanes(result)[..rest.len()]);
        }
    }
}

/// The first 16 numbers, filled up with zeros.
#[inline(always)]
fn first<S: Simd>(values: &[f32]) -> S::Vector {
    match values.first_chunk() {
        Some(vector) => S::load(vector),
        None => S::load(&padded(values)),
    }
}

#[inline(always)]
fn padded(rest: &[f32]) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    lanes[..rest.len()].copy_from_slice(rest);
    lanes
}
