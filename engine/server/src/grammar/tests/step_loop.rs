//! Restricted answers out of the step loop: valid, and the same whether drafts are guessed, sequences are preempted,
//! or steps are prepared ahead.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use engine_core::{
    AdapterId, BlockId, BlockPool, Cache, FinishReason, Generation, GenerationOptions, Scheduler,
    SchedulerOptions, SchedulingPolicy, Speculation, TokenId,
};
use engine_models::{
    Adapter, Backend, BatchRow, LoadError, Logits, MemoryUse, SleepLevel, Tokenizer,
};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::runner::{Event, Message, Request, Runner, RunnerOptions, Visible};

use super::super::{GrammarSpec, Grammars};
use super::byte_tokenizer;
use super::suite::{is_beyond_the_validator, suite, validator};

const TOKENS_MAX: usize = 120;

/// Says something that depends on the token before and roughly on its place, and likes to close what is open.
struct Chatter {
    tokenizer: Arc<Tokenizer>,
    logits: Logits,
}

impl Chatter {
    fn logits(&self, token: TokenId, place: usize) -> Vec<f32> {
        let vocabulary = self.tokenizer.vocabulary() as u32;
        let logit = |next: TokenId| {
            let mixed =
                (next ^ token.rotate_left(9) ^ (place as u32 / 40)).wrapping_mul(0x9e37_79b1);
            let noise = (mixed.rotate_left(13).wrapping_mul(0x85eb_ca6b) >> 16) as f32 / 65536.0;
            let closes = self.tokenizer.stop_tokens().contains(&next)
                || matches!(self.tokenizer.bytes(next).as_slice(), b"\"" | b"}" | b"]");
            if closes {
                noise + place as f32 / 100.0
            } else {
                noise
            }
        };
        (0..vocabulary).map(logit).collect()
    }
}

impl Backend for Chatter {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let mut values = Vec::new();
        for row in rows {
            let first = row.tokens.len() - row.outputs;
            for (index, token) in row.tokens.iter().enumerate().skip(first) {
                values.extend(self.logits(*token, row.start + index));
            }
        }
        self.logits = Logits::new(values, self.tokenizer.vocabulary());
        &self.logits
    }

    fn device(&self) -> &str {
        "test"
    }

    fn block_bytes(&self) -> usize {
        4
    }

    fn read_block(&self, _: BlockId, _: &mut [u8]) {}

    fn write_block(&mut self, _: BlockId, _: &[u8]) {}

    fn add_adapter(&mut self, _: AdapterId, _: Arc<Adapter>) {}

    fn remove_adapter(&mut self, _: AdapterId) {}

    fn sleep(&mut self, _: SleepLevel) {}

    fn wake(&mut self) -> Result<(), LoadError> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Setup {
    blocks: u32,
    drafts: usize,
    is_ahead: bool,
}

/// The answers under each schema: the text, and whether it is complete.
fn answers(setup: Setup, tokenizer: &Arc<Tokenizer>, specs: &[GrammarSpec]) -> Vec<(String, bool)> {
    let grammars = Grammars::new(Arc::clone(tokenizer));
    let (sender, messages) = mpsc::channel(specs.len() + 1);
    let pool = BlockPool::new(setup.blocks, NonZeroU32::new(4).unwrap());
    let options = SchedulerOptions {
        step_tokens_max: 64,
        sequences_max: 8,
        waiting_max: specs.len(),
        waiting_tokens_max: 100_000,
        policy: SchedulingPolicy::Arrival,
        speculation: (0 < setup.drafts).then_some(Speculation {
            drafts_max: setup.drafts,
            match_min: 1,
            match_max: 3,
        }),
    };
    let metrics = Arc::new(Metrics::new("m"));
    let runner = Runner::new(RunnerOptions {
        scheduler: Scheduler::new(options, Cache::new(pool)),
        backend: Box::new(Chatter {
            tokenizer: Arc::clone(tokenizer),
            logits: Logits::default(),
        }),
        tokenizer: Arc::clone(tokenizer),
        metrics: Arc::clone(&metrics),
        messages,
        events: None,
        is_ahead: setup.is_ahead,
        adapters: HashMap::new(),
        adapters_max: 0,
    });
    let mut receivers = Vec::new();
    for (index, spec) in specs.iter().enumerate() {
        let (events, receiver) = mpsc::unbounded_channel();
        let request = Request {
            prompt: vec![10 + index as TokenId % 100; 5],
            generation: Generation::new(GenerationOptions {
                stop_tokens: tokenizer.stop_tokens().to_vec(),
                tokens_max: TOKENS_MAX,
                constraint: Some(grammars.compile(spec, None).unwrap()),
                ..GenerationOptions::default()
            }),
            length_max: 5 + TOKENS_MAX,
            priority: 0,
            salt: None,
            adapter: None,
            prompt_logprobs: None,
            visible: Visible::default(),
            events,
        };
        sender
            .try_send(Message::Request(Box::new(request)))
            .unwrap();
        receivers.push(receiver);
    }
    drop(sender);
    assert!(runner.run(&CancellationToken::new()));
    let (preempted, accepted) = (metrics.preemptions.get(), metrics.accepted_tokens.get());
    println!("{setup:?}: {preempted} preemptions, {accepted} guesses came true");
    assert!(setup.drafts == 0 || 0 < accepted, "no guess came true");
    assert!(400 < setup.blocks || 0 < preempted, "nothing was preempted");
    receivers.iter_mut().map(read).collect()
}

fn read(events: &mut mpsc::UnboundedReceiver<Event>) -> (String, bool) {
    assert_eq!(events.try_recv(), Ok(Event::Queued));
    let (mut text, mut finish) = (String::new(), None);
    while let Ok(event) = events.try_recv() {
        let Event::Token(token) = event else {
            panic!("{event:?} behind {text:?}");
        };
        text.push_str(&token.text);
        finish = token.finish;
    }
    (text, finish.expect("an end") == FinishReason::Stop)
}

#[test]
fn answers_of_the_step_loop_are_valid_however_it_works() {
    let tokenizer = byte_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let cases = suite().into_iter().map(|case| {
        let spec = GrammarSpec::JsonSchema {
            schema: case.schema.clone(),
            strict: true,
        };
        (case, spec)
    });
    let (cases, specs): (Vec<_>, Vec<_>) = cases
        .filter(|(_, spec)| grammars.compile(spec, None).is_ok())
        .unzip();
    let plain = Setup {
        blocks: 1000,
        drafts: 0,
        is_ahead: false,
    };
    let expected = answers(plain, &tokenizer, &specs);
    let mut complete = 0;
    for (case, (text, is_complete)) in cases.iter().zip(&expected) {
        let name = format!("{}: {}", case.file, case.description);
        if !is_complete || is_beyond_the_validator(&name, text) {
            continue;
        }
        complete += 1;
        let value: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{name}: {text:?}: {error}"));
        assert!(
            validator(&case.schema).unwrap().is_valid(&value),
            "{name}: {text:?}"
        );
    }
    println!("{complete} complete answers under {} schemas", specs.len());
    assert!(specs.len() / 2 < complete, "{complete}");
    for setup in [
        Setup { drafts: 4, ..plain },
        Setup {
            blocks: 90,
            ..plain
        },
        Setup {
            blocks: 90,
            drafts: 4,
            ..plain
        },
        Setup {
            blocks: 90,
            is_ahead: true,
            ..plain
        },
    ] {
        let got = answers(setup, &tokenizer, &specs);
        for ((got, expected), case) in got.iter().zip(&expected).zip(&cases) {
            assert_eq!(got, expected, "{} in {setup:?}", case.description);
        }
    }
}
