//! Backends that read what they answer from a paged cache, so that a wrong block, a lost token or a stale prefix
//! changes the answer.

use std::collections::HashMap;
use std::sync::Arc;

use engine_core::{AdapterId, BlockId};
use engine_models::{Adapter, Backend, BatchRow, LoadError, Logits, MemoryUse, SleepLevel};

/// The token for the letter `a` in synthetic vocabularies.
const LETTER: usize = 3 + b'a' as usize;
/// Tokens of synthetic vocabularies.
pub(super) const VOCABULARY: usize = 261;
const BLOCK_TOKENS: usize = 4;

pub(super) struct PagedModel {
    is_monotone: bool,
    cells: HashMap<(usize, usize), u32>,
    logits: Logits,
}

impl PagedModel {
    /// Always says the same.
    pub(super) fn monotone() -> Self {
        Self {
            is_monotone: true,
            cells: HashMap::new(),
            logits: Logits::default(),
        }
    }

    /// Says something that depends on all tokens before.
    pub(super) fn hashing() -> Self {
        Self {
            is_monotone: false,
            ..Self::monotone()
        }
    }

    fn logits(&self, row: &BatchRow<'_>, length: usize) -> Vec<f32> {
        let mut logits = vec![0.0; VOCABULARY];
        if self.is_monotone {
            logits[LETTER] = 1.0;
            return logits;
        }
        let cell = |place: usize| self.cells[&place_of(row, place)];
        // The last tokens decide most, so that answers repeat themselves and guesses come true.
        let recent = (length.saturating_sub(2)..length).fold(7, |sum, place| mix(sum, cell(place)));
        let all = (0..length).fold(9, |sum, place| mix(sum, cell(place)));
        logits[recent as usize % 8 + 90] = 4.0;
        for (token, logit) in logits.iter_mut().enumerate() {
            *logit += (mix(all, token as u32) % 1000) as f32 / 400.0;
        }
        logits
    }
}

fn mix(sum: u32, value: u32) -> u32 {
    (sum ^ value).wrapping_mul(0x9e37_79b1).rotate_left(13)
}

fn place_of(row: &BatchRow<'_>, place: usize) -> (usize, usize) {
    (
        row.blocks[place / BLOCK_TOKENS].index(),
        place % BLOCK_TOKENS,
    )
}

impl Backend for PagedModel {
    fn forward(&mut self, rows: &[BatchRow<'_>]) -> &Logits {
        let mut values = Vec::new();
        // In the wrong order: no row may need what another one of the same step computes.
        let mut computed = Vec::new();
        for row in rows.iter().rev() {
            for (place, token) in (row.start..).zip(row.tokens) {
                self.cells.insert(place_of(row, place), *token);
            }
            let end = row.start + row.tokens.len();
            let lengths = end + 1 - row.outputs..=end;
            computed.push(
                lengths
                    .map(|length| self.logits(row, length))
                    .collect::<Vec<_>>(),
            );
        }
        for logits in computed.into_iter().rev() {
            values.extend(logits.into_iter().flatten());
        }
        self.logits = Logits::new(values, VOCABULARY);
        &self.logits
    }

    fn device(&self) -> &str {
        "test"
    }

    fn block_bytes(&self) -> usize {
        BLOCK_TOKENS * 4
    }

    fn read_block(&self, block: BlockId, bytes: &mut [u8]) {
        for (place, bytes) in bytes.chunks_exact_mut(4).enumerate() {
            let cell = self
                .cells
                .get(&(block.index(), place))
                .copied()
                .unwrap_or(0);
            bytes.copy_from_slice(&cell.to_le_bytes());
        }
    }

    fn write_block(&mut self, block: BlockId, bytes: &[u8]) {
        for (place, bytes) in bytes.chunks_exact(4).enumerate() {
            let cell = u32::from_le_bytes(bytes.try_into().unwrap());
            self.cells.insert((block.index(), place), cell);
        }
    }

    fn add_adapter(&mut self, _: AdapterId, _: Arc<Adapter>) {}

    fn remove_adapter(&mut self, _: AdapterId) {}

    fn sleep(&mut self, _: SleepLevel) {
        self.cells.clear();
    }

    fn wake(&mut self) -> Result<(), LoadError> {
        Ok(())
    }

    fn memory(&self) -> MemoryUse {
        MemoryUse::default()
    }
}
