//! Rotary positions beyond the trained length: how models stretch them.
//!
//! Sources: the Llama 3.1 release for `llama3`; "YaRN: Efficient Context Window Extension" (Peng et al. 2023) for
//! `yarn`, with the rounding of its correction range as the model library has it, which models are trained with.

use std::f64::consts::PI;

/// How the frequencies of rotary positions are changed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scaling {
    /// Not at all.
    None,
    /// Positions are divided.
    Linear {
        /// By this.
        factor: f64,
    },
    /// Slow frequencies are divided, fast ones are not, and between them is a ramp.
    Llama3 {
        /// Divides slow frequencies.
        factor: f64,
        /// Frequencies below so many turns in the trained length are slow.
        low: f64,
        /// Frequencies above so many turns in the trained length are fast.
        high: f64,
        /// The length that the model was trained for at first.
        length: f64,
    },
    /// As `Llama3` with a ramp over pairs, and larger products of queries and keys.
    Yarn {
        /// Divides slow frequencies.
        factor: f64,
        /// Pairs that turn more often in the trained length are fast.
        fast: f64,
        /// Pairs that turn less often in the trained length are slow.
        slow: f64,
        /// The length that the model was trained for at first.
        length: f64,
        /// Multiplies queries and keys.
        magnitude: f64,
        /// Whether the ramp begins and ends at whole pairs.
        rounds: bool,
    },
}

impl Scaling {
    /// What positions are divided by.
    pub(super) const fn scale(&self) -> f32 {
        match self {
            Self::Linear { factor } => *factor as f32,
            Self::None | Self::Llama3 { .. } | Self::Yarn { .. } => 1.0,
        }
    }

    /// What products of queries and keys are multiplied by: both are turned and stretched.
    pub(super) const fn product_scale(&self) -> f32 {
        match self {
            Self::Yarn { magnitude, .. } => (*magnitude * *magnitude) as f32,
            Self::None | Self::Linear { .. } | Self::Llama3 { .. } => 1.0,
        }
    }

    /// What the frequency of each of `width / 2` pairs is divided by.
    pub(super) fn divisors(&self, width: usize, base: f32) -> Option<Vec<f32>> {
        let pairs = width / 2;
        let frequency = |pair: usize| 1.0 / f64::from(base).powf(2.0 * pair as f64 / width as f64);
        match *self {
            Self::None | Self::Linear { .. } => None,
            Self::Llama3 {
                factor,
                low,
                high,
                length,
            } => Some(
                (0..pairs)
                    .map(|pair| llama3_divisor(frequency(pair), factor, (low, high), length))
                    .collect(),
            ),
            Self::Yarn {
                factor,
                fast,
                slow,
                length,
                rounds,
                magnitude: _,
            } => {
                let place = |turns: f64| {
                    width as f64 * (length / (turns * 2.0 * PI)).ln() / (2.0 * f64::from(base).ln())
                };
                let (mut first, mut last) = (place(fast), place(slow));
                if rounds {
                    (first, last) = (first.floor(), last.ceil());
                }
                (first, last) = (first.max(0.0), last.min(width as f64 - 1.0));
                if (first - last).abs() < f64::EPSILON {
                    last += 0.001;
                }
                let divisor = |pair: usize| {
                    let ramp = ((pair as f64 - first) / (last - first)).clamp(0.0, 1.0);
                    (1.0 / (ramp / factor + (1.0 - ramp))) as f32
                };
                Some((0..pairs).map(divisor).collect())
            }
        }
    }
}

fn llama3_divisor(frequency: f64, factor: f64, (low, high): (f64, f64), length: f64) -> f32 {
    let turns = length * frequency / (2.0 * PI);
    if high < turns {
        return 1.0;
    }
    if turns < low {
        return factor as f32;
    }
    let smooth = (turns - low) / (high - low);
    (1.0 / ((1.0 - smooth) / factor + smooth)) as f32
}

/// The magnitude that yarn uses if a file names none.
pub(super) fn yarn_magnitude(factor: f64, weight: f64) -> f64 {
    if factor <= 1.0 {
        1.0
    } else {
        0.1 * weight * factor.ln() + 1.0
    }
}
