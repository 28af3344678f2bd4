//! Rotary positions: pairs of a head's numbers turn by an angle that grows with the token's position.

use crate::config::{ModelConfig, RopeStyle};

/// Cosines and sines for the tokens of a batch.
#[derive(Debug, Default)]
pub(crate) struct Angles {
    /// For each token and each pair of numbers.
    turns: Vec<(f32, f32)>,
    pairs: usize,
}

impl Angles {
    /// Computes the angles at `positions`.
    pub(crate) fn fill(&mut self, positions: &[usize], frequencies: &[f32]) {
        self.pairs = frequencies.len();
        self.turns.clear();
        for position in positions {
            self.turns.extend(frequencies.iter().map(|frequency| {
                let (sine, cosine) = (*position as f32 * frequency).sin_cos();
                (cosine, sine)
            }));
        }
    }

    /// Turns one head of a token of the batch.
    pub(crate) fn turn(&self, head: &mut [f32], token: usize, style: RopeStyle) {
        let turns = &self.turns[token * self.pairs..(token + 1) * self.pairs];
        for (pair, (cosine, sine)) in turns.iter().enumerate() {
            let (first, second) = match style {
                RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
                RopeStyle::Halves => (pair, pair + self.pairs),
            };
            let (x, y) = (head[first], head[second]);
            head[first] = x * cosine - y * sine;
            head[second] = y * cosine + x * sine;
        }
    }
}

/// The frequencies of the pairs: powers of the base, divided as the model says.
pub(crate) fn frequencies(
    config: &ModelConfig,
    base: f32,
    scale: f32,
    divisors: Option<&[f32]>,
) -> Vec<f32> {
    let pairs = config.rope_width / 2;
    let frequency = |pair: usize| {
        let exponent = 2.0 * pair as f64 / config.rope_width as f64;
        let divisor = divisors.map_or(1.0, |divisors| divisors[pair]);
        (1.0 / f64::from(base).powf(exponent)) as f32 / divisor / scale
    };
    (0..pairs).map(frequency).collect()
}

#[cfg(test)]
mod tests {
    use super::{Angles, frequencies};
    use crate::config::{ModelConfig, RopeStyle};
    use crate::gguf::GgufFile;
    use crate::synthetic::SyntheticModel;

    fn config() -> ModelConfig {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        SyntheticModel {
            width: 16,
            heads: 4,
            ..SyntheticModel::default()
        }
        .write(&path)
        .unwrap();
        ModelConfig::read(&GgufFile::open(&path).unwrap(), 261).unwrap()
    }

    #[test]
    fn scales_and_divisors_slow_the_turning() {
        let plain = frequencies(&config(), 10_000.0, 1.0, None);
        assert_eq!(plain, [1.0, 0.01]);
        assert_eq!(
            frequencies(&config(), 10_000.0, 8.0, None),
            [0.125, 0.00125]
        );
        assert_eq!(
            frequencies(&config(), 10_000.0, 1.0, Some(&[1.0, 4.0])),
            [1.0, 0.0025]
        );
    }

    #[track_caller]
    fn check(style: RopeStyle, expected: [f32; 4]) {
        let quarter = std::f32::consts::FRAC_PI_2;
        let mut angles = Angles::default();
        angles.fill(&[0, 1], &[quarter, 0.0]);
        let mut head = [1.0, 2.0, 3.0, 4.0];
        angles.turn(&mut head, 1, style);
        for (got, expected) in head.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{head:?}");
        }
    }

    #[test]
    fn pairs_turn_as_the_style_says() {
        check(RopeStyle::Interleaved, [-2.0, 1.0, 3.0, 4.0]);
        check(RopeStyle::Halves, [-3.0, 2.0, 1.0, 4.0]);
    }
}
