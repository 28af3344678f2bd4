//! Claims about the scheduler, in rows and in random histories against a model that mixes numbers.

mod histories;
mod model;

use std::num::NonZeroU32;

use super::{Refused, Row, Scheduler, SchedulerOptions, SchedulingPolicy, Step};
use crate::blocks::BlockPool;
use crate::cache::Cache;
use crate::sequence::{CachedTokens, NewSequence, SequenceId};

const OPTIONS: SchedulerOptions = SchedulerOptions {
    step_tokens_max: 8,
    sequences_max: 3,
    waiting_max: 4,
    waiting_tokens_max: 100,
    policy: SchedulingPolicy::Arrival,
    speculation: None,
};

fn scheduler_with(options: SchedulerOptions, blocks: u32) -> Scheduler {
    let pool = BlockPool::new(blocks, NonZeroU32::new(4).unwrap());
    Scheduler::new(options, Cache::new(pool))
}

fn scheduler(blocks: u32) -> Scheduler {
    scheduler_with(OPTIONS, blocks)
}

fn add(scheduler: &mut Scheduler, id: u64, prompt: impl IntoIterator<Item = u32>) {
    let prompt: Vec<_> = prompt.into_iter().collect();
    let new = NewSequence {
        length_max: prompt.len() + 8,
        prompt,
        ..NewSequence::default()
    };
    scheduler.add(SequenceId(id), new).unwrap();
}

/// What a step computes: sequence, start, length, outputs.
#[track_caller]
fn check_rows(step: &Step, expected: &[(u64, usize, usize, usize)]) {
    let row = |row: &Row| (row.sequence.0, row.start, row.length, row.outputs);
    let rows: Vec<_> = step.rows.iter().map(row).collect();
    assert_eq!(rows, expected);
}

/// Settles a step as if each sampling row had sampled `token`.
fn settle(scheduler: &mut Scheduler, step: &Step, token: u32) {
    for row in step.rows.iter().filter(|row| row.samples) {
        scheduler.settle(row.sequence, &[token], row.drafts.len());
    }
}

fn run(scheduler: &mut Scheduler) -> Step {
    let step = scheduler.schedule();
    settle(scheduler, &step, 9);
    step
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_a_running_stream() {
    let mut scheduler = scheduler(16);
    add(&mut scheduler, 1, [1, 2]);
    check_rows(&run(&mut scheduler), &[(1, 0, 2, 1)]);
    add(&mut scheduler, 2, 0..12);
    check_rows(&run(&mut scheduler), &[(1, 2, 1, 1), (2, 0, 7, 0)]);
    check_rows(&run(&mut scheduler), &[(1, 3, 1, 1), (2, 7, 5, 1)]);
}

#[test]
fn a_short_prompt_behind_a_long_one_starts_at_once_and_the_long_one_keeps_half() {
    let mut scheduler = scheduler(32);
    add(&mut scheduler, 1, 0..30);
    check_rows(&run(&mut scheduler), &[(1, 0, 8, 0)]);
    add(&mut scheduler, 2, [50, 51, 52]);
    add(&mut scheduler, 3, [60, 61, 62]);
    check_rows(
        &run(&mut scheduler),
        &[(1, 8, 4, 0), (2, 0, 3, 1), (3, 0, 1, 0)],
    );
}

#[test]
fn long_prompts_share_one_half_in_line() {
    let mut scheduler = scheduler(32);
    add(&mut scheduler, 1, 0..30);
    add(&mut scheduler, 2, 100..130);
    add(&mut scheduler, 3, [7, 7]);
    check_rows(&run(&mut scheduler), &[(1, 0, 6, 0), (3, 0, 2, 1)]);
}

#[test]
fn a_step_may_be_decided_before_the_last_one_has_said_its_tokens() {
    let mut scheduler = scheduler(16);
    add(&mut scheduler, 1, [1, 2]);
    let first = scheduler.schedule();
    let second = scheduler.schedule();
    check_rows(&first, &[(1, 0, 2, 1)]);
    check_rows(&second, &[(1, 2, 1, 1)]);
    settle(&mut scheduler, &first, 8);
    settle(&mut scheduler, &second, 9);
    assert_eq!(
        scheduler.sequence(SequenceId(1)).unwrap().tokens(),
        [1, 2, 8, 9]
    );
}

#[test]
fn nothing_is_computed_behind_the_longest_length() {
    let mut scheduler = scheduler(16);
    let new = NewSequence {
        prompt: vec![1],
        length_max: 2,
        ..NewSequence::default()
    };
    scheduler.add(SequenceId(1), new).unwrap();
    let step = scheduler.schedule();
    check_rows(&step, &[(1, 0, 1, 1)]);
    check_rows(&scheduler.schedule(), &[]);
    settle(&mut scheduler, &step, 9);
    check_rows(&scheduler.schedule(), &[]);
}

#[test]
fn an_equal_prefix_is_not_computed_again() {
    let mut scheduler = scheduler(16);
    add(&mut scheduler, 1, 0..8);
    run(&mut scheduler);
    scheduler.remove(SequenceId(1));
    add(&mut scheduler, 2, 0..8);
    // The last block is computed for its logits.
    check_rows(&run(&mut scheduler), &[(2, 4, 4, 1)]);
    let cached = scheduler.sequence(SequenceId(2)).unwrap().cached();
    assert_eq!(cached, CachedTokens { device: 4, host: 0 });
    add(&mut scheduler, 3, 0..9);
    check_rows(&run(&mut scheduler), &[(2, 8, 1, 1), (3, 8, 1, 1)]);
}

#[test]
fn who_needs_what_another_one_computes_waits_for_it_and_lets_others_pass() {
    let mut scheduler = scheduler(32);
    add(&mut scheduler, 1, 0..18);
    run(&mut scheduler);
    add(&mut scheduler, 2, (0..16).chain([99]));
    add(&mut scheduler, 3, [7, 7]);
    check_rows(&run(&mut scheduler), &[(1, 8, 6, 0), (3, 0, 2, 1)]);
    assert_eq!((scheduler.waiting(), scheduler.deferred()), (1, 1));
    check_rows(&run(&mut scheduler), &[(3, 2, 1, 1), (1, 14, 4, 1)]);
    check_rows(
        &run(&mut scheduler),
        &[(1, 18, 1, 1), (3, 3, 1, 1), (2, 16, 1, 1)],
    );
}

#[test]
fn salts_are_not_shared() {
    let mut scheduler = scheduler(32);
    for (id, salt) in [(1, None), (2, Some("a")), (3, Some("a"))] {
        let new = NewSequence {
            prompt: (0..5).collect(),
            length_max: 8,
            salt: salt.map(str::to_owned),
            ..NewSequence::default()
        };
        scheduler.add(SequenceId(id), new).unwrap();
        let cached = if id == 3 { 4 } else { 0 };
        run(&mut scheduler);
        assert_eq!(
            scheduler.sequence(SequenceId(id)).unwrap().cached().device,
            cached
        );
    }
}

#[test]
fn the_last_in_line_is_the_first_to_be_preempted() {
    let mut scheduler = scheduler(3);
    add(&mut scheduler, 1, [1; 3]);
    add(&mut scheduler, 2, [2; 4]);
    check_rows(&run(&mut scheduler), &[(1, 0, 3, 1), (2, 0, 4, 1)]);
    check_rows(&run(&mut scheduler), &[(1, 3, 1, 1), (2, 4, 1, 1)]);
    let step = run(&mut scheduler);
    check_rows(&step, &[(1, 4, 1, 1)]);
    assert_eq!(step.preempted, [SequenceId(2)]);
    scheduler.remove(SequenceId(1));
    // Its first block is still in the prefix cache.
    check_rows(&run(&mut scheduler), &[(2, 4, 2, 1)]);
    assert_eq!(scheduler.sequence(SequenceId(2)).unwrap().preemptions(), 1);
}

#[test]
fn lower_priorities_go_first_if_the_policy_says_so() {
    for (policy, first) in [
        (SchedulingPolicy::Arrival, 1),
        (SchedulingPolicy::Priority, 2),
    ] {
        let options = SchedulerOptions {
            policy,
            sequences_max: 1,
            ..OPTIONS
        };
        let mut scheduler = scheduler_with(options, 16);
        for (id, priority) in [(1, 5), (2, -1)] {
            let new = NewSequence {
                prompt: vec![1],
                length_max: 4,
                priority,
                ..NewSequence::default()
            };
            scheduler.add(SequenceId(id), new).unwrap();
        }
        check_rows(&scheduler.schedule(), &[(first, 0, 1, 1)]);
    }
}

#[test]
fn logits_of_a_prompt_are_all_computed_once() {
    let mut scheduler = scheduler(16);
    add(&mut scheduler, 1, 0..8);
    run(&mut scheduler);
    scheduler.remove(SequenceId(1));
    let new = NewSequence {
        prompt: (0..10).collect(),
        length_max: 12,
        wants_prompt_logits: true,
        ..NewSequence::default()
    };
    scheduler.add(SequenceId(2), new).unwrap();
    check_rows(&run(&mut scheduler), &[(2, 0, 8, 8)]);
    check_rows(&run(&mut scheduler), &[(2, 8, 2, 2)]);
    check_rows(&run(&mut scheduler), &[(2, 10, 1, 1)]);
}

#[track_caller]
fn check_refused(prompt: usize, length_max: usize, expected: Result<(), Refused>) {
    let new = NewSequence {
        prompt: vec![1; prompt],
        length_max,
        ..NewSequence::default()
    };
    assert_eq!(scheduler(4).add(SequenceId(1), new), expected);
}

#[test]
fn what_can_never_fit_is_refused() {
    let too_long = Err(Refused::TooLong {
        length: 17,
        limit: 16,
    });
    check_refused(0, 1, Err(Refused::EmptyPrompt));
    check_refused(15, 16, Ok(()));
    check_refused(15, 17, too_long);
    check_refused(16, 16, too_long);
}

#[test]
fn the_queue_has_limits() {
    let mut scheduler = scheduler(64);
    let new = |length: usize| NewSequence {
        prompt: vec![1; length],
        length_max: length + 1,
        ..NewSequence::default()
    };
    scheduler.add(SequenceId(0), new(120)).unwrap();
    let full = Err(Refused::QueueTokens { limit: 100 });
    assert_eq!(scheduler.add(SequenceId(1), new(1)), full);
    scheduler.remove(SequenceId(0));
    for id in 0..4 {
        scheduler.add(SequenceId(id), new(1)).unwrap();
    }
    let full = Err(Refused::QueueFull { limit: 4 });
    assert_eq!(scheduler.add(SequenceId(4), new(1)), full);
}
