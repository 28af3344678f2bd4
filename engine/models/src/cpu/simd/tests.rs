//! Claims about vectors: every level computes the same bits, and exponentials are as near as they say.

use super::{Change, Kernel, LANES, Level, Simd, change, exponential, first, highest, run, sum};

fn numbers(count: usize) -> Vec<f32> {
    (0..count)
        .map(|index| ((index * 7919) % 1000) as f32 / 37.0 - 13.0)
        .collect()
}

/// A bit of everything.
struct Everything<'a>(&'a [f32]);

impl Kernel for Everything<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn run<S: Simd>(self) -> Vec<u32> {
        let mut out = Vec::new();
        let mut bits = |vector: S::Vector| out.extend(S::lanes(vector).map(f32::to_bits));
        let third = S::splat(1.0 / 3.0);
        for start in (0..self.0.len()).step_by(LANES) {
            let vector = first::<S>(&self.0[start..]);
            bits(exponential::<S>(vector));
            bits(S::multiply_add(vector, third, S::splat(0.1)));
            bits(S::divide(S::subtract(vector, third), S::splat(7.0)));
            bits(S::swap_neighbours(S::round(vector)));
            bits(S::lowest_of(S::highest_of(vector, third), S::splat(2.0)));
            bits(S::splat(sum::<S>(vector)));
            bits(S::splat(highest::<S>(vector)));
            let mut halves = [0; LANES];
            S::store_half(vector, &mut halves);
            bits(S::load_half(&halves));
        }
        let mut changed = self.0.to_vec();
        change::<S, 1>(&mut changed, [self.0], &ThirdAnd);
        out.extend(changed.into_iter().map(f32::to_bits));
        out
    }
}

struct ThirdAnd;

impl Change<1> for ThirdAnd {
    #[inline(always)]
    fn of<S: Simd>(&self, value: S::Vector, [other]: [S::Vector; 1]) -> S::Vector {
        S::add(S::multiply(value, S::splat(1.0 / 3.0)), other)
    }
}

#[test]
fn every_level_computes_the_same_bits() {
    for count in [0, 1, 15, 16, 17, 100] {
        let numbers = numbers(count);
        let expected = run(Level::Portable, Everything(&numbers));
        for level in Level::supported() {
            assert_eq!(run(level, Everything(&numbers)), expected, "{level:?}");
        }
    }
}

struct Exponentials<'a>(&'a mut [f32]);

impl Kernel for Exponentials<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        change::<S, 0>(self.0, [], &Exponential);
    }
}

struct Exponential;

impl Change<0> for Exponential {
    #[inline(always)]
    fn of<S: Simd>(&self, value: S::Vector, []: [S::Vector; 0]) -> S::Vector {
        exponential::<S>(value)
    }
}

#[test]
fn exponentials_are_two_in_ten_million_away_at_most() {
    let inputs: Vec<f32> = (-86_999..88_000)
        .map(|number| number as f32 / 1000.0)
        .collect();
    let mut outputs = inputs.clone();
    run(Level::detect(), Exponentials(&mut outputs));
    for (input, output) in inputs.iter().zip(&outputs) {
        let expected = f64::from(*input).exp();
        let distance = (f64::from(*output) - expected).abs() / expected;
        assert!(distance < 2e-7, "{input}: {output}, not {expected}");
    }
    let mut edges = [f32::NEG_INFINITY, -1e30, -87.1, 0.0];
    run(Level::detect(), Exponentials(&mut edges));
    assert_eq!(edges, [0.0, 0.0, 0.0, 1.0]);
}
