//! One layer: attention and the feed-forward layer.
#![expect(unsafe_code, reason = "threads write to places of their own")]

use crate::backend::BatchRow;
use crate::cpu::attention::{Tile, join_parts, partial_length};
use crate::cpu::cache::{Cache, Element, Layout, Pages, Place};
use crate::cpu::linear::{Forms, Gated, Output};
use crate::cpu::low_rank::{Selection, Which};
use crate::cpu::parallel::Parts;
use crate::cpu::products::{Target, Team};
use crate::cpu::simd::{Kernel, Simd, run};
use crate::cpu::vectors::activate;
use crate::weights::Model;

use super::batch::{Batch, TileTokens, is_worth_sharing};
use super::stages::{Absorb, Attend, PlaceKeys};
use super::{Pass, Scratch, Turns, resized};

impl Pass<'_> {
    /// Computes queries, keys and values, and places keys and values in the cache.
    pub(super) fn keys(&mut self, index: usize, rows: &[BatchRow<'_>]) {
        let (layer, ready) = (&self.model.layers[index], &self.ready.layers[index]);
        let post_norm = match index.checked_sub(1) {
            Some(before) => self.model.layers[before].feed_forward_post_norm.as_deref(),
            None => None,
        };
        let forms = Forms::of([&ready.query, &ready.key, &ready.value]);
        self.absorb(&layer.attention_norm, post_norm, forms);
        let Scratch {
            batch,
            queries,
            keys,
            values,
            input,
            ..
        } = &mut *self.scratch;
        let tokens = batch.tokens.len();
        let targets = [
            (&ready.query, &layer.query, queries),
            (&ready.key, &layer.key, keys),
            (&ready.value, &layer.value, values),
        ];
        let targets = targets.map(|(matrix, linear, output)| Target {
            matrix,
            bias: linear.bias.as_deref(),
            output: resized(output, tokens * matrix.rows()),
            mode: Output::Set,
        });
        self.team.project(input, targets);
        self.change_keys(index);
        self.place_keys(index, rows);
    }

    fn change_keys(&mut self, index: usize) {
        let config = &self.model.config;
        let Scratch {
            batch,
            normed,
            queries,
            keys,
            values,
            ..
        } = &mut *self.scratch;
        if batch.changed.is_empty() {
            return;
        }
        let selection = Selection {
            adapters: self.adapters,
            tokens: &batch.changed,
            layer: index,
        };
        let outputs: [(Which, _, _); 3] = [
            (|layer| layer.query.as_ref(), queries, config.query_width()),
            (|layer| layer.key.as_ref(), keys, config.key_value_width()),
            (
                |layer| layer.value.as_ref(),
                values,
                config.key_value_width(),
            ),
        ];
        for (which, output, rows) in outputs {
            selection.apply(self.team, which, (normed, config.width), (output, rows));
        }
    }

    /// Normalizes and turns queries and keys, and writes keys and values to the cache.
    fn place_keys(&mut self, index: usize, rows: &[BatchRow<'_>]) {
        let Self {
            model,
            layout,
            cache,
            turns,
            team,
            scratch,
            ..
        } = self;
        scratch.places.clear();
        let places = scratch.batch.tokens.iter().map(|token| {
            let place = Place {
                block: rows[token.row].blocks[token.place / layout.block_tokens],
                slot: token.place % layout.block_tokens,
                layer: index,
            };
            (token.place, place)
        });
        scratch.places.extend(places);
        let config = &model.config;
        let work = PlaceWork {
            widths: (config.query_width(), config.key_value_width()),
            index,
            model,
            turns,
        };
        match cache {
            Cache::Single(pages) => work.run(team, scratch, pages),
            Cache::Half(pages) => work.run(team, scratch, pages),
        }
    }

    /// Computes what the tokens see, and the product behind it.
    pub(super) fn attention(&mut self, index: usize, rows: &[BatchRow<'_>]) {
        let (layer, ready) = (&self.model.layers[index], &self.ready.layers[index]);
        let config = &self.model.config;
        let work = AttendWork {
            window: config.window_of(index).map(|window| window.length),
            group: config.heads / config.key_value_heads,
            scale: config.attention_scale,
            stride: config.query_width(),
            index,
            rows,
        };
        match &*self.cache {
            Cache::Single(pages) => work.run(self.team, self.scratch, pages),
            Cache::Half(pages) => work.run(self.team, self.scratch, pages),
        }
        let Scratch {
            batch,
            attended,
            input,
            ..
        } = &mut *self.scratch;
        let (tokens, width) = (batch.tokens.len(), config.query_width());
        let forms = Forms::of([&ready.attention_output]);
        input.reset(tokens, width, forms);
        let slots = input.slots();
        let level = self.team.level;
        self.team.each_token(tokens, &|range, _| {
            for token in range {
                let seen = &attended[token * width..(token + 1) * width];
                // SAFETY: a token is in one chunk.
                unsafe { slots.set(level, token, 0, seen) };
            }
        });
        let Scratch {
            batch,
            attended,
            input,
            state,
            added,
            ..
        } = &mut *self.scratch;
        let (output, mode) = if layer.attention_post_norm.is_some() {
            (resized(added, tokens * config.width), Output::Set)
        } else {
            (&mut state[..], Output::Add)
        };
        let target = Target {
            matrix: &ready.attention_output,
            bias: layer.attention_output.bias.as_deref(),
            output: &mut *output,
            mode,
        };
        self.team.project(input, [target]);
        if !batch.changed.is_empty() {
            let selection = Selection {
                adapters: self.adapters,
                tokens: &batch.changed,
                layer: index,
            };
            selection.apply(
                self.team,
                |layer| layer.attention_output.as_ref(),
                (attended, width),
                (output, config.width),
            );
        }
    }

    /// Computes the feed-forward layer.
    pub(super) fn feed_forward(&mut self, index: usize) {
        let (layer, ready) = (&self.model.layers[index], &self.ready.layers[index]);
        let config = &self.model.config;
        let forms = Forms::of([&ready.gate, &ready.up]);
        self.absorb(
            &layer.feed_forward_norm,
            layer.attention_post_norm.as_deref(),
            forms,
        );
        let tokens = self.scratch.batch.tokens.len();
        let level = self.team.level;
        let is_changed = !self.scratch.batch.changed.is_empty();
        if is_changed {
            self.changed_gate(index);
        } else {
            let Scratch { input, hidden, .. } = &mut *self.scratch;
            hidden.reset(tokens, config.feed_forward_width, Forms::of([&ready.down]));
            let output = hidden.slots();
            self.team.project_gated(&Gated {
                gate: &ready.gate,
                up: &ready.up,
                gate_bias: layer.gate.bias.as_deref(),
                up_bias: layer.up.bias.as_deref(),
                input,
                combine: &|gate, up| activate(level, config.activation, gate, up),
                output: &output,
            });
        }
        let Scratch {
            batch,
            hidden,
            gate,
            state,
            added,
            ..
        } = &mut *self.scratch;
        let (output, mode) = if layer.feed_forward_post_norm.is_some() {
            (resized(added, tokens * config.width), Output::Set)
        } else {
            (&mut state[..], Output::Add)
        };
        let target = Target {
            matrix: &ready.down,
            bias: layer.down.bias.as_deref(),
            output: &mut *output,
            mode,
        };
        self.team.project(hidden, [target]);
        if is_changed {
            let selection = Selection {
                adapters: self.adapters,
                tokens: &batch.changed,
                layer: index,
            };
            selection.apply(
                self.team,
                |layer| layer.down.as_ref(),
                (gate, config.feed_forward_width),
                (output, config.width),
            );
        }
    }

    /// The first half of the feed-forward layer where adapters change it: the same numbers, in more steps.
    fn changed_gate(&mut self, index: usize) {
        let (layer, ready) = (&self.model.layers[index], &self.ready.layers[index]);
        let config = &self.model.config;
        let Scratch {
            batch,
            normed,
            gate,
            up,
            input,
            hidden,
            ..
        } = &mut *self.scratch;
        let (tokens, width) = (batch.tokens.len(), config.feed_forward_width);
        let targets = [
            (&ready.gate, &layer.gate, &mut *gate),
            (&ready.up, &layer.up, &mut *up),
        ];
        let targets = targets.map(|(matrix, linear, output)| Target {
            matrix,
            bias: linear.bias.as_deref(),
            output: resized(output, tokens * width),
            mode: Output::Set,
        });
        self.team.project(input, targets);
        let selection = Selection {
            adapters: self.adapters,
            tokens: &batch.changed,
            layer: index,
        };
        let outputs: [(Which, _); 2] = [
            (|layer| layer.gate.as_ref(), &mut *gate),
            (|layer| layer.up.as_ref(), &mut *up),
        ];
        for (which, output) in outputs {
            selection.apply(self.team, which, (normed, config.width), (output, width));
        }
        hidden.reset(tokens, width, Forms::of([&ready.down]));
        let slots = hidden.slots();
        let (gates, ups, level) = (Parts::new(gate), &*up, self.team.level);
        self.team.each_token(tokens, &|range, _| {
            for token in range {
                let part = token * width..(token + 1) * width;
                // SAFETY: a token is in one chunk.
                let gate = unsafe { gates.part(part.clone()) };
                activate(level, config.activation, gate, &ups[part]);
                // SAFETY: as above.
                unsafe { slots.set(level, token, 0, gate) };
            }
        });
    }

    /// Adds what was computed last to the state, if that has a norm of its own, and prepares the normalized state as
    /// the input of the next products.
    pub(super) fn absorb(&mut self, norm: &[f32], post_norm: Option<&[f32]>, forms: Forms) {
        let config = &self.model.config;
        let Scratch {
            batch,
            state,
            normed,
            added,
            input,
            ..
        } = &mut *self.scratch;
        let (tokens, width) = (batch.tokens.len(), config.width);
        input.reset(tokens, width, forms);
        let slots = input.slots();
        let state = Parts::new(state);
        let added = post_norm.map(|norm| (Parts::new(added), norm));
        let is_kept = !batch.changed.is_empty();
        let normed = is_kept.then(|| Parts::new(resized(normed, tokens * width)));
        let level = self.team.level;
        self.team.each_token(tokens, &|range, scratch| {
            let part = range.start * width..range.end * width;
            // SAFETY: ranges do not overlap; three buffers.
            let (state, added, kept) = unsafe {
                (
                    state.part(part.clone()),
                    added
                        .as_ref()
                        .map(|(added, norm)| (added.part(part.clone()), *norm)),
                    normed.as_ref().map(|normed| normed.part(part)),
                )
            };
            run(
                level,
                Absorb {
                    level,
                    epsilon: config.norm_epsilon,
                    width,
                    first: range.start,
                    state,
                    added,
                    norm,
                    input: &slots,
                    kept,
                    scratch,
                },
            );
        });
    }
}

/// Placing keys, for either kind of cache.
struct PlaceWork<'a> {
    widths: (usize, usize),
    index: usize,
    model: &'a Model,
    turns: &'a Turns,
}

impl PlaceWork<'_> {
    fn run<E: Element>(&self, team: &mut Team, scratch: &mut Scratch, pages: &mut Pages<E>) {
        let (config, layer) = (&self.model.config, &self.model.layers[self.index]);
        let angles = self.turns.of(config.positions_of(self.index));
        let (wide, narrow) = self.widths;
        let slots = pages.slots();
        let places = &scratch.places;
        let (queries, keys) = (
            Parts::new(&mut scratch.queries),
            Parts::new(&mut scratch.keys),
        );
        let (values, level) = (&scratch.values, team.level);
        team.each_token(places.len(), &|range, _| {
            // SAFETY: ranges do not overlap; two buffers.
            let (queries, keys) = unsafe {
                (
                    queries.part(range.start * wide..range.end * wide),
                    keys.part(range.start * narrow..range.end * narrow),
                )
            };
            run(
                level,
                PlaceKeys {
                    config,
                    layer,
                    angles,
                    places: &places[range.clone()],
                    queries,
                    keys,
                    values: &values[range.start * narrow..range.end * narrow],
                    slots: &slots,
                },
            );
        });
    }
}

/// Attention, for either kind of cache.
struct AttendWork<'a> {
    window: Option<usize>,
    group: usize,
    scale: f32,
    /// Numbers of a token's queries.
    stride: usize,
    index: usize,
    rows: &'a [BatchRow<'a>],
}

impl AttendWork<'_> {
    fn tile<'a, E: Element>(
        &'a self,
        pages: &'a Pages<E>,
        queries: &'a [f32],
        at: (&TileTokens, usize),
    ) -> Tile<'a, E> {
        let (tile, key_head) = at;
        Tile {
            pages,
            layer: self.index,
            key_head,
            blocks: self.rows[tile.row].blocks,
            place: tile.place,
            tokens: tile.tokens,
            group: self.group,
            window: self.window,
            scale: self.scale,
            queries: &queries[tile.first * self.stride..(tile.first + tile.tokens) * self.stride],
        }
    }

    fn run<E: Element>(&self, team: &mut Team, scratch: &mut Scratch, pages: &Pages<E>) {
        let Scratch {
            batch,
            queries,
            attended,
            partials,
            ..
        } = scratch;
        let output = Parts::new(resized(attended, batch.tokens.len() * self.stride));
        let parts = Parts::new(resized(partials, batch.partials));
        let level = team.level;
        let work = |chunk: usize, scratch: &mut Vec<f32>| {
            let task = batch.tasks[chunk];
            let tokens = &batch.tiles[task.tile];
            let tile = self.tile(pages, queries, (tokens, task.key_head));
            let part = task.part.map(|(span, start)| {
                let queries = tile.tokens * tile.group;
                let length = partial_length(&pages.layout, queries);
                // SAFETY: each partial result belongs to one chunk.
                (span, unsafe { parts.part(start..start + length) })
            });
            run(
                level,
                Attend {
                    tile,
                    part,
                    first: tokens.first,
                    output: &output,
                    scratch,
                },
            );
        };
        if is_worth_sharing(batch.scores(), self.stride) {
            team.workers.run(batch.tasks.len(), &work);
        } else {
            team.workers.run_here(batch.tasks.len(), &work);
        }
        run(
            level,
            Join {
                layout: &pages.layout,
                batch,
                group: self.group,
                stride: self.stride,
                partials,
                attended,
            },
        );
    }
}

/// Joins what was computed span by span.
struct Join<'a> {
    layout: &'a Layout,
    batch: &'a Batch,
    group: usize,
    stride: usize,
    partials: &'a mut [f32],
    attended: &'a mut [f32],
}

impl Kernel for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self) {
        for joint in &self.batch.joints {
            let tile = &self.batch.tiles[joint.tile];
            let partials = &mut self.partials[joint.start..joint.start + joint.length];
            let queries = tile.tokens * self.group;
            join_parts::<S>(self.layout, partials, queries, |query, seen| {
                let head = joint.key_head * self.group + query % self.group;
                let token = tile.first + query / self.group;
                let start = token * self.stride + head * self.layout.width;
                self.attended[start..start + self.layout.width].copy_from_slice(seen);
            });
        }
    }
}
