//! Claims about sampling.

use super::{Allowed, PromptLogprob, Sampled, Sampler, SamplingParameters, Scratch};
use crate::constraint::TokenMask;

const LOGITS: [f32; 5] = [1.0, 3.0, 2.0, -1.0, 3.0];

fn sample(sampler: &mut Sampler, logits: &[f32]) -> Sampled {
    sampler.sample(logits, Allowed::default(), &mut Scratch::default())
}

fn draws(parameters: SamplingParameters, count: usize) -> Vec<u32> {
    let mut sampler = Sampler::new(parameters);
    (0..count)
        .map(|_| sample(&mut sampler, &LOGITS).token)
        .collect()
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
fn padding_behind_the_vocabulary_never_comes() {
    let logits = [1.0, 0.0, 2.0, 50.0, 60.0];
    let mut all = TokenMask::none(logits.len());
    (0..5).for_each(|token| all.allow(token));
    for (vocabulary, mask, banned, expected) in [
        (None, None, 9, 3),
        (Some(9), None, 9, 3),
        (Some(3), None, 9, 2),
        (Some(3), Some(&all), 9, 2),
        (Some(3), None, 2, 0),
        (Some(1), None, 0, 0),
    ] {
        let allowed = Allowed {
            vocabulary,
            mask,
            banned: &[banned],
        };
        for temperature in [0.0, 0.1] {
            let mut sampler = Sampler::new(SamplingParameters {
                temperature,
                top_p: 0.9,
                logit_bias: vec![(3, 100.0)],
                logprobs: Some(1),
                ..SamplingParameters::default()
            });
            let sampled = sampler.sample(&logits, allowed, &mut Scratch::default());
            assert_eq!(sampled.token, expected, "{allowed:?} {temperature}");
            assert_eq!(sampled.top[0].0, 4, "the distribution is the model's");
        }
    }
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
    let logits = [0.0, 0.0, f32::NEG_INFINITY, 0.0, 0.0];
    let sampled = sample(&mut Sampler::new(parameters), &logits);
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

#[test]
fn repetition_counts_in_the_prompt_and_in_the_answer() {
    let parameters = SamplingParameters {
        repetition_penalty: 2.0,
        ..SamplingParameters::default()
    };
    assert_eq!(draws(parameters.clone(), 5), [1, 4, 2, 1, 1]);
    let mut sampler = Sampler::new(parameters);
    sampler.read_prompt(&[1, 4, 3]);
    let drawn: Vec<_> = (0..3)
        .map(|_| sample(&mut sampler, &LOGITS).token)
        .collect();
    assert_eq!(
        drawn,
        [2, 1, 1],
        "what is repeated already costs nothing more"
    );
}

/// What greedy sampling and drawing take under a restriction.
#[track_caller]
fn check_allowed(logits: &[f32], mask: Option<&[u32]>, banned: &[u32], expected: &[u32]) {
    let mask = mask.map(|tokens| {
        let mut mask = TokenMask::none(logits.len());
        tokens.iter().for_each(|token| mask.allow(*token));
        mask
    });
    let allowed = Allowed {
        mask: mask.as_ref(),
        banned,
        ..Allowed::default()
    };
    let mut scratch = Scratch::default();
    let greedy = Sampler::new(SamplingParameters::default()).sample(logits, allowed, &mut scratch);
    assert_eq!(greedy.token, expected[0]);
    for (top_k, top_p) in [(None, 1.0), (Some(4), 1.0), (None, 0.9999)] {
        let mut sampler = Sampler::new(SamplingParameters {
            temperature: 1.0,
            top_k,
            top_p,
            ..SamplingParameters::default()
        });
        let mut seen: Vec<_> = (0..400)
            .map(|_| sampler.sample(logits, allowed, &mut scratch).token)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(seen, expected, "top_k {top_k:?}, top_p {top_p}");
    }
}

#[test]
fn only_allowed_tokens_come() {
    check_allowed(&LOGITS, Some(&[2, 3]), &[], &[2, 3]);
    check_allowed(&LOGITS, None, &[1, 4], &[2, 0, 3]);
    check_allowed(&LOGITS, Some(&[1, 3]), &[1], &[3]);
    check_allowed(&LOGITS, Some(&[1]), &[1], &[1]);
    check_allowed(&[f32::NAN; 5], None, &[], &[0]);
    check_allowed(&[f32::NAN; 5], Some(&[3]), &[], &[3]);
    check_allowed(&[0.0; 64], Some(&[40]), &[], &[40]);
}

#[test]
fn a_prompt_token_has_its_place_among_all() {
    let prompt = PromptLogprob::of(&LOGITS, 2, 2);
    assert_eq!((prompt.token, prompt.rank), (2, 3));
    assert_eq!(
        prompt
            .top
            .iter()
            .map(|(token, _)| *token)
            .collect::<Vec<_>>(),
        [1, 4]
    );
    let total: f32 = LOGITS.iter().map(|logit| logit.exp()).sum();
    assert!((prompt.logprob - (2.0 - total.ln())).abs() < 1e-5);
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
        |parameters| parameters.repetition_penalty = 0.0,
        Some("repetition_penalty"),
    );
    check_valid(
        |parameters| parameters.logit_bias = vec![(0, 101.0)],
        Some("logit_bias"),
    );
}
