//! What a batch consists of: tokens, tiles of tokens for attention, chunks of attention.

use std::collections::HashMap;

use engine_core::AdapterId;

use crate::backend::BatchRow;
use crate::cpu::attention::{partial_length, spans, tile_tokens};
use crate::cpu::cache::Layout;
use crate::cpu::low_rank::Changes;

/// One token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token {
    /// The row of the batch that it belongs to.
    pub(super) row: usize,
    /// Its place in its sequence.
    pub(super) place: usize,
    adapter: Option<AdapterId>,
}

/// Tokens of one row that follow each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct TileTokens {
    pub(super) row: usize,
    /// The first token's number in the batch.
    pub(super) first: usize,
    /// The first token's place in its sequence.
    pub(super) place: usize,
    pub(super) tokens: usize,
}

/// A chunk of attention.
#[derive(Debug, Clone, Copy)]
pub(super) struct Task {
    pub(super) tile: usize,
    pub(super) key_head: usize,
    /// If spans are chunks of their own: which one, and where its partial result goes.
    pub(super) part: Option<(usize, usize)>,
}

/// Partial results of one tile and key head that lie together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Joint {
    pub(super) tile: usize,
    pub(super) key_head: usize,
    pub(super) start: usize,
    pub(super) length: usize,
}

/// The batch, as far as all layers have it in common.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) tokens: Vec<Token>,
    pub(super) tiles: Vec<TileTokens>,
    pub(super) tasks: Vec<Task>,
    pub(super) joints: Vec<Joint>,
    /// Numbers of all partial results.
    pub(super) partials: usize,
    /// Tokens with an adapter, in the order of the adapters.
    pub(super) changed: Vec<(AdapterId, usize)>,
    /// Tokens whose logits are wanted.
    pub(super) wanted: Vec<usize>,
}

/// What decides how attention is cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cut {
    pub(super) layout: Layout,
    pub(super) key_heads: usize,
    /// Query heads of a key head.
    pub(super) group: usize,
    /// Fewer chunks than this leave threads without work: spans become chunks then.
    pub(super) chunks_min: usize,
}

impl Batch {
    pub(super) fn fill(
        &mut self,
        rows: &[BatchRow<'_>],
        adapters: &HashMap<AdapterId, Changes>,
        cut: &Cut,
    ) {
        self.tokens.clear();
        self.wanted.clear();
        for (number, row) in rows.iter().enumerate() {
            let adapter = row.adapter.filter(|id| adapters.contains_key(id));
            let places = row.start..row.start + row.tokens.len();
            self.tokens.extend(places.map(|place| Token {
                row: number,
                place,
                adapter,
            }));
            let end = self.tokens.len();
            self.wanted
                .extend(end - row.outputs.min(row.tokens.len())..end);
        }
        self.arrange(cut);
    }

    /// Keeps the tokens whose logits are wanted.
    pub(super) fn narrow(&mut self, cut: &Cut) {
        for (number, token) in self.wanted.iter_mut().enumerate() {
            self.tokens[number] = self.tokens[*token];
            *token = number;
        }
        self.tokens.truncate(self.wanted.len());
        self.arrange(cut);
    }

    /// The highest place of a token, and 1.
    pub(super) fn length(&self) -> usize {
        self.tokens
            .iter()
            .map(|token| token.place + 1)
            .max()
            .unwrap_or(0)
    }

    /// Scores that attention computes, where no window hides keys.
    pub(super) fn scores(&self) -> usize {
        self.tokens.iter().map(|token| token.place + 1).sum()
    }

    fn arrange(&mut self, cut: &Cut) {
        self.changed.clear();
        let changed = self.tokens.iter().enumerate();
        self.changed
            .extend(changed.filter_map(|(number, token)| Some((token.adapter?, number))));
        self.changed.sort_unstable();
        self.tiles.clear();
        for (number, token) in self.tokens.iter().enumerate() {
            match self.tiles.last_mut() {
                Some(tile)
                    if tile.row == token.row
                        && tile.place + tile.tokens == token.place
                        && tile.tokens < tile_tokens(cut.group) =>
                {
                    tile.tokens += 1;
                }
                _ => self.tiles.push(TileTokens {
                    row: token.row,
                    first: number,
                    place: token.place,
                    tokens: 1,
                }),
            }
        }
        self.cut(cut);
    }

    fn cut(&mut self, cut: &Cut) {
        self.tasks.clear();
        self.joints.clear();
        self.partials = 0;
        let is_cut = self.tiles.len() * cut.key_heads < cut.chunks_min;
        // A row's last tiles see most.
        for (tile, tokens) in self.tiles.iter().enumerate().rev() {
            let spans = spans(&cut.layout, tokens.place + tokens.tokens);
            let partial = partial_length(&cut.layout, tokens.tokens * cut.group);
            for key_head in 0..cut.key_heads {
                if !is_cut || spans < 2 {
                    self.tasks.push(Task {
                        tile,
                        key_head,
                        part: None,
                    });
                    continue;
                }
                self.joints.push(Joint {
                    tile,
                    key_head,
                    start: self.partials,
                    length: spans * partial,
                });
                for span in 0..spans {
                    let part = Some((span, self.partials));
                    self.partials += partial;
                    self.tasks.push(Task {
                        tile,
                        key_head,
                        part,
                    });
                }
            }
        }
    }
}

/// Scores from which on attention is handed out to several threads.
pub(super) const fn is_worth_sharing(scores: usize, query_width: usize) -> bool {
    const NUMBERS_MIN: usize = 1 << 16;
    NUMBERS_MIN <= scores * query_width
}
