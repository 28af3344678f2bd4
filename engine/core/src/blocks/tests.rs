//! Claims about the block pool, in rows and in random histories.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, prop_oneof, proptest};

use super::{BlockHash, BlockId, BlockPool, OutOfBlocks};
use crate::AdapterId;

fn pool(blocks: u32, block_tokens: u32) -> BlockPool {
    BlockPool::new(blocks, NonZeroU32::new(block_tokens).unwrap())
}

#[track_caller]
fn check(blocks: u32, block_tokens: u32, tokens: usize, expected: Result<usize, OutOfBlocks>) {
    let mut pool = pool(blocks, block_tokens);
    let lent = pool.lend(pool.blocks_for(tokens));
    assert_eq!(lent.map(|lent| lent.len()), expected);
}

#[test]
fn lending_rounds_up_to_whole_blocks() {
    check(4, 16, 0, Ok(0));
    check(4, 16, 16, Ok(1));
    check(4, 16, 17, Ok(2));
    check(4, 16, 64, Ok(4));
    check(4, 16, 65, Err(OutOfBlocks { wanted: 5, free: 4 }));
}

#[test]
fn a_sealed_block_is_found_until_it_is_lent_again() {
    let mut pool = pool(2, 1);
    let hash = BlockHash::chain(None, &[7]);
    let first = pool.lend(1).unwrap();
    pool.seal(first[0], hash);
    assert_eq!(pool.find_prefix(&[hash]), first);
    pool.release(&first);
    assert_eq!(
        pool.find_prefix(&[hash]),
        first,
        "free blocks keep their content"
    );
    let other = pool.lend(1).unwrap();
    assert_ne!(other, first, "the block that was freed first is lent first");
    assert_eq!(pool.find_prefix(&[hash]), first);
    assert_eq!(pool.lend(1).unwrap(), first);
    assert_eq!(pool.find_prefix(&[hash]), []);
}

#[test]
fn a_hash_names_all_tokens_before_the_block_too() {
    let (a, b) = (BlockHash::chain(None, &[1]), BlockHash::chain(None, &[2]));
    assert_ne!(
        BlockHash::chain(Some(&a), &[3]),
        BlockHash::chain(Some(&b), &[3])
    );
    assert_ne!(
        BlockHash::chain(Some(&a), &[3]),
        BlockHash::chain(None, &[3])
    );
}

#[test]
fn salts_and_adapters_keep_prefixes_apart() {
    let roots = [
        BlockHash::root(None, None),
        BlockHash::root(Some("a"), None),
        BlockHash::root(Some("b"), None),
        BlockHash::root(None, Some(AdapterId(1))),
        BlockHash::root(Some("a"), Some(AdapterId(1))),
        BlockHash::root(Some(""), None),
    ];
    let hashes: HashSet<_> = roots
        .iter()
        .map(|root| BlockHash::chain(root.as_ref(), &[1]))
        .collect();
    assert_eq!(hashes.len(), roots.len());
}

#[test]
fn what_is_forgotten_is_told_once() {
    let mut pool = pool(1, 1);
    let hash = BlockHash::chain(None, &[7]);
    let lent = pool.lend(1).unwrap();
    assert!(pool.seal(lent[0], hash));
    pool.release(&lent);
    assert_eq!(pool.take_evicted(), []);
    pool.lend(1).unwrap();
    assert_eq!(pool.take_evicted(), [(lent[0], hash)]);
    assert_eq!(pool.take_evicted(), []);
}

#[derive(Debug, Clone)]
enum Act {
    Lend(usize),
    Share(usize),
    Release(usize),
    Seal(usize, u32),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0..4_usize).prop_map(Act::Lend),
        (0..8_usize).prop_map(Act::Share),
        (0..8_usize).prop_map(Act::Release),
        ((0..8_usize), (0..4_u32)).prop_map(|(index, content)| Act::Seal(index, content)),
        Just(Act::Lend(1)),
    ]
}

proptest! {
    #[test]
    fn owners_and_free_blocks_always_add_up(acts in vec(act(), 0..200)) {
        let mut pool = pool(8, 4);
        let mut loans: Vec<Vec<BlockId>> = Vec::new();
        for act in acts {
            match act {
                Act::Lend(count) => {
                    let free = pool.free();
                    match pool.lend(count) {
                        Ok(lent) => loans.push(lent),
                        Err(error) => assert_eq!(error, OutOfBlocks { wanted: count, free }),
                    }
                }
                Act::Share(index) if index < loans.len() => {
                    pool.share(&loans[index]);
                    loans.push(loans[index].clone());
                }
                Act::Release(index) if index < loans.len() => pool.release(&loans.swap_remove(index)),
                Act::Seal(index, content) if index < loans.len() => {
                    if let Some(first) = loans[index].first() {
                        let hash = BlockHash::chain(None, &[content]);
                        let is_found = pool.seal(*first, hash);
                        assert!(!is_found || pool.find(&hash) == Some(*first));
                    }
                }
                Act::Share(_) | Act::Release(_) | Act::Seal(..) => {}
            }
            check_invariants(&pool, &loans);
        }
    }
}

#[track_caller]
fn check_invariants(pool: &BlockPool, loans: &[Vec<BlockId>]) {
    let mut owners: HashMap<BlockId, u32> = HashMap::new();
    for block in loans.iter().flatten() {
        *owners.entry(*block).or_default() += 1;
    }
    let mut free = Vec::new();
    let mut next = pool.oldest;
    while let Some(id) = next {
        free.push(id);
        next = pool.blocks[id.index()].newer;
    }
    assert_eq!(free.len(), pool.free());
    for (index, block) in pool.blocks.iter().enumerate() {
        let id = BlockId(u32::try_from(index).unwrap());
        assert_eq!(block.owners, owners.get(&id).copied().unwrap_or(0));
        assert_eq!(block.owners == 0, free.contains(&id));
    }
    for (hash, id) in &pool.cached {
        assert_eq!(pool.blocks[id.index()].hash.as_ref(), Some(hash));
    }
}
