//! Matrix products on all threads of a team.

use std::num::NonZeroUsize;
use std::ops::Range;

use super::level::Level;
use super::linear::{
    Activations, BLOCK_TOKENS, GROUP, Gated, Output, PAIR_ROWS, Packed, Product, multiply,
    multiply_gated,
};
use super::parallel::{Parts, ThreadScratch, Workers};

/// Chunks of a loop for each thread, where there is enough to do.
const CHUNKS_PER_THREAD: usize = 8;
/// Rows of a chunk at most: threads that come late find something to do.
const CHUNK_ROWS_MAX: usize = 1024;
/// Tokens from which on it pays to hand out work on single vectors.
const SHARED_TOKENS: usize = 4;

/// Threads, and the instructions that they compute with.
#[derive(Debug)]
pub(crate) struct Team {
    pub(crate) workers: Workers,
    pub(crate) level: Level,
}

/// A matrix to multiply and where its product goes: a vector with a number for each of its rows a token.
pub(crate) struct Target<'a> {
    pub(crate) matrix: &'a Packed,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) output: &'a mut [f32],
    pub(crate) mode: Output,
}

impl Team {
    pub(crate) fn start(threads: NonZeroUsize) -> Self {
        Self {
            workers: Workers::start(threads),
            level: Level::detect(),
        }
    }

    /// Multiplies several matrices with the same activations in one parallel loop.
    pub(crate) fn project<const N: usize>(
        &mut self,
        input: &Activations,
        targets: [Target<'_>; N],
    ) {
        if input.tokens() == 0 {
            return;
        }
        let total = targets.iter().map(|target| target.matrix.rows()).sum();
        let step = self.chunk_rows(total, PAIR_ROWS);
        let targets = targets.map(|target| {
            let chunks = target.matrix.rows().div_ceil(step);
            (
                target.matrix,
                target.bias,
                Parts::new(target.output),
                target.mode,
                chunks,
            )
        });
        let chunks = targets.iter().map(|(.., chunks)| chunks).sum();
        let level = self.level;
        self.workers.run(chunks, &|chunk, scratch| {
            let mut chunk = chunk;
            for (matrix, bias, output, mode, chunks) in &targets {
                if chunk < *chunks {
                    let rows = chunk * step..((chunk + 1) * step).min(matrix.rows());
                    let product = Product {
                        matrix,
                        bias: *bias,
                        input,
                        output,
                        mode: *mode,
                    };
                    multiply(level, &product, rows, scratch);
                    return;
                }
                chunk -= chunks;
            }
        });
    }

    /// Computes a gated product in one parallel loop.
    pub(crate) fn project_gated(&mut self, product: &Gated<'_>) {
        if product.input.tokens() == 0 {
            return;
        }
        let rows = product.gate.rows();
        let step = self.chunk_rows(rows, GROUP);
        let level = self.level;
        self.workers.run(rows.div_ceil(step), &|chunk, scratch| {
            let rows = chunk * step..((chunk + 1) * step).min(rows);
            multiply_gated(level, product, rows, scratch);
        });
    }

    /// Rows of a chunk: a multiple of `unit`, rounded down: with few chunks, one that is left over makes all others wait.
    fn chunk_rows(&self, rows: usize, unit: usize) -> usize {
        let share = rows / (self.workers.count() * CHUNKS_PER_THREAD);
        (share.min(CHUNK_ROWS_MAX) / unit).max(1) * unit
    }

    /// Calls `work` for ranges of tokens that together are all, in a parallel loop if there are enough.
    pub(crate) fn each_token(
        &mut self,
        tokens: usize,
        work: &(dyn Fn(Range<usize>, &mut ThreadScratch) + Sync),
    ) {
        if tokens < SHARED_TOKENS {
            self.workers
                .run_here(1, &|_, scratch| work(0..tokens, scratch));
            return;
        }
        let threads = self.workers.count();
        // Activations of a block of tokens lie together, so threads that share a block disturb each other.
        let step = match tokens.div_ceil(threads) {
            few @ ..BLOCK_TOKENS => few,
            _ => BLOCK_TOKENS,
        };
        self.workers.run(tokens.div_ceil(step), &|chunk, scratch| {
            work(chunk * step..((chunk + 1) * step).min(tokens), scratch);
        });
    }
}
