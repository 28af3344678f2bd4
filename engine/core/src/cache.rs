//! The prefix cache: blocks on the device, and behind them blocks in the host's memory.
//!
//! A block whose content is known is copied to the host before it is lent to somebody else; a prefix that is found
//! there is copied back instead of being computed. Nothing is copied here: the copies are decided here, in an order
//! that the runner keeps, before the step that they belong to.
//!
//! The host's memory is a pool of blocks that nobody owns: the one that was used longest ago is overwritten first.

use crate::blocks::{BlockHash, BlockId, BlockPool, OutOfBlocks};
use crate::{AdapterId, TokenId};

/// A place for a block in the host's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct HostSlot(u32);

impl HostSlot {
    /// The slot's place among all of them.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A copy of a block between the device and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// From the device to the host.
    Save {
        /// The block that will be lent to somebody else.
        block: BlockId,
        /// Where its content goes.
        slot: HostSlot,
    },
    /// From the host to the device.
    Load {
        /// Where the content is.
        slot: HostSlot,
        /// The block that gets it.
        block: BlockId,
    },
}

/// Which memory an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// The device that computes.
    Device,
    /// The host's memory behind it.
    Host,
}

/// What has changed in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CacheEvent {
    /// Blocks of one sequence can be found from now on.
    Stored {
        /// Their names, in the order of the sequence.
        blocks: Vec<BlockHash>,
        /// The name of the block before them; none at the beginning of a sequence.
        parent: Option<BlockHash>,
        /// Their tokens; empty on the host, where they have been told before.
        tokens: Vec<TokenId>,
        /// The adapter that computed them.
        adapter: Option<AdapterId>,
        /// Where they are.
        tier: Tier,
    },
    /// Blocks can no longer be found.
    Removed {
        /// Their names.
        blocks: Vec<BlockHash>,
        /// Where they were.
        tier: Tier,
    },
    /// Nothing can be found any more.
    Cleared,
}

/// What the cache knows of a sequence's beginning.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Prefix {
    /// The blocks on the device.
    pub(crate) device: Vec<BlockId>,
    /// How many blocks behind them are on the host.
    pub(crate) host: usize,
}

/// The device's blocks, the host's blocks, and what has happened to them since somebody asked.
#[derive(Debug)]
pub struct Cache {
    device: BlockPool,
    host: Option<BlockPool>,
    transfers: Vec<Transfer>,
    events: Option<Vec<CacheEvent>>,
}

impl Cache {
    /// A cache without a host tier that notes no events.
    pub const fn new(device: BlockPool) -> Self {
        Self {
            device,
            host: None,
            transfers: Vec::new(),
            events: None,
        }
    }

    /// Keeps up to `blocks` evicted blocks on the host.
    #[must_use]
    pub fn with_host(mut self, blocks: u32) -> Self {
        let block_tokens = self.device.block_tokens_nonzero();
        self.host = (0 < blocks).then(|| BlockPool::new(blocks, block_tokens));
        self
    }

    /// Notes events, which must be taken after each step.
    #[must_use]
    pub fn with_events(mut self) -> Self {
        self.events = Some(Vec::new());
        self
    }

    /// The blocks of the device.
    pub const fn pool(&self) -> &BlockPool {
        &self.device
    }

    /// Whether evicted blocks are kept on the host.
    pub const fn has_host(&self) -> bool {
        self.host.is_some()
    }

    /// Takes what has changed since the last call.
    pub fn take_events(&mut self) -> Vec<CacheEvent> {
        self.events.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Forgets all content on both tiers; blocks keep their owners.
    pub fn reset(&mut self) {
        self.device.forget_all();
        if let Some(host) = &mut self.host {
            host.forget_all();
        }
        self.transfers.clear();
        self.note(|| CacheEvent::Cleared);
    }

    /// Takes the copies that the next step needs first, in their order.
    pub(crate) fn take_transfers(&mut self) -> Vec<Transfer> {
        std::mem::take(&mut self.transfers)
    }

    /// Looks for the longest known prefix, first on the device, then behind it on the host.
    pub(crate) fn find(&self, hashes: &[BlockHash]) -> Prefix {
        let device = self.device.find_prefix(hashes);
        let host = self.host.as_ref().map_or(0, |host| {
            let behind = hashes[device.len()..].iter();
            behind.take_while(|hash| host.find(hash).is_some()).count()
        });
        Prefix { device, host }
    }

    /// Whether the prefix and `fresh` more blocks can be had now, and `reserve` blocks stay free.
    pub(crate) fn fits(&self, prefix: &Prefix, fresh: usize, reserve: usize) -> bool {
        fresh + reserve + self.device.count_free(&prefix.device) <= self.device.free()
    }

    /// Makes a prefix that was found the beginning of a sequence, whose `hashes` these are, and copies back what is on
    /// the host.
    ///
    /// # Errors
    /// [`OutOfBlocks`]; nothing has changed then.
    pub(crate) fn take(
        &mut self,
        prefix: &Prefix,
        hashes: &[BlockHash],
    ) -> Result<Vec<BlockId>, OutOfBlocks> {
        self.device.share(&prefix.device);
        let fresh = match self.device.lend(prefix.host) {
            Ok(fresh) => fresh,
            Err(error) => {
                self.device.release(&prefix.device);
                return Err(error);
            }
        };
        let loaded = &hashes[prefix.device.len()..][..prefix.host];
        let slots = self
            .host
            .as_ref()
            .map_or_else(Vec::new, |host| host.find_prefix(loaded));
        // Slots are held while they are read: what is evicted here is copied first, and must go elsewhere.
        self.hold_slots(&slots);
        self.save_evicted();
        for (&block, &id) in fresh.iter().zip(&slots) {
            let slot = slot(id);
            self.transfers.push(Transfer::Load { slot, block });
        }
        self.release_slots(&slots);
        let mut blocks = prefix.device.clone();
        blocks.extend(fresh);
        Ok(blocks)
    }

    /// Lends fresh blocks.
    ///
    /// # Errors
    /// [`OutOfBlocks`]; nothing has changed then.
    pub(crate) fn lend(&mut self, count: usize) -> Result<Vec<BlockId>, OutOfBlocks> {
        let lent = self.device.lend(count)?;
        self.save_evicted();
        Ok(lent)
    }

    /// Takes one owner off each block.
    pub(crate) fn release(&mut self, blocks: &[BlockId]) {
        self.device.release(blocks);
    }

    /// Makes full blocks of a sequence known: `hashes` and `tokens` are all of the sequence's, `range` says which
    /// blocks are new.
    pub(crate) fn seal(&mut self, sealed: &Sealed<'_>) {
        let Sealed {
            blocks,
            hashes,
            tokens,
            adapter,
            ref range,
        } = *sealed;
        let mut first_new = None;
        let mut end = range.start;
        for index in range.clone() {
            // A block that holds what another one holds already tells nobody anything new.
            if self.device.seal(blocks[index], hashes[index]) {
                first_new.get_or_insert(index);
                end = index + 1;
            }
        }
        let Some(start) = first_new else { return };
        let block_tokens = self.device.block_tokens();
        self.note(|| CacheEvent::Stored {
            blocks: hashes[start..end].to_vec(),
            parent: start.checked_sub(1).map(|parent| hashes[parent]),
            tokens: tokens[start * block_tokens..end * block_tokens].to_vec(),
            adapter,
            tier: Tier::Device,
        });
    }

    fn hold_slots(&mut self, slots: &[BlockId]) {
        if let Some(host) = &mut self.host {
            host.share(slots);
        }
    }

    /// Gives slots back as those that are overwritten last.
    fn release_slots(&mut self, slots: &[BlockId]) {
        if let Some(host) = &mut self.host {
            host.release(slots);
        }
    }

    /// Decides where the content of blocks goes that have just been lent to somebody else.
    fn save_evicted(&mut self) {
        let evicted = self.device.take_evicted();
        if evicted.is_empty() {
            return;
        }
        if let Some(host) = &mut self.host {
            let mut stored = Vec::new();
            for (block, hash) in &evicted {
                if host.find(hash).is_some() {
                    continue;
                }
                let Ok(lent) = host.lend(1) else { continue };
                host.seal(lent[0], *hash);
                host.release(&lent);
                stored.push(*hash);
                let (block, slot) = (*block, slot(lent[0]));
                self.transfers.push(Transfer::Save { block, slot });
            }
            let lost: Vec<_> = host
                .take_evicted()
                .into_iter()
                .map(|(_, hash)| hash)
                .collect();
            if !stored.is_empty() {
                self.note(|| CacheEvent::Stored {
                    blocks: stored,
                    parent: None,
                    tokens: Vec::new(),
                    adapter: None,
                    tier: Tier::Host,
                });
            }
            if !lost.is_empty() {
                let (blocks, tier) = (lost, Tier::Host);
                self.note(|| CacheEvent::Removed { blocks, tier });
            }
        }
        self.note(|| CacheEvent::Removed {
            blocks: evicted.into_iter().map(|(_, hash)| hash).collect(),
            tier: Tier::Device,
        });
    }

    fn note(&mut self, event: impl FnOnce() -> CacheEvent) {
        if let Some(events) = &mut self.events {
            events.push(event());
        }
    }
}

/// Full blocks of a sequence and what they hold.
#[derive(Debug)]
pub(crate) struct Sealed<'a> {
    pub(crate) blocks: &'a [BlockId],
    pub(crate) hashes: &'a [BlockHash],
    pub(crate) tokens: &'a [TokenId],
    pub(crate) adapter: Option<AdapterId>,
    pub(crate) range: std::ops::Range<usize>,
}

fn slot(id: BlockId) -> HostSlot {
    HostSlot(u32::try_from(id.index()).unwrap_or(u32::MAX))
}
