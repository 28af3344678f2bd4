//! What is done with a token's vector between matrix products: norms, sums, activations.

use crate::config::Activation;

use super::level::Level;
use super::simd::{Change, Kernel, Simd, change, exponential, run, sum};

/// Divides a vector by its root mean square and multiplies it with `weight`.
#[inline(always)]
pub(crate) fn normalize<S: Simd>(values: &mut [f32], weight: &[f32], epsilon: f32) {
    let mean = dot::<S>(values, values) / values.len() as f32;
    let scale = 1.0 / (mean + epsilon).sqrt();
    change::<S, 1>(values, [weight], &Scaled(scale));
}

struct Scaled(f32);

impl Change<1> for Scaled {
    #[inline(always)]
    fn of<S: Simd>(&self, value: S::Vector, [weight]: [S::Vector; 1]) -> S::Vector {
        S::multiply(S::multiply(value, S::splat(self.0)), weight)
    }
}

/// Adds one vector to another.
#[inline(always)]
pub(crate) fn add<S: Simd>(values: &mut [f32], added: &[f32]) {
    change::<S, 1>(values, [added], &Sum);
}

struct Sum;

impl Change<1> for Sum {
    #[inline(always)]
    fn of<S: Simd>(&self, value: S::Vector, [added]: [S::Vector; 1]) -> S::Vector {
        S::add(value, added)
    }
}

/// The dot product of two vectors of equal length.
#[inline(always)]
pub(crate) fn dot<S: Simd>(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = S::splat(0.0);
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks(), right.as_chunks());
    for (left, right) in left.iter().zip(right) {
        sums = S::multiply_add(S::load(left), S::load(right), sums);
    }
    let rest = left_rest.iter().zip(right_rest);
    sum::<S>(sums) + rest.fold(0.0, |sum, (left, right)| sum + left * right)
}

/// Puts `activation(gate) · up` in the place of `gate`. An activation is 2e-6 of itself away at most, and
/// 3e-7 where it is positive.
pub(crate) fn activate(level: Level, activation: Activation, gate: &mut [f32], up: &[f32]) {
    run(
        level,
        Activate {
            activation,
            gate,
            up,
        },
    );
}

struct Activate<'a> {
    activation: Activation,
    gate: &'a mut [f32],
    up: &'a [f32],
}

impl Kernel for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        match self.activation {
            Activation::Silu => change::<S, 1>(self.gate, [self.up], &SiluGate),
            Activation::Gelu => change::<S, 1>(self.gate, [self.up], &GeluGate),
        }
    }
}

struct SiluGate;

impl Change<1> for SiluGate {
    #[inline(always)]
    fn of<S: Simd>(&self, gate: S::Vector, [up]: [S::Vector; 1]) -> S::Vector {
        S::multiply(silu::<S>(gate), up)
    }
}

struct GeluGate;

impl Change<1> for GeluGate {
    #[inline(always)]
    fn of<S: Simd>(&self, gate: S::Vector, [up]: [S::Vector; 1]) -> S::Vector {
        S::multiply(gelu::<S>(gate), up)
    }
}

/// x·sigmoid(x).
#[inline(always)]
fn silu<S: Simd>(value: S::Vector) -> S::Vector {
    sigmoid_times::<S>(value, value)
}

/// The tanh approximation of x·Φ(x): x·sigmoid(2·√(2/π)·(x + 0.044715·x³)).
#[inline(always)]
fn gelu<S: Simd>(value: S::Vector) -> S::Vector {
    const TWICE_ROOT: f32 = 1.595_769;
    let square = S::multiply(value, value);
    let factor = S::multiply_add(
        square,
        S::splat(0.044_715 * TWICE_ROOT),
        S::splat(TWICE_ROOT),
    );
    sigmoid_times::<S>(S::multiply(value, factor), value)
}

/// `value · sigmoid(of)`.
#[inline(always)]
fn sigmoid_times<S: Simd>(of: S::Vector, value: S::Vector) -> S::Vector {
    let power = exponential::<S>(S::subtract(S::splat(0.0), of));
    S::divide(value, S::add(S::splat(1.0), power))
}

#[cfg(test)]
mod tests {
    use super::activate;
    use crate::config::Activation;
    use crate::cpu::level::Level;

    #[track_caller]
    fn check(activation: Activation, expected: impl Fn(f64) -> f64) {
        let inputs: Vec<f32> = (-80_000..=80_000)
            .map(|number| number as f32 / 1000.0)
            .collect();
        let mut outputs = inputs.clone();
        activate(
            Level::detect(),
            activation,
            &mut outputs,
            &vec![1.0; inputs.len()],
        );
        for (input, output) in inputs.iter().zip(outputs) {
            let expected = expected(f64::from(*input));
            let distance = (f64::from(output) - expected).abs();
            let relative = if expected < 0.0 { 2e-6 } else { 3e-7 };
            // Far below zero hardly anything is left.
            let allowed = relative * expected.abs() + 1e-9;
            assert!(distance <= allowed, "{input}: {output}, not {expected}");
        }
    }

    #[test]
    fn activations_are_as_near_as_they_say() {
        check(Activation::Silu, |value| value / (1.0 + (-value).exp()));
        check(Activation::Gelu, |value| {
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (value + 0.044_715 * value.powi(3));
            0.5 * value * (1.0 + inner.tanh())
        });
    }

    #[test]
    fn activations_of_huge_numbers_stay_numbers() {
        for activation in [Activation::Silu, Activation::Gelu] {
            let mut values = [-1e30, -1e4, 0.0, 1e4];
            activate(Level::detect(), activation, &mut values, &[1.0; 4]);
            assert!(
                values[0].abs() < 1e-6 && values[1].abs() < 1e-6,
                "{values:?}"
            );
            assert_eq!(values[2..], [0.0, 1e4]);
        }
    }
}
