//! Rotary positions: pairs of a head's numbers turn by an angle that grows with the token's position.

use crate::config::{ModelConfig, RopeStyle};

use super::simd::{LANES, Simd};

/// Cosines and sines for the positions up to the highest one that was needed.
#[derive(Debug)]
pub(crate) struct Angles {
    style: RopeStyle,
    frequencies: Vec<f32>,
    /// For each position a cosine for each turning number, then a sine, negative for the first number of a pair.
    turns: Vec<f32>,
}

impl Angles {
    pub(crate) const fn new(style: RopeStyle, frequencies: Vec<f32>) -> Self {
        Self {
            style,
            frequencies,
            turns: Vec::new(),
        }
    }

    /// Bytes of the table.
    pub(crate) const fn bytes(&self) -> usize {
        self.turns.capacity() * size_of::<f32>()
    }

    const fn width(&self) -> usize {
        2 * self.frequencies.len()
    }

    /// The places in a head of a pair's numbers.
    const fn places(&self, pair: usize) -> (usize, usize) {
        match self.style {
            RopeStyle::Interleaved => (2 * pair, 2 * pair + 1),
            RopeStyle::Halves => (pair, pair + self.frequencies.len()),
        }
    }

    /// Extends the table to the positions below `length`.
    pub(crate) fn reach(&mut self, length: usize) {
        let width = self.width();
        let known = self.turns.len() / (2 * width).max(1);
        for position in known..length {
            let start = self.turns.len();
            self.turns.resize(start + 2 * width, 0.0);
            for pair in 0..self.frequencies.len() {
                let (first, second) = self.places(pair);
                let (sine, cosine) = (position as f32 * self.frequencies[pair]).sin_cos();
                let turns = &mut self.turns[start..];
                (turns[first], turns[second]) = (cosine, cosine);
                (turns[width + first], turns[width + second]) = (-sine, sine);
            }
        }
    }

    /// Turns one head of a token at a position that the table reaches.
    #[inline(always)]
    pub(crate) fn turn<S: Simd>(&self, head: &mut [f32], position: usize) {
        let width = self.width();
        let turns = &self.turns[2 * width * position..2 * width * (position + 1)];
        let (cosines, sines) = turns.split_at(width);
        let head = &mut head[..width];
        let half = self.frequencies.len();
        match self.style {
            RopeStyle::Interleaved if width.is_multiple_of(LANES) => {
                let turns = cosines.as_chunks().0.iter().zip(sines.as_chunks().0);
                for (numbers, (cosine, sine)) in head.as_chunks_mut().0.iter_mut().zip(turns) {
                    let own = S::load(numbers);
                    let other = S::swap_neighbours(own);
                    S::store(turned::<S>([own, other], cosine, sine), numbers);
                }
            }
            RopeStyle::Halves if half.is_multiple_of(LANES) => {
                let (first, second) = head.split_at_mut(half);
                let (first, second) = (first.as_chunks_mut().0, second.as_chunks_mut().0);
                let (cosines, sines) = (cosines.as_chunks().0, sines.as_chunks().0);
                for (index, (first, second)) in first.iter_mut().zip(second).enumerate() {
                    let (left, right) = (S::load(first), S::load(second));
                    let other = index + half / LANES;
                    let turned_left = turned::<S>([left, right], &cosines[index], &sines[index]);
                    S::store(turned_left, first);
                    let turned_right = turned::<S>([right, left], &cosines[other], &sines[other]);
                    S::store(turned_right, second);
                }
            }
            RopeStyle::Interleaved | RopeStyle::Halves => {
                for pair in 0..half {
                    let (first, second) = self.places(pair);
                    let (x, y) = (head[first], head[second]);
                    head[first] = x.mul_add(cosines[first], y * sines[first]);
                    head[second] = y.mul_add(cosines[second], x * sines[second]);
                }
            }
        }
    }
}

/// `own · cosine + other · sine`. No closure: those need not be inlined, see [`Change`](super::simd::Change).
#[inline(always)]
fn turned<S: Simd>(
    [own, other]: [S::Vector; 2],
    cosine: &[f32; LANES],
    sine: &[f32; LANES],
) -> S::Vector {
    S::multiply_add(own, S::load(cosine), S::multiply(other, S::load(sine)))
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
    use crate::cpu::level::Level;
    use crate::cpu::simd::{Kernel, Simd, run};
    use crate::synthetic::SyntheticModel;
    use crate::weights::Loaded;

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
        Loaded::open(&path).unwrap().model.config
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

    struct Turn<'a>(&'a Angles, &'a mut [f32], usize);

    impl Kernel for Turn<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self) {
            self.0.turn::<S>(self.1, self.2);
        }
    }

    #[track_caller]
    fn check(style: RopeStyle, expected: [f32; 4]) {
        let mut angles = Angles::new(style, vec![std::f32::consts::FRAC_PI_2, 0.0]);
        angles.reach(2);
        let mut head = [1.0, 2.0, 3.0, 4.0];
        run(Level::detect(), Turn(&angles, &mut head, 1));
        for (got, expected) in head.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-6, "{head:?}");
        }
    }

    #[test]
    fn pairs_turn_as_the_style_says() {
        check(RopeStyle::Interleaved, [-2.0, 1.0, 3.0, 4.0]);
        check(RopeStyle::Halves, [-3.0, 2.0, 1.0, 4.0]);
    }

    #[test]
    fn wide_heads_turn_as_narrow_ones_do() {
        for style in [RopeStyle::Interleaved, RopeStyle::Halves] {
            for pairs in [3, 8, 16, 24, 32] {
                let mut angles =
                    Angles::new(style, (1..=pairs).map(|pair| 1.0 / pair as f32).collect());
                angles.reach(3);
                angles.reach(8);
                let head: Vec<f32> = (0..2 * pairs + 5).map(|number| number as f32).collect();
                for level in Level::supported() {
                    let mut turned = head.clone();
                    run(level, Turn(&angles, &mut turned, 7));
                    for pair in 0..pairs {
                        let (first, second) = angles.places(pair);
                        let (sine, cosine) = (7.0 / (pair + 1) as f32).sin_cos();
                        let expected = [
                            head[first] * cosine - head[second] * sine,
                            head[second] * cosine + head[first] * sine,
                        ];
                        for (got, expected) in [turned[first], turned[second]].iter().zip(expected)
                        {
                            assert!((got - expected).abs() < 1e-4, "{level:?} {style:?} {pair}");
                        }
                    }
                    assert_eq!(turned[2 * pairs..], head[2 * pairs..]);
                }
            }
        }
    }
}
