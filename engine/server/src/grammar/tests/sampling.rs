//! Random answers under a grammar, with the real vocabulary of SmolLM2 where it is there.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine_core::{Constraint, ConstraintError, TokenId, TokenMask};
use engine_models::{Loaded, Tokenizer};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::Matching;

/// How an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself.
    Complete(String),
    /// After as many tokens as it may have.
    Capped,
    /// The limits of the grammar's computation were passed.
    TooHard(ConstraintError),
}

/// The tokenizer of the weights that the other tests of real weights use.
pub(super) fn real_tokenizer() -> Arc<Tokenizer> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/weights/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask weights` to fetch it",
        path.display()
    );
    Arc::new(Loaded::open(&path).unwrap().tokenizer)
}

/// Draws tokens from the mask, all equally likely, but with a liking for what closes: random answers do not end by
/// themselves.
pub(super) struct Sampler {
    pub(super) tokenizer: Arc<Tokenizer>,
    closing: Vec<TokenId>,
    random: StdRng,
    mask_times: Vec<Duration>,
}

impl Sampler {
    pub(super) fn new(tokenizer: Arc<Tokenizer>, seed: u64) -> Self {
        let closing = ["\"", "}", "]", "\"}", "\"]", "}}", "]}"];
        let closing = closing.iter().map(|text| tokenizer.encode_plain(text));
        let closing = closing
            .filter(|tokens| tokens.len() == 1)
            .flatten()
            .collect();
        Self {
            tokenizer,
            closing,
            random: StdRng::seed_from_u64(seed),
            mask_times: Vec::new(),
        }
    }

    pub(super) fn answer(&mut self, matching: &mut Matching, tokens_max: usize) -> Ended {
        let mut answer = Vec::new();
        for count in 0..tokens_max {
            if matching.is_finished() {
                // Masks never let through half a character.
                return Ended::Complete(String::from_utf8(answer).unwrap());
            }
            let start = Instant::now();
            let mask = match matching.mask() {
                Ok(mask) => mask.clone(),
                Err(error) => return Ended::TooHard(error),
            };
            self.mask_times.push(start.elapsed());
            let token = self.draw(&mask, 2 * count > tokens_max);
            if let Err(error) = matching.accept(token) {
                return Ended::TooHard(error);
            }
            if self.tokenizer.stop_tokens().contains(&token) {
                // Masks never let through half a character.
                return Ended::Complete(String::from_utf8(answer).unwrap());
            }
            answer.extend(self.tokenizer.bytes(token));
        }
        Ended::Capped
    }

    /// Prints how long masks took.
    pub(super) fn report(&mut self) {
        self.mask_times.sort_unstable();
        let count = self.mask_times.len();
        let sum: Duration = self.mask_times.iter().sum();
        let at = |share: f64| self.mask_times[((count as f64 * share) as usize).min(count - 1)];
        let mean = sum / u32::try_from(count).unwrap();
        println!(
            "{count} masks: mean {mean:?}, p50 {:?}, p99 {:?}, max {:?}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }

    fn draw(&mut self, mask: &TokenMask, is_late: bool) -> TokenId {
        let stops = self.tokenizer.stop_tokens().to_vec();
        let liked: Vec<_> = stops
            .iter()
            .chain(&self.closing)
            .filter(|token| mask.allows(**token))
            .copied()
            .collect();
        let liking = if is_late { 0.9 } else { 0.3 };
        if !liked.is_empty() && self.random.random::<f64>() < liking {
            return liked[self.random.random_range(0..liked.len())];
        }
        let words = mask.words();
        let allowed = mask.count();
        assert!(0 < allowed, "an empty mask");
        let mut place = self.random.random_range(0..allowed);
        for (index, word) in words.iter().enumerate() {
            let count = word.count_ones() as usize;
            if place < count {
                let bit = (0..32)
                    .filter(|bit| word & (1 << bit) != 0)
                    .nth(place)
                    .unwrap();
                return (index * 32 + bit) as TokenId;
            }
            place -= count;
        }
        0
    }
}
