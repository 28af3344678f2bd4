//! Claims about sampling.

use super::{Sampler, SamplingParameters};

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

fn draws(parameters: SamplingParameters, count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(parameters);
    (0..count).map(|_| sampler.sample(&LOGITS).token).collect()
}

#[track_caller]
fn check_only(parameters: SamplingParameters, allowed: &[u32]) {
    let mut seen = draws(
        SamplingParameters {
            temperature: 1.0,
            ..parameters
        },
        500,
    );
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen, allowed);
}

#[test]
fn temperature_zero_takes_the_first_of_the_likeliest() {
    assert_eq!(draws(SamplingParameters::default(), 3), [1, 1, 1]);
}

#[test]
fn filters_leave_what_they_say() {
    let all = SamplingParameters::default;
    check_only(all(), &[0, 1, 2, 3, 4]);
    check_only(
        SamplingParameters {
            top_k: Some(1),
            ..all()
        },
        &[1],
    );
    check_only(
        SamplingParameters {
            top_k: Some(2),
            ..all()
        },
        &[1, 4],
    );
    check_only(
        SamplingParameters {
            top_k: Some(9),
            ..all()
        },
        &[0, 1, 2, 3, 4],
    );
    check_only(
        SamplingParameters {
            top_p: 0.01,
            ..all()
        },
        &[1],
    );
    check_only(
        SamplingParameters {
            top_p: 0.7,
            ..all()
        },
        &[1, 4],
    );
    check_only(
        SamplingParameters {
            top_p: 0.9,
            ..all()
        },
        &[1, 2, 4],
    );
    check_only(
        SamplingParameters {
            min_p: 0.3,
            ..all()
        },
        &[1, 2, 4],
    );
    check_only(
        SamplingParameters {
            logit_bias: vec![(3, 100.0)],
            ..all()
        },
        &[3],
    );
}

#[test]
fn draws_follow_the_distribution() {
    let drawn = draws(
        SamplingParameters {
            temperature: 1.0,
            seed: 3,
            ..SamplingParameters::default()
        },
        20_000,
    );
    let total: f64 = LOGITS.iter().map(|logit| f64::from(*logit).exp()).sum();
    for (id, logit) in LOGITS.iter().enumerate() {
        let expected = f64::from(*logit).exp() / total;
        let got = drawn.iter().filter(|token| **token as usize == id).count() as f64 / 20_000.0;
        assert!(
            (got - expected).abs() < 0.02,
            "token {id}: {got} instead of {expected}"
        );
    }
}

#[test]
fn equal_seeds_draw_equal_tokens() {
    let seeded = |seed| {
        draws(
            SamplingParameters {
                temperature: 1.0,
                seed,
                ..SamplingParameters::default()
            },
            50,
        )
    };
    assert_eq!(seeded(7), seeded(7));
    assert_ne!(seeded(7), seeded(8));
}

#[test]
fn penalties_push_tokens_away_once_they_occur() {
    let frequent = SamplingParameters {
        frequency_penalty: 2.0,
        ..SamplingParameters::default()
    };
    assert_eq!(draws(frequent, 5), [1, 4, 2, 0, 1]);
    let present = SamplingParameters {
        presence_penalty: 0.5,
        ..SamplingParameters::default()
    };
    assert_eq!(draws(present, 4), [1, 4, 1, 1]);
}

#[test]
fn log_probabilities_are_those_of_the_plain_distribution() {
    let parameters = SamplingParameters {
        logprobs: Some(2),
        temperature: 0.5,
        ..SamplingParameters::default()
    };
    let sampled = Sampler::new(parameters).sample(&[0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0]);
    let quarter = 0.25_f32.ln();
    assert_eq!(
        sampled.top.iter().map(|(id, _)| *id).collect::<Vec<_>>(),
        [0, 1]
    );
    for logprob in sampled
        .top
        .iter()
        .map(|(_, logprob)| *logprob)
        .chain(sampled.logprob)
    {
        assert!((logprob - quarter).abs() < 1e-6, "{logprob}");
    }
}

#[track_caller]
fn check_valid(change: impl FnOnce(&mut SamplingParameters), expected: Option<&str>) {
    let mut parameters = SamplingParameters::default();
    change(&mut parameters);
    let invalid = parameters.validate().err();
    assert_eq!(invalid.map(|invalid| invalid.parameter), expected);
}

#[test]
fn parameters_outside_their_range_are_named() {
    check_valid(|parameters| parameters.temperature = 2.0, None);
    check_valid(
        |parameters| parameters.temperature = 2.1,
        Some("temperature"),
    );
    check_valid(
        |parameters| parameters.temperature = f32::NAN,
        Some("temperature"),
    );
    check_valid(|parameters| parameters.top_p = 0.0, Some("top_p"));
    check_valid(|parameters| parameters.top_p = 1.1, Some("top_p"));
    check_valid(|parameters| parameters.min_p = -0.1, Some("min_p"));
    check_valid(
        |parameters| parameters.presence_penalty = 2.5,
        Some("presence_penalty"),
    );
    check_valid(
        |parameters| parameters.frequency_penalty = -2.5,
        Some("frequency_penalty"),
    );
    check_valid(
        |parameters| parameters.logit_bias = vec![(0, 101.0)],
        Some("logit_bias"),
    );
}
