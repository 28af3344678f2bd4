//! The forward function: embeddings, layers, logits.
//!
//! A layer is four products with what is done to single tokens between them: queries, keys and values; attention and
//! its output; gate and up; down. The last layer computes only the tokens whose logits are wanted.
#![expect(unsafe_code, reason = "threads write to places of their own")]

mod batch;
mod layer;
mod stages;

use std::collections::HashMap;

use engine_core::AdapterId;

use crate::backend::{BatchRow, Logits};
use crate::config::Positions;
use crate::quant::dequantize;
use crate::weights::Model;

use super::cache::{Cache, Layout, Place};
use super::linear::{Activations, Forms, Output};
use super::low_rank::Changes;
use super::parallel::Parts;
use super::products::{Target, Team};
use super::ready::Ready;
use super::rope::{Angles, frequencies};

use batch::{Batch, Cut};

/// Chunks of attention for each thread, below which the spans of a sequence become chunks.
const ATTENTION_CHUNKS: usize = 4;

/// Memory that is kept from batch to batch.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    batch: Batch,
    places: Vec<(usize, Place)>,
    state: Vec<f32>,
    normed: Vec<f32>,
    queries: Vec<f32>,
    keys: Vec<f32>,
    values: Vec<f32>,
    attended: Vec<f32>,
    partials: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    added: Vec<f32>,
    /// The input of a layer's products, and what the feed-forward layer has between its two.
    input: Activations,
    hidden: Activations,
}

impl Scratch {
    /// Bytes, without what threads keep.
    pub(crate) fn bytes(&self) -> usize {
        let floats = [
            &self.state,
            &self.normed,
            &self.queries,
            &self.keys,
            &self.values,
            &self.attended,
            &self.partials,
            &self.gate,
            &self.up,
            &self.added,
        ];
        let floats: usize = floats.iter().map(|floats| floats.capacity()).sum();
        floats * size_of::<f32>() + self.input.bytes() + self.hidden.bytes()
    }
}

/// The angles of rotary positions.
#[derive(Debug)]
pub(crate) struct Turns {
    global: Angles,
    local: Option<Angles>,
}

impl Turns {
    pub(crate) fn new(model: &Model) -> Self {
        let config = &model.config;
        let divisors = model.rope_divisors.as_deref();
        let global = frequencies(config, config.rope_base, config.rope_scale, divisors);
        let local = |base| Angles::new(config.rope_style, frequencies(config, base, 1.0, None));
        Self {
            global: Angles::new(config.rope_style, global),
            local: config.window.map(|window| local(window.rope_base)),
        }
    }

    fn reach(&mut self, length: usize) {
        self.global.reach(length);
        if let Some(local) = &mut self.local {
            local.reach(length);
        }
    }

    const fn of(&self, positions: Positions) -> Option<&Angles> {
        match positions {
            Positions::Global => Some(&self.global),
            Positions::Local => self.local.as_ref(),
            Positions::None => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.global.bytes() + self.local.as_ref().map_or(0, Angles::bytes)
    }
}

/// One computation of a batch.
pub(crate) struct Pass<'a> {
    pub(crate) model: &'a Model,
    pub(crate) ready: &'a Ready,
    pub(crate) adapters: &'a HashMap<AdapterId, Changes>,
    pub(crate) layout: Layout,
    pub(crate) cache: &'a mut Cache,
    pub(crate) turns: &'a mut Turns,
    pub(crate) team: &'a mut Team,
    pub(crate) scratch: &'a mut Scratch,
}

impl Pass<'_> {
    /// Computes the batch.
    pub(crate) fn run(&mut self, rows: &[BatchRow<'_>], logits: &mut Logits) {
        let cut = self.cut();
        self.scratch.batch.fill(rows, self.adapters, &cut);
        self.turns.reach(self.scratch.batch.length());
        self.embed(rows);
        let last = self.model.layers.len() - 1;
        for index in 0..=last {
            self.keys(index, rows);
            if index == last {
                self.narrow(&cut);
            }
            self.attention(index, rows);
            self.feed_forward(index);
        }
        self.logits(logits);
    }

    fn cut(&self) -> Cut {
        let config = &self.model.config;
        Cut {
            layout: self.layout,
            key_heads: config.key_value_heads,
            group: config.heads / config.key_value_heads,
            chunks_min: match self.team.workers.count() {
                1 => 0,
                threads => threads * ATTENTION_CHUNKS,
            },
        }
    }

    fn embed(&mut self, rows: &[BatchRow<'_>]) {
        let (config, embedding) = (&self.model.config, &self.model.embedding);
        let Scratch { batch, state, .. } = &mut *self.scratch;
        let state = Parts::new(resized(state, batch.tokens.len() * config.width));
        let tokens = &batch.tokens;
        self.team.each_token(tokens.len(), &|range, _| {
            for number in range {
                let token = tokens[number];
                let row = &rows[token.row];
                let id = row.tokens[token.place - row.start] as usize;
                let id = id.min(embedding.rows() - 1);
                let part = number * config.width..(number + 1) * config.width;
                // SAFETY: a token is in one chunk.
                let state = unsafe { state.part(part) };
                dequantize(embedding.kind(), embedding.row_bytes(id..id + 1), state);
                if config.embedding_scale != 1.0 {
                    state
                        .iter_mut()
                        .for_each(|value| *value *= config.embedding_scale);
                }
            }
        });
    }

    /// Forgets the tokens whose logits nobody wants.
    fn narrow(&mut self, cut: &Cut) {
        let config = &self.model.config;
        let Scratch {
            batch,
            state,
            queries,
            ..
        } = &mut *self.scratch;
        if batch.wanted.len() == batch.tokens.len() {
            return;
        }
        for (number, token) in batch.wanted.iter().enumerate() {
            for (vectors, width) in [
                (&mut *state, config.width),
                (&mut *queries, config.query_width()),
            ] {
                vectors.copy_within(token * width..(token + 1) * width, number * width);
            }
        }
        batch.narrow(cut);
        state.truncate(batch.tokens.len() * config.width);
        queries.truncate(batch.tokens.len() * config.query_width());
    }

    fn logits(&mut self, logits: &mut Logits) {
        let output = &self.ready.output;
        let post_norm = self
            .model
            .layers
            .last()
            .and_then(|layer| layer.feed_forward_post_norm.as_deref());
        self.absorb(&self.model.output_norm, post_norm, Forms::of([output]));
        let tokens = self.scratch.batch.tokens.len();
        let target = Target {
            matrix: output,
            bias: self.model.output.bias.as_deref(),
            output: logits.resize(tokens, self.model.config.vocabulary),
            mode: Output::Set,
        };
        self.team.project(&self.scratch.input, [target]);
    }
}

/// The first numbers of a buffer that keeps its memory.
fn resized(vector: &mut Vec<f32>, length: usize) -> &mut [f32] {
    vector.resize(length, 0.0);
    vector
}
