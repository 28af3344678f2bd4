//! What is learned of a replica's blocks, and what is not.

use std::time::{Duration, Instant};

use super::{BLOCKS_MAX, Medium, Prompt, Residents};

const TOKENS: u32 = 16;

/// A prompt of 32 blocks of the engine's and eight of ours, which have the hashes 0 to 7.
fn prompt(sent: Instant) -> Prompt<'static> {
    Prompt {
        hashes: &[0, 1, 2, 3, 4, 5, 6, 7],
        bytes: 8 * 256,
        tokens: 32 * 16,
        sent,
    }
}

fn store(residents: &Residents, blocks: std::ops::Range<u64>, parent: Option<u64>, now: Instant) {
    let blocks: Vec<u64> = blocks.collect();
    residents.store(&blocks, parent, (TOKENS, Medium::Device), now);
}

/// The prefixes that are gone with one of the engine's blocks.
fn gone(residents: &Residents, block: u64) -> Vec<u64> {
    residents.remove(&[block], Medium::Device)
}

#[test]
fn the_blocks_of_an_answered_prompt_are_its_prefixes() {
    let (residents, now) = (Residents::default(), Instant::now());
    // In steps, as prompts are read, and then the answer's.
    store(&residents, 100..120, None, now);
    store(&residents, 120..132, Some(119), now);
    store(&residents, 132..140, Some(131), now);
    residents.learn(prompt(now));
    assert_eq!(gone(&residents, 139), [0; 0], "no part of the prompt");
    assert_eq!(gone(&residents, 131), [7]);
    assert_eq!(gone(&residents, 128), [7]);
    assert_eq!(gone(&residents, 127), [6]);
    assert_eq!(gone(&residents, 100), [0]);
    assert_eq!(gone(&residents, 100), [0; 0], "gone before");
    assert_eq!(gone(&residents, 999), [0; 0], "never seen");
}

#[test]
fn what_was_cached_before_is_part_of_the_next_prompt() {
    let (residents, now) = (Residents::default(), Instant::now());
    store(&residents, 0..16, None, now);
    let later = now + Duration::from_secs(1);
    store(&residents, 200..216, Some(15), later);
    residents.learn(prompt(later));
    assert_eq!(gone(&residents, 215), [7]);
    assert_eq!(gone(&residents, 15), [3]);
    // Nobody knows how deep a block is whose beginning was never told.
    store(&residents, 300..332, Some(5555), later);
    assert_eq!(gone(&residents, 300), [0; 0]);
}

#[test]
fn where_there_is_doubt_nothing_is_learned() {
    let now = Instant::now();
    let check = |fill: &dyn Fn(&Residents), expected: &[u64]| {
        let residents = Residents::default();
        fill(&residents);
        residents.learn(prompt(now));
        assert_eq!(gone(&residents, 31), expected);
    };
    check(&|residents| store(residents, 0..32, None, now), &[7]);
    // Another prompt of the same length, one that was there before, one that is shorter.
    check(
        &|residents| {
            store(residents, 0..32, None, now);
            store(residents, 1000..1032, None, now);
        },
        &[],
    );
    let before = now.checked_sub(Duration::from_secs(1)).unwrap();
    check(&|residents| store(residents, 0..32, None, before), &[]);
    check(&|residents| store(residents, 1..32, None, now), &[]);
    check(
        &|residents| {
            store(residents, 0..32, None, now);
            residents.clear();
            store(residents, 0..31, None, now);
        },
        &[],
    );
}

#[test]
fn a_block_in_the_hosts_memory_is_not_gone() {
    let (residents, now) = (Residents::default(), Instant::now());
    store(&residents, 0..32, None, now);
    residents.learn(prompt(now));
    residents.store(&[31], Some(30), (TOKENS, Medium::Host), now);
    assert_eq!(gone(&residents, 31), [0; 0]);
    assert_eq!(residents.remove(&[31], Medium::Host), [7]);
}

#[test]
fn the_blocks_of_a_replica_are_bounded() {
    let (residents, now) = (Residents::default(), Instant::now());
    let count = BLOCKS_MAX as u64;
    store(&residents, 0..2 * count, None, now);
    assert_eq!(residents.known.lock().blocks.len(), BLOCKS_MAX);
    store(&residents, 5 * count..5 * count + 2, None, now);
    assert_eq!(residents.known.lock().blocks.len(), BLOCKS_MAX);
}
