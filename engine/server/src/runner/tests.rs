//! Claims about the step loop, with backends that compute something simple.

mod paged;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use engine_core::{
    BlockPool, Cache, Constraint, ConstraintError, FinishReason, Generation, GenerationOptions,
    Refused, SamplingParameters, Scheduler, SchedulerOptions, SchedulingPolicy, Speculation,
    TokenMask,
};
use engine_models::synthetic::SyntheticModel;
use engine_models::{Loaded, SleepLevel};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Command, Event, Message, Refusal, Request, Runner, RunnerOptions, Visible};
use crate::metrics::{Finished, Metrics, Reason};
use paged::{PagedModel, VOCABULARY};

/// How a loop is set up.
#[derive(Debug, Clone, Copy)]
struct Setup {
    blocks: u32,
    host_blocks: u32,
    is_ahead: bool,
    drafts: usize,
    waiting_max: usize,
}

const PLAIN: Setup = Setup {
    blocks: 64,
    host_blocks: 0,
    is_ahead: false,
    drafts: 0,
    waiting_max: 64,
};

fn runner(setup: Setup, model: PagedModel) -> (Runner, mpsc::Sender<Message>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::default().write(&path).unwrap();
    let tokenizer = Loaded::open(&path).unwrap().tokenizer;
    let options = SchedulerOptions {
        step_tokens_max: 16,
        sequences_max: 4,
        waiting_max: setup.waiting_max,
        waiting_tokens_max: 1000,
        policy: SchedulingPolicy::Arrival,
        speculation: (0 < setup.drafts).then_some(Speculation {
            drafts_max: setup.drafts,
            match_min: 1,
            match_max: 4,
        }),
    };
    let pool = BlockPool::new(setup.blocks, NonZeroU32::new(4).unwrap());
    let (sender, messages) = mpsc::channel(64);
    let runner = Runner::new(RunnerOptions {
        scheduler: Scheduler::new(options, Cache::new(pool).with_host(setup.host_blocks)),
        backend: Box::new(model),
        tokenizer: Arc::new(tokenizer),
        metrics: Arc::new(Metrics::new("m")),
        messages,
        events: None,
        is_ahead: setup.is_ahead,
        adapters: HashMap::new(),
        adapters_max: 0,
    });
    (runner, sender)
}

fn request(
    prompt: Vec<u32>,
    options: GenerationOptions,
) -> (Request, mpsc::UnboundedReceiver<Event>) {
    let (events, receiver) = mpsc::unbounded_channel();
    let request = Request {
        length_max: prompt.len() + options.tokens_max,
        prompt,
        generation: Generation::new(options),
        priority: 0,
        salt: None,
        adapter: None,
        prompt_logprobs: None,
        visible: Visible::default(),
        events,
    };
    (request, receiver)
}

fn options(tokens_max: usize) -> GenerationOptions {
    GenerationOptions {
        stops: vec!["aaaa".to_owned()],
        tokens_max,
        ..GenerationOptions::default()
    }
}

fn send(sender: &mpsc::Sender<Message>, request: Request) {
    sender
        .try_send(Message::Request(Box::new(request)))
        .unwrap();
}

/// The text of an answer and why it ended.
fn read(events: &mut mpsc::UnboundedReceiver<Event>) -> (String, Option<FinishReason>) {
    assert_eq!(events.try_recv(), Ok(Event::Queued));
    let (mut text, mut finish) = (String::new(), None);
    while let Ok(Event::Token(token)) = events.try_recv() {
        assert_eq!(finish, None, "tokens behind the end");
        text.push_str(&token.text);
        finish = token.finish;
    }
    (text, finish)
}

#[track_caller]
fn check_answered(is_ahead: bool) {
    let (runner, sender) = runner(Setup { is_ahead, ..PLAIN }, PagedModel::monotone());
    let metrics = Arc::clone(&runner.metrics);
    let (first, mut first_events) = request(vec![5, 6, 7], options(3));
    let (second, mut second_events) = request(vec![5, 6, 7], options(9));
    send(&sender, first);
    send(&sender, second);
    drop(sender);
    assert!(runner.run(&CancellationToken::new()));
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
    let count = |reason| metrics.success.get_or_create(&Finished::new(reason)).get();
    assert_eq!(["stop", "length", "abort"].map(count), [1, 1, 0]);
}

#[test]
fn what_has_been_sent_is_answered_before_the_loop_ends() {
    check_answered(false);
    check_answered(true);
}

#[test]
fn a_client_that_goes_away_frees_its_sequence() {
    let (mut runner, sender) = runner(PLAIN, PagedModel::monotone());
    let (request, events) = request(vec![5, 6, 7], options(20));
    send(&sender, request);
    assert!(runner.receive().unwrap());
    runner.step().unwrap();
    assert!(0.0 < runner.scheduler.pool().usage());
    drop(events);
    runner.drop_abandoned().unwrap();
    assert_eq!(runner.scheduler.pool().usage(), 0.0);
    assert!(runner.active.is_empty());
    let abort = Finished::new("abort");
    assert_eq!(runner.metrics.success.get_or_create(&abort).get(), 1);
}

#[test]
fn too_many_waiting_requests_are_refused() {
    let setup = Setup {
        waiting_max: 1,
        ..PLAIN
    };
    let (mut runner, sender) = runner(setup, PagedModel::monotone());
    let (first, _first_events) = request(vec![5], options(2));
    let (second, mut second_events) = request(vec![5], options(2));
    send(&sender, first);
    send(&sender, second);
    assert!(runner.receive().unwrap());
    let refused = Refusal::Scheduler(Refused::QueueFull { limit: 1 });
    assert_eq!(second_events.try_recv(), Ok(Event::Refused(refused)));
    let rejections = runner
        .metrics
        .rejections
        .get_or_create(&Reason::QUEUED_REQUESTS);
    assert_eq!(rejections.get(), 1);
}

#[test]
fn what_runs_sleeps_and_goes_on() {
    for is_ahead in [false, true] {
        let (mut runner, sender) = runner(Setup { is_ahead, ..PLAIN }, PagedModel::hashing());
        let (alone, mut alone_events) = request((0..9).collect(), options(12));
        let (slept, mut slept_events) = request((0..9).collect(), options(12));
        let (late, mut late_events) = request(vec![1], options(2));
        send(&sender, alone);
        while runner.metrics.generation_tokens.get() < 12 {
            runner.receive().unwrap();
            runner.step().unwrap();
        }
        send(&sender, slept);
        for _ in 0..4 {
            runner.receive().unwrap();
            runner.step().unwrap();
        }
        let (done, mut is_done) = oneshot::channel();
        runner
            .obey(Command::Sleep {
                level: SleepLevel::Light,
                done,
            })
            .unwrap();
        assert_eq!(is_done.try_recv(), Ok(Ok(())));
        send(&sender, late);
        runner.receive().unwrap();
        assert_eq!(late_events.try_recv(), Ok(Event::Refused(Refusal::Asleep)));
        let (done, mut is_done) = oneshot::channel();
        runner.obey(Command::Wake { done }).unwrap();
        assert_eq!(is_done.try_recv(), Ok(Ok(())));
        drop(sender);
        runner.run(&CancellationToken::new());
        assert_eq!(read(&mut slept_events), read(&mut alone_events));
    }
}

/// Allows only tokens of one parity, and the end after some of them.
#[derive(Debug)]
struct Parity {
    left: usize,
    mask: TokenMask,
}

impl Constraint for Parity {
    fn mask(&mut self) -> Result<&TokenMask, ConstraintError> {
        self.mask = TokenMask::none(VOCABULARY);
        if self.left == 0 {
            self.mask.allow(2);
        } else {
            let tokens = (4..VOCABULARY as u32).filter(|token| token % 2 == (self.left % 2) as u32);
            tokens.for_each(|token| self.mask.allow(token));
        }
        Ok(&self.mask)
    }

    fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        if self.left == 0 || token % 2 != (self.left % 2) as u32 {
            return Err(ConstraintError("wrong parity".to_owned()));
        }
        self.left -= 1;
        Ok(())
    }

    fn allowed_prefix(&mut self, tokens: &[u32]) -> usize {
        let lefts = (1..=self.left).rev();
        lefts
            .zip(tokens)
            .take_while(|(left, token)| **token % 2 == (left % 2) as u32)
            .count()
    }

    fn is_finished(&self) -> bool {
        self.left == 0
    }
}

/// Requests of all kinds: short and long prompts, shared beginnings, greedy and drawn, restricted and penalized.
fn mixed(index: u32) -> (Request, mpsc::UnboundedReceiver<Event>) {
    let prompt = match index % 4 {
        0 => (0..30).chain([index]).collect(),
        1 => vec![index % 7; 3],
        2 => (0..20).map(|place| place * index % 11).collect(),
        _ => [7, 8, 9, 10].repeat(6),
    };
    let constraint = Parity {
        left: 5,
        mask: TokenMask::default(),
    };
    let generation = GenerationOptions {
        sampling: SamplingParameters {
            temperature: if index.is_multiple_of(3) { 0.0 } else { 0.8 },
            top_p: if index % 3 == 2 { 0.7 } else { 1.0 },
            repetition_penalty: if index.is_multiple_of(5) { 1.3 } else { 1.0 },
            seed: u64::from(index),
            logprobs: (index.is_multiple_of(6)).then_some(2),
            ..SamplingParameters::default()
        },
        stop_tokens: (0..20).collect(),
        tokens_min: if index.is_multiple_of(2) { 4 } else { 0 },
        constraint: (index % 7 == 3).then(|| Box::new(constraint) as Box<dyn Constraint>),
        ..options(3 + (index as usize * 5) % 14)
    };
    let (mut request, events) = request(prompt, generation);
    request.prompt_logprobs = (index % 8 == 2).then_some(1);
    request.salt = (index % 9 == 4).then(|| "tenant".to_owned());
    (request, events)
}

/// What each of many requests is told, but for what depends on the cache.
fn answers(setup: Setup, abandoned: &[u32]) -> Vec<Vec<Event>> {
    let (runner, sender) = runner(setup, PagedModel::hashing());
    let metrics = Arc::clone(&runner.metrics);
    let mut receivers = Vec::new();
    for index in 0..40 {
        let (request, events) = mixed(index);
        send(&sender, request);
        if !abandoned.contains(&index) {
            receivers.push(events);
        }
    }
    drop(sender);
    assert!(runner.run(&CancellationToken::new()));
    assert_eq!(metrics.cache_usage.get(), 0.0, "blocks leak");
    if 0 < setup.drafts {
        assert!(0 < metrics.accepted_tokens.get(), "no guess was right");
    }
    if 0 < setup.host_blocks {
        assert!(0 < metrics.host_hits.get(), "nothing came from the host");
    }
    receivers.iter_mut().map(all_events).collect()
}

fn all_events(events: &mut mpsc::UnboundedReceiver<Event>) -> Vec<Event> {
    let mut all = Vec::new();
    while let Ok(mut event) = events.try_recv() {
        if let Event::Token(token) = &mut event {
            token.cached_tokens = 0;
        }
        all.push(event);
    }
    all
}

#[test]
fn answers_do_not_depend_on_how_the_loop_works() {
    let expected = answers(PLAIN, &[]);
    assert!(
        expected.iter().all(|events| 1 < events.len()),
        "{expected:?}"
    );
    let (ahead, guessing) = (
        Setup {
            is_ahead: true,
            ..PLAIN
        },
        Setup { drafts: 3, ..PLAIN },
    );
    let small = |setup| Setup {
        blocks: 14,
        ..setup
    };
    let tiered = |setup| Setup {
        host_blocks: 40,
        ..setup
    };
    for setup in [
        ahead,
        guessing,
        small(PLAIN),
        small(ahead),
        small(guessing),
        tiered(small(PLAIN)),
        tiered(small(ahead)),
    ] {
        let got = answers(setup, &[]);
        for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
            assert_eq!(got, expected, "request {index} in {setup:?}");
        }
    }
}

#[test]
fn clients_that_go_away_change_nothing_for_others() {
    let gone = [0, 1, 6, 7, 20, 33];
    let mut expected = answers(PLAIN, &[]);
    let mut place = 0;
    expected.retain(|_| {
        place += 1;
        !gone.contains(&(place - 1))
    });
    for is_ahead in [false, true] {
        assert_eq!(answers(Setup { is_ahead, ..PLAIN }, &gone), expected);
    }
}

#[test]
fn a_restriction_that_cannot_be_followed_ends_the_answer_with_an_error() {
    #[derive(Debug)]
    struct Impossible;
    impl Constraint for Impossible {
        fn mask(&mut self) -> Result<&TokenMask, ConstraintError> {
            Err(ConstraintError("nothing is allowed".to_owned()))
        }
        fn accept(&mut self, _: u32) -> Result<(), ConstraintError> {
            Ok(())
        }
        fn allowed_prefix(&mut self, _: &[u32]) -> usize {
            0
        }
        fn is_finished(&self) -> bool {
            false
        }
    }
    for is_ahead in [false, true] {
        let (runner, sender) = runner(Setup { is_ahead, ..PLAIN }, PagedModel::hashing());
        let metrics = Arc::clone(&runner.metrics);
        let (request, mut events) = request(
            vec![1, 2],
            GenerationOptions {
                constraint: Some(Box::new(Impossible)),
                ..options(5)
            },
        );
        send(&sender, request);
        drop(sender);
        runner.run(&CancellationToken::new());
        assert_eq!(events.try_recv(), Ok(Event::Queued));
        assert!(
            matches!(events.try_recv(), Ok(Event::Failed(reason)) if reason.contains("nothing is allowed"))
        );
        let error = Finished::new("error");
        assert_eq!(metrics.success.get_or_create(&error).get(), 1);
    }
}
