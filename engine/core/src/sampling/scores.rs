//! Arithmetic over a whole vocabulary, in loops that compilers turn into vector instructions.
//!
//! A vocabulary has 50,000 to 260,000 tokens and is looked at for each token of each answer, so nothing here
//! allocates, sorts or calls `exp` for tokens that cannot matter.

use std::cmp::Ordering;

use crate::TokenId;

/// Values that are looked at together.
const LANES: usize = 32;
/// Values that are summed in 32 bits before the sum goes on in 64.
const SUM_CHUNK: usize = 4096;

/// A token and its score.
pub(super) type Scored = (TokenId, f32);

/// The highest value; minus infinity if there is none, NaN counts as none.
pub(super) fn highest(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *lane < *value { *value } else { *lane };
        }
    }
    let all = lanes.iter().chain(rest);
    all.fold(
        f32::NEG_INFINITY,
        |best, value| {
            if best < *value { *value } else { best }
        },
    )
}

/// The first token with the highest value.
pub(super) fn likeliest(values: &[f32]) -> Option<TokenId> {
    let best = highest(values);
    if best == f32::NEG_INFINITY {
        return None;
    }
    let (chunks, _) = values.as_chunks::<LANES>();
    let has_best = |chunk: &[f32; LANES]| {
        let hits = chunk.iter().map(|value| u32::from(*value == best));
        hits.sum::<u32>() != 0
    };
    let start = chunks.iter().position(has_best).unwrap_or(chunks.len()) * LANES;
    let place = values[start..].iter().position(|value| *value == best)?;
    Some((start + place) as TokenId)
}

/// How many values are above `value`.
pub(super) fn count_above(values: &[f32], value: f32) -> usize {
    values
        .iter()
        .map(|other| u32::from(value < *other))
        .sum::<u32>() as usize
}

/// e to the power of `value`, which is at most 0, within 6e-7 of itself (1.5e-7 more for each power of e below 1); 0
/// where it is below 1e-37.
#[inline]
pub(super) fn exp(value: f32) -> f32 {
    /// Adding it rounds to a whole number, which is then in the lowest bits.
    const ROUNDING: f32 = 12_582_912.0;
    const LEAST: f32 = -125.0;
    let power = value * std::f32::consts::LOG2_E;
    let clamped = if LEAST < power { power } else { LEAST };
    let shifted = clamped + ROUNDING;
    let rest = clamped - (shifted - ROUNDING);
    // The series of 2^rest for -0.5 to 0.5.
    let series = 1.0
        + rest
            * (std::f32::consts::LN_2
                + rest
                    * (0.240_226_5
                        + rest
                            * (0.055_504_11
                                + rest
                                    * (0.009_618_129
                                        + rest * (0.001_333_356 + rest * 0.000_154_035_3)))));
    let scaled = f32::from_bits(series.to_bits().wrapping_add(shifted.to_bits() << 23));
    if LEAST < power { scaled } else { 0.0 }
}

/// Writes the weight of each value relative to `highest` at a temperature of 1 / `sharpness`, 0 for values below
/// `floor`, and returns the sum.
pub(super) fn weigh(
    values: &[f32],
    highest: f32,
    sharpness: f32,
    floor: f32,
    weights: &mut Vec<f32>,
) -> f64 {
    weights.clear();
    weights.extend(values.iter().map(|value| {
        let weight = exp((value - highest) * sharpness);
        if floor <= *value { weight } else { 0.0 }
    }));
    sum(weights)
}

/// The sum of many values.
pub(super) fn sum(values: &[f32]) -> f64 {
    values
        .chunks(SUM_CHUNK)
        .map(|chunk| f64::from(sum_short(chunk)))
        .sum()
}

fn sum_short(values: &[f32]) -> f32 {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    lanes.iter().chain(rest).sum()
}

/// The logarithm of the sum of the exponentials.
pub(super) fn log_sum_exp(values: &[f32]) -> f32 {
    let best = highest(values);
    if best == f32::NEG_INFINITY {
        return best;
    }
    let mut total = 0.0;
    for part in values.chunks(SUM_CHUNK) {
        let (chunks, rest) = part.as_chunks::<LANES>();
        let mut lanes = [0.0; LANES];
        for chunk in chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += exp(value - best);
            }
        }
        let rest: f32 = rest.iter().map(|value| exp(value - best)).sum();
        total += f64::from(lanes.iter().sum::<f32>() + rest);
    }
    best + total.ln() as f32
}

/// The order of scores: the best first, the lower token of equals first.
pub(super) fn by_score(left: &Scored, right: &Scored) -> Ordering {
    right.1.total_cmp(&left.1).then(left.0.cmp(&right.0))
}

/// Puts the `count` best tokens into `out`, best first; minus infinity and NaN are never among them.
///
/// The best value of each of many chunks bounds what has to be looked at: `count` of them are at least as high as
/// the `count`-th highest of them, so everything lower is out.
pub(super) fn top(values: &[f32], count: usize, out: &mut Vec<Scored>) {
    out.clear();
    let mut bound = f32::MIN;
    let chunks = values.len() / LANES;
    if 0 < count && count <= chunks / 2 {
        let (chunks, _) = values.as_chunks::<LANES>();
        let mut maxima: Vec<f32> = chunks.iter().map(|chunk| highest(chunk)).collect();
        let (_, nth, _) =
            maxima.select_nth_unstable_by(count - 1, |left, right| right.total_cmp(left));
        bound = nth.max(f32::MIN);
    }
    for (index, chunk) in values.chunks(LANES).enumerate() {
        if highest(chunk) < bound {
            continue;
        }
        let tokens = (index * LANES) as TokenId..;
        out.extend(
            tokens
                .zip(chunk.iter().copied())
                .filter(|(_, value)| bound <= *value),
        );
    }
    if count < out.len() {
        out.select_nth_unstable_by(count, by_score);
        out.truncate(count);
    }
    out.sort_unstable_by(by_score);
}

#[cfg(test)]
mod tests {
    use super::{by_score, count_above, exp, highest, likeliest, log_sum_exp, top, weigh};

    fn noise(count: usize) -> Vec<f32> {
        let mut state = 1_u32;
        let next = |_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 1_000_000.0 - 8.0
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn the_fast_exponential_is_close() {
        for step in 0..8_000 {
            let value = -(step as f32) * 0.01;
            let (got, expected) = (f64::from(exp(value)), f64::from(value).exp());
            let tolerance = 6e-7 - f64::from(value) * 1.5e-7;
            assert!(
                (got - expected).abs() <= expected * tolerance,
                "{value}: {got} {expected}"
            );
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(
            (exp(-1000.0), exp(f32::NEG_INFINITY), exp(f32::NAN)),
            (0.0, 0.0, 0.0)
        );
    }

    #[track_caller]
    fn check_top(values: &[f32], count: usize) {
        let mut expected: Vec<_> = (0..).zip(values.iter().copied()).collect();
        expected.retain(|(_, value)| value.is_finite());
        expected.sort_by(by_score);
        expected.truncate(count);
        let mut got = Vec::new();
        top(values, count, &mut got);
        assert_eq!(got, expected);
        assert_eq!(likeliest(values), expected.first().map(|(token, _)| *token));
        if let Some((_, best)) = expected.first() {
            assert_eq!(highest(values), *best);
            assert_eq!(count_above(values, *best), 0);
        }
    }

    #[test]
    fn the_best_are_found_in_vocabularies_of_any_size() {
        for size in [1, 5, 31, 32, 33, 1000, 5003] {
            for count in [1, 2, 20, 40, 500, 6000] {
                check_top(&noise(size), count);
            }
        }
        check_top(&[1.0; 300], 3);
        let mut odd = noise(300);
        odd[7] = f32::NAN;
        odd[8] = f32::NEG_INFINITY;
        check_top(&odd, 2);
        check_top(&odd, 299);
        assert_eq!(likeliest(&[f32::NAN, f32::NEG_INFINITY]), None);
    }

    #[test]
    fn sums_are_those_of_exact_arithmetic() {
        let values = noise(50_001);
        let best = highest(&values);
        let exact: f64 = values
            .iter()
            .map(|value| f64::from(value - best).exp())
            .sum();
        assert!((f64::from(log_sum_exp(&values) - best) - exact.ln()).abs() < 1e-5);
        let mut weights = Vec::new();
        let sum = weigh(&values, best, 1.0, f32::MIN, &mut weights);
        assert!((sum / exact - 1.0).abs() < 1e-5);
        let floored = weigh(&values, best, 1.0, best, &mut weights);
        assert_eq!(floored, 1.0);
    }
}
