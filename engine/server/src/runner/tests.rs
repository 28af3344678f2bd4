//! Claims about the step loop, with a backend that always says the same token.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use engine_core::{
    AdapterId, BlockId, BlockPool, FinishReason, Generation, GenerationOptions, Limits, Refused,
    SamplingParameters, Scheduler,
};
use engine_models::synthetic::SyntheticModel;
use engine_models::{Adapter, Backend, BatchRow, LoadError, Loaded, Logits, MemoryUse, SleepLevel};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Event, Refusal, Request, Runner};
use crate::metrics::{Finished, Metrics};

/// The token for the letter `a` in synthetic vocabularies.
const LETTER: usize = 3 + b'a' as usize;
const VOCABULARY: usize = 261;

#[derive(Default)]
struct Monotone {
    logits: Logits,
}

impl Backend for Monotone {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let mut logits = vec![0.0; VOCABULARY];
        logits[LETTER] = 1.0;
        let count = rows.iter().map(|row| row.outputs).sum();
        self.logits = Logits::new(logits.repeat(count), VOCABULARY);
        &self.logits
    }

    fn device(&self) -> &str {
        "test"
    }

    fn block_bytes(&self) -> usize {
        0
    }

    fn read_block(&self, _block: BlockId, _bytes: &mut [u8]) {}

    fn write_block(&mut self, _block: BlockId, _bytes: &[u8]) {}

    fn add_adapter(&mut self, _id: AdapterId, _adapter: Arc<Adapter>) {}

    fn remove_adapter(&mut self, _id: AdapterId) {}

    fn sleep(&mut self, _level: SleepLevel) {}

    fn wake(&mut self) -> Result<(), LoadError> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
}

fn runner(waiting_max: usize) -> (Runner, mpsc::Sender<Request>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::default().write(&path).unwrap();
    let tokenizer = Loaded::open(Path::new(&path)).unwrap().tokenizer;
    let limits = Limits {
        step_tokens_max: 64,
        sequences_max: 8,
        waiting_max,
    };
    let scheduler = Scheduler::new(limits, BlockPool::new(32, NonZeroU32::new(4).unwrap()));
    let (sender, receiver) = mpsc::channel(16);
    let metrics = Arc::new(Metrics::new("m"));
    (
        Runner::new(
            scheduler,
            Box::new(Monotone::default()),
            Arc::new(tokenizer),
            metrics,
            receiver,
        ),
        sender,
    )
}

fn request(tokens_max: usize) -> (Request, mpsc::UnboundedReceiver<Event>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let generation = Generation::new(GenerationOptions {
        stops: vec!["aaaa".to_owned()],
        tokens_max,
        ..GenerationOptions::default()
    });
    let prompt = vec![5, 6, 7];
    (
        Request {
            length_max: prompt.len() + tokens_max,
            prompt,
            generation,
            priority: 0,
            salt: None,
            adapter: None,
            prompt_logprobs: None,
            shows_special: false,
            events,
        },
        receiver,
    )
}

/// The text of an answer and why it ended.
fn read(events: &mut mpsc::UnboundedReceiver<Event>) -> (String, Option<FinishReason>) {
    assert_eq!(events.try_recv(), Ok(Event::Queued));
    let (mut text, mut finish) = (String::new(), None);
    while let Ok(Event::Token(token)) = events.try_recv() {
        text.push_str(&token.text);
        finish = token.finish;
    }
    (text, finish)
}

#[test]
fn what_has_been_sent_is_answered_before_the_loop_ends() {
    let (runner, sender) = runner(16);
    let metrics = Arc::clone(&runner.metrics);
    let (first, mut first_events) = request(3);
    let (second, mut second_events) = request(9);
    sender.try_send(first).unwrap();
    sender.try_send(second).unwrap();
    drop(sender);
    runner.run(&CancellationToken::new());
    assert_eq!(
        read(&mut first_events),
        ("aaa".to_owned(), Some(FinishReason::Length))
    );
    assert_eq!(
        read(&mut second_events),
        (String::new(), Some(FinishReason::Stop))
    );
    assert_eq!(metrics.generation_tokens.get(), 7);
    assert_eq!(metrics.batch_max.get(), 2);
    assert_eq!(metrics.running.get(), 0);
    assert_eq!(metrics.cache_usage.get(), 0.0);
    let counts = ["stop", "length"].map(|finished_reason| {
        let label = Finished { finished_reason };
        (finished_reason, metrics.success.get_or_create(&label).get())
    });
    assert_eq!(
        HashMap::from(counts),
        HashMap::from([("stop", 1), ("length", 1)])
    );
}

#[test]
fn a_client_that_goes_away_frees_its_sequence() {
    let (mut runner, sender) = runner(16);
    let (request, events) = request(20);
    sender.try_send(request).unwrap();
    assert!(runner.receive());
    runner.step();
    assert!(0.0 < runner.scheduler.pool().usage());
    drop(events);
    runner.drop_abandoned();
    assert_eq!(runner.scheduler.pool().usage(), 0.0);
    assert!(runner.active.is_empty());
    let label = Finished {
        finished_reason: "abort",
    };
    assert_eq!(runner.metrics.success.get_or_create(&label).get(), 1);
}

#[test]
fn too_many_waiting_requests_are_refused() {
    let (mut runner, sender) = runner(1);
    let (first, _first_events) = request(2);
    let (second, mut second_events) = request(2);
    sender.try_send(first).unwrap();
    sender.try_send(second).unwrap();
    assert!(runner.receive());
    assert_eq!(
        second_events.try_recv(),
        Ok(Event::Refused(Refusal::Scheduler(Refused::QueueFull {
            limit: 1
        })))
    );
    assert_eq!(runner.metrics.rejections.get(), 1);
}
