//! Random histories: whatever happens, every sequence ends with the answer that it gets alone.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::TestRunner;

use super::super::{Scheduler, SchedulerOptions, SchedulingPolicy};
use super::model::{Device, Job, answer_alone};
use crate::AdapterId;
use crate::blocks::{BlockId, BlockPool};
use crate::cache::Cache;
use crate::sequence::{NewSequence, SequenceId};
use crate::speculation::Speculation;

/// How an engine is set up.
#[derive(Debug, Clone)]
struct Setup {
    blocks: u32,
    host_blocks: u32,
    step_tokens: usize,
    sequences: usize,
    /// Steps that may be decided before the first of them has said its tokens.
    ahead: usize,
    drafts: usize,
    has_priorities: bool,
}

fn setup() -> impl Strategy<Value = Setup> {
    let sizes = (5..14_u32, 0..12_u32, 1..14_usize, 1..5_usize);
    (sizes, 0..2_usize, 0..4_usize, any::<bool>()).prop_map(
        |(sizes, ahead, drafts, has_priorities)| {
            let (blocks, host_blocks, step_tokens, sequences) = sizes;
            Setup {
                blocks,
                host_blocks,
                step_tokens,
                sequences,
                ahead: if 0 < drafts { 0 } else { ahead },
                drafts,
                has_priorities,
            }
        },
    )
}

#[derive(Debug, Clone)]
enum Act {
    Add(Wish),
    Cancel(usize),
    Reset,
    Suspend,
    Step,
}

#[derive(Debug, Clone)]
struct Wish {
    prompt: Vec<u32>,
    generate: usize,
    priority: i32,
    owner: u32,
    wants_prompt_logits: bool,
}

fn act() -> impl Strategy<Value = Act> {
    let wish = (
        vec(0..2_u32, 1..14),
        1..8_usize,
        -2..3_i32,
        0..4_u32,
        0..6_u32,
    );
    let add = wish.prop_map(|(prompt, generate, priority, owner, logits)| {
        let wants_prompt_logits = logits == 0;
        Act::Add(Wish {
            prompt,
            generate,
            priority,
            owner,
            wants_prompt_logits,
        })
    });
    prop_oneof![
        8 => add,
        3 => any::<usize>().prop_map(Act::Cancel),
        1 => any::<bool>().prop_map(|suspends| if suspends { Act::Suspend } else { Act::Reset }),
        24 => any::<bool>().prop_map(|_| Act::Step),
    ]
}

/// Owner 0 has neither salt nor adapter; the others differ in one or both.
fn identity(owner: u32) -> (Option<String>, Option<AdapterId>) {
    let salt = (owner & 1 != 0).then(|| "tenant".to_owned());
    (salt, (owner & 2 != 0).then_some(AdapterId(0)))
}

struct History {
    setup: Setup,
    scheduler: Scheduler,
    device: Device,
    decided: VecDeque<Job>,
    open: BTreeMap<SequenceId, Wish>,
    next_id: u64,
}

impl History {
    fn new(setup: Setup) -> Self {
        let options = SchedulerOptions {
            step_tokens_max: setup.step_tokens,
            sequences_max: setup.sequences,
            waiting_max: 6,
            waiting_tokens_max: 60,
            policy: if setup.has_priorities {
                SchedulingPolicy::Priority
            } else {
                SchedulingPolicy::Arrival
            },
            speculation: (0 < setup.drafts).then_some(Speculation {
                drafts_max: setup.drafts,
                match_min: 1,
                match_max: 3,
            }),
        };
        let pool = BlockPool::new(setup.blocks, NonZeroU32::new(4).unwrap());
        let cache = Cache::new(pool).with_host(setup.host_blocks).with_events();
        Self {
            scheduler: Scheduler::new(options, cache),
            setup,
            device: Device::default(),
            decided: VecDeque::new(),
            open: BTreeMap::new(),
            next_id: 0,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Add(wish) => self.add(wish),
            Act::Cancel(index) if !self.open.is_empty() => {
                let id = *self.open.keys().nth(index % self.open.len()).unwrap();
                assert!(self.scheduler.remove(id));
                self.open.remove(&id);
            }
            Act::Cancel(_) => {}
            Act::Reset => self.scheduler.reset_cache(),
            Act::Suspend => {
                while self.settle() {}
                self.scheduler.suspend();
                self.device = Device::default();
            }
            Act::Step => self.step(),
        }
        self.check_blocks();
        self.scheduler.take_events();
    }

    fn add(&mut self, wish: Wish) {
        let id = SequenceId(self.next_id);
        self.next_id += 1;
        let (salt, adapter) = identity(wish.owner);
        let new = NewSequence {
            prompt: wish.prompt.clone(),
            length_max: wish.prompt.len() + wish.generate,
            priority: wish.priority,
            salt,
            adapter,
            wants_prompt_logits: wish.wants_prompt_logits,
        };
        if self.scheduler.add(id, new).is_ok() {
            self.open.insert(id, wish);
        }
    }

    /// Decides a step, and settles the oldest one if enough are decided.
    fn step(&mut self) {
        let step = self.scheduler.schedule();
        assert!(step.tokens() <= self.setup.step_tokens, "the budget");
        assert!(self.scheduler.running() <= self.setup.sequences);
        for row in &step.rows {
            assert!(
                !step.preempted.contains(&row.sequence),
                "preempted and running"
            );
            let room = self
                .scheduler
                .sequence(row.sequence)
                .unwrap()
                .blocks()
                .len()
                * 4;
            assert!(row.start + row.length <= room, "a row without blocks");
        }
        let is_idle = step.rows.is_empty() && step.preempted.is_empty();
        assert!(
            !is_idle || !self.decided.is_empty() || self.open.is_empty(),
            "no progress"
        );
        let owner_of = |id| self.open[&id].owner;
        self.decided
            .push_back(Job::new(&step, &self.scheduler, owner_of));
        let keeps = if is_idle { 0 } else { self.setup.ahead };
        while keeps < self.decided.len() {
            self.settle();
        }
    }

    /// Computes the oldest step that is decided. False if there is none.
    fn settle(&mut self) -> bool {
        let Some(job) = self.decided.pop_front() else {
            return false;
        };
        for (id, sampled, drafts) in self.device.compute(&job) {
            self.scheduler.settle(id, &sampled, drafts);
            let Some(wish) = self.open.get(&id) else {
                continue;
            };
            let tokens = self.scheduler.sequence(id).unwrap().tokens();
            let expected = answer_alone(&wish.prompt, wish.owner, wish.generate);
            assert_eq!(
                tokens,
                &expected[..tokens.len()],
                "not the answer that it gets alone"
            );
            if tokens.len() == expected.len() {
                assert!(self.scheduler.remove(id));
                self.open.remove(&id);
            }
        }
        true
    }

    /// Owners are those that the sequences' tables say, and shared blocks hold one prefix of one owner.
    fn check_blocks(&self) {
        let mut users: HashMap<BlockId, Vec<(SequenceId, usize)>> = HashMap::new();
        for id in self.open.keys() {
            let sequence = self.scheduler.sequence(*id).unwrap();
            for (place, block) in sequence.blocks().iter().enumerate() {
                users.entry(*block).or_default().push((*id, place));
            }
        }
        let pool = self.scheduler.pool();
        let used = users.len();
        assert_eq!(pool.len() - pool.free(), used, "owned blocks");
        for (block, users) in users {
            assert_eq!(
                pool.owners(block) as usize,
                users.len(),
                "owners of {block:?}"
            );
            let prefixes = users.iter().map(|(id, place)| {
                let sequence = self.scheduler.sequence(*id).unwrap();
                let prefix = sequence.tokens().get(..(place + 1) * 4);
                (prefix, self.open[id].owner)
            });
            let prefixes: Vec<_> = prefixes.collect();
            let is_shared_rightly = prefixes
                .windows(2)
                .all(|pair| pair[0] == pair[1] && pair[0].0.is_some());
            assert!(
                users.len() == 1 || is_shared_rightly,
                "{block:?} has two contents"
            );
        }
    }

    /// Computes until everything has ended.
    fn finish(&mut self) {
        for _ in 0..5000 {
            if self.open.is_empty() {
                break;
            }
            self.step();
            self.check_blocks();
        }
        assert!(
            self.open.is_empty(),
            "requests that never end: {:?}",
            self.open
        );
        while self.settle() {}
        assert_eq!(self.scheduler.pool().usage(), 0.0, "blocks leak");
        assert_eq!((self.scheduler.running(), self.scheduler.waiting()), (0, 0));
    }
}

fn check(setup: Setup, acts: Vec<Act>) {
    let mut history = History::new(setup);
    for act in acts {
        history.act(act);
    }
    history.finish();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(800))]
    #[test]
    fn every_request_ends_with_the_answer_it_gets_alone(setup in setup(), acts in vec(act(), 0..150)) {
        check(setup, acts);
    }
}

/// The same with a budget: `PROPTEST_CASES=1000000 cargo nextest run -p engine-core --run-ignored only histories`.
#[test]
#[ignore = "takes as long as its budget"]
fn every_request_ends_with_the_answer_it_gets_alone_in_many_histories() {
    let config = ProptestConfig::default();
    let mut runner = TestRunner::new(config);
    let strategy = (setup(), vec(act(), 0..400));
    runner
        .run(&strategy, |(setup, acts)| {
            check(setup, acts);
            Ok(())
        })
        .unwrap();
}
