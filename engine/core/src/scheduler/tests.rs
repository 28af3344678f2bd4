//! Claims about the scheduler, in rows and in random histories against a model that adds numbers.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

use super::{Limits, Refused, Row, Scheduler, Step};
use crate::blocks::{BlockId, BlockPool};
use crate::sequence::SequenceId;

const LIMITS: Limits = Limits {
    step_tokens_max: 8,
    sequences_max: 3,
    waiting_max: 4,
};

fn scheduler(blocks: u32) -> Scheduler {
    Scheduler::new(LIMITS, BlockPool::new(blocks, NonZeroU32::new(4).unwrap()))
}

fn row(sequence: u64, start: usize, length: usize, outputs: usize) -> Row {
    Row {
        sequence: SequenceId(sequence),
        start,
        length,
        outputs,
    }
}

/// Settles a step as if each sampling row had sampled `token`.
fn settle(scheduler: &mut Scheduler, step: &Step, token: u32) {
    let sampled: Vec<_> = step
        .rows
        .iter()
        .filter(|row| 0 < row.outputs)
        .map(|row| (row.sequence, token))
        .collect();
    scheduler.settle(step, &sampled);
}

#[test]
fn a_long_prompt_is_computed_in_chunks_beside_a_running_stream() {
    let mut scheduler = scheduler(16);
    scheduler.add(SequenceId(1), vec![1, 2], 10).unwrap();
    let step = scheduler.schedule();
    assert_eq!(step.rows, [row(1, 0, 2, 1)]);
    settle(&mut scheduler, &step, 9);
    scheduler.add(SequenceId(2), (0..12).collect(), 20).unwrap();
    let step = scheduler.schedule();
    assert_eq!(step.rows, [row(1, 2, 1, 1), row(2, 0, 7, 0)]);
    settle(&mut scheduler, &step, 9);
    assert_eq!(
        scheduler.schedule().rows,
        [row(1, 3, 1, 1), row(2, 7, 5, 1)]
    );
}

#[test]
fn an_equal_prefix_is_not_computed_again() {
    let mut scheduler = scheduler(16);
    scheduler.add(SequenceId(1), (0..8).collect(), 10).unwrap();
    let step = scheduler.schedule();
    settle(&mut scheduler, &step, 9);
    scheduler.remove(SequenceId(1));
    scheduler.add(SequenceId(2), (0..8).collect(), 10).unwrap();
    assert_eq!(
        scheduler.schedule().rows,
        [row(2, 4, 4, 1)],
        "the last block is computed for its logits"
    );
    assert_eq!(
        scheduler.sequence(SequenceId(2)).unwrap().cached_length(),
        4
    );
    scheduler.add(SequenceId(3), (0..9).collect(), 10).unwrap();
    assert_eq!(scheduler.schedule().rows.last(), Some(&row(3, 8, 1, 1)));
}

#[test]
fn the_last_to_start_is_the_first_to_be_preempted() {
    let mut scheduler = scheduler(3);
    scheduler.add(SequenceId(1), vec![1; 4], 12).unwrap();
    scheduler.add(SequenceId(2), vec![2; 4], 12).unwrap();
    let step = scheduler.schedule();
    settle(&mut scheduler, &step, 9);
    let step = scheduler.schedule();
    assert_eq!(step.rows, [row(1, 4, 1, 1)]);
    assert_eq!(step.preempted, [SequenceId(2)]);
    settle(&mut scheduler, &step, 9);
    scheduler.remove(SequenceId(1));
    assert_eq!(
        scheduler.schedule().rows,
        [row(2, 4, 1, 1)],
        "its first block is still in the prefix cache"
    );
}

#[track_caller]
fn check_refused(prompt: usize, length_max: usize, expected: Result<(), Refused>) {
    assert_eq!(
        scheduler(4).add(SequenceId(1), vec![1; prompt], length_max),
        expected
    );
}

#[test]
fn what_can_never_fit_is_refused() {
    check_refused(0, 1, Err(Refused::EmptyPrompt));
    check_refused(15, 16, Ok(()));
    check_refused(
        15,
        17,
        Err(Refused::TooLong {
            length: 17,
            limit: 16,
        }),
    );
    check_refused(
        16,
        16,
        Err(Refused::TooLong {
            length: 17,
            limit: 16,
        }),
    );
}

#[test]
fn the_queue_has_a_limit() {
    let mut scheduler = scheduler(16);
    for id in 0..4 {
        scheduler.add(SequenceId(id), vec![1], 2).unwrap();
    }
    assert_eq!(
        scheduler.add(SequenceId(4), vec![1], 2),
        Err(Refused::QueueFull { limit: 4 })
    );
}

#[derive(Debug, Clone)]
enum Act {
    Add { prompt: Vec<u32>, generate: usize },
    Cancel(usize),
    Run,
}

fn act() -> impl Strategy<Value = Act> {
    let add = (vec(0..2_u32, 1..14), 1..8_usize)
        .prop_map(|(prompt, generate)| Act::Add { prompt, generate });
    prop_oneof![2 => add, 1 => any::<usize>().prop_map(Act::Cancel), 6 => any::<bool>().prop_map(|_| Act::Run)]
}

/// A model whose next token depends on every token before: it reads them from the cache that the scheduler's
/// blocks describe, so a wrong block, a lost token or a stale prefix changes the answer.
#[derive(Default)]
struct AddingModel {
    cache: HashMap<(BlockId, usize), u32>,
}

impl AddingModel {
    fn run(&mut self, scheduler: &Scheduler, row: &Row) -> Option<u32> {
        let sequence = scheduler.sequence(row.sequence).unwrap();
        let block_tokens = scheduler.pool().block_tokens();
        for place in row.start..row.start + row.length {
            let slot = (
                sequence.blocks()[place / block_tokens],
                place % block_tokens,
            );
            self.cache.insert(slot, sequence.tokens()[place]);
        }
        let seen = (0..row.start + row.length).map(|place| {
            let slot = (
                sequence.blocks()[place / block_tokens],
                place % block_tokens,
            );
            self.cache[&slot]
        });
        (0 < row.outputs).then(|| next_token(seen))
    }
}

fn next_token(tokens: impl Iterator<Item = u32>) -> u32 {
    tokens.fold(1_u32, |sum, token| sum.wrapping_mul(31).wrapping_add(token)) % 2
}

fn answer_alone(prompt: &[u32], generate: usize) -> Vec<u32> {
    let mut tokens = prompt.to_vec();
    for _ in 0..generate {
        tokens.push(next_token(tokens.iter().copied()));
    }
    tokens
}

fn run_step(
    scheduler: &mut Scheduler,
    model: &mut AddingModel,
    open: &mut BTreeMap<u64, (Vec<u32>, usize)>,
) {
    let step = scheduler.schedule();
    assert!(step.tokens() <= LIMITS.step_tokens_max);
    assert!(scheduler.running() <= LIMITS.sequences_max);
    assert!(
        step.rows
            .iter()
            .all(|row| !step.preempted.contains(&row.sequence)),
        "preempted and running"
    );
    assert!(
        open.is_empty() || !step.rows.is_empty() || !step.preempted.is_empty(),
        "no progress"
    );
    let sampled: Vec<_> = step
        .rows
        .iter()
        .filter_map(|row| Some((row.sequence, model.run(scheduler, row)?)))
        .collect();
    scheduler.settle(&step, &sampled);
    for (id, _) in sampled {
        let (prompt, generate) = &open[&id.0];
        let tokens = scheduler.sequence(id).unwrap().tokens();
        if tokens.len() == prompt.len() + generate {
            assert_eq!(
                tokens,
                answer_alone(prompt, *generate),
                "the answer differs from the one alone"
            );
            assert!(scheduler.remove(id));
            open.remove(&id.0);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_request_ends_with_the_answer_it_gets_alone(acts in vec(act(), 0..120)) {
        let mut scheduler = scheduler(6);
        let mut model = AddingModel::default();
        let mut open = BTreeMap::new();
        for (id, act) in acts.into_iter().enumerate() {
            let id = id as u64;
            match act {
                Act::Add { prompt, generate } => {
                    let length_max = prompt.len() + generate;
                    if scheduler.add(SequenceId(id), prompt.clone(), length_max).is_ok() {
                        open.insert(id, (prompt, generate));
                    }
                }
                Act::Cancel(index) if !open.is_empty() => {
                    let id = *open.keys().nth(index % open.len()).unwrap();
                    assert!(scheduler.remove(SequenceId(id)));
                    open.remove(&id);
                }
                Act::Cancel(_) => {}
                Act::Run => run_step(&mut scheduler, &mut model, &mut open),
            }
        }
        for _ in 0..1000 {
            if open.is_empty() {
                break;
            }
            run_step(&mut scheduler, &mut model, &mut open);
        }
        assert!(open.is_empty(), "requests that never end: {open:?}");
        assert_eq!(scheduler.pool().usage(), 0.0, "blocks leak");
    }
}
