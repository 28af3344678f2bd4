//! A model's matrices, ready to multiply.

use crate::weights::{Layer, Model};

use super::linear::{Packed, Source, pack_all};
use super::parallel::Workers;
use super::{Arithmetic, FloatWeights};

/// The matrices of one layer.
#[derive(Debug)]
pub(crate) struct ReadyLayer {
    pub(crate) query: Packed,
    pub(crate) key: Packed,
    pub(crate) value: Packed,
    pub(crate) attention_output: Packed,
    pub(crate) gate: Packed,
    pub(crate) up: Packed,
    pub(crate) down: Packed,
}

/// The matrices of a model, without the embedding, whose rows are read where they are.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) layers: Vec<ReadyLayer>,
    pub(crate) output: Packed,
    /// Bytes in memory of our own.
    pub(crate) bytes: usize,
}

impl Ready {
    /// Packs a model's matrices. Where the system has no memory for that, they are read from the file: the same
    /// numbers, later.
    ///
    /// Inputs of the first layer, of the last one and of the output are exact: rounding counts most there.
    pub(crate) fn pack(
        model: &Model,
        arithmetic: Arithmetic,
        float_weights: FloatWeights,
        workers: &mut Workers,
    ) -> Self {
        let last = model.layers.len().saturating_sub(1);
        let output = Source {
            matrix: &model.output.matrix,
            is_exact: true,
        };
        let layers = model.layers.iter().enumerate();
        let sources: Vec<Source<'_>> = layers
            .flat_map(|(index, layer)| sources_of(layer, index == 0 || index == last))
            .chain([output])
            .collect();
        let mut run = |chunks: usize, work: &(dyn Fn(usize) + Sync)| {
            workers.run(chunks, &|chunk, _| work(chunk));
        };
        let mut pack = |arithmetic| pack_all(&sources, arithmetic, float_weights, &mut run);
        let (packed, is_in_memory) = match pack(arithmetic) {
            Ok(packed) => (packed, arithmetic == Arithmetic::Int8),
            Err(_) => (pack(Arithmetic::F32).unwrap_or_default(), false),
        };
        let bytes = if is_in_memory {
            packed.iter().map(Packed::bytes).sum()
        } else {
            0
        };
        #[expect(
            clippy::expect_used,
            reason = "as many matrices come back as were given"
        )]
        Self::collect(packed, model.layers.len(), bytes).expect("a matrix is missing")
    }

    fn collect(packed: Vec<Packed>, layers: usize, bytes: usize) -> Option<Self> {
        let mut packed = packed.into_iter();
        let mut layer = || {
            Some(ReadyLayer {
                query: packed.next()?,
                key: packed.next()?,
                value: packed.next()?,
                attention_output: packed.next()?,
                gate: packed.next()?,
                up: packed.next()?,
                down: packed.next()?,
            })
        };
        Some(Self {
            layers: (0..layers).map(|_| layer()).collect::<Option<_>>()?,
            output: packed.next()?,
            bytes,
        })
    }
}

fn sources_of(layer: &Layer, is_exact: bool) -> [Source<'_>; 7] {
    [
        &layer.query,
        &layer.key,
        &layer.value,
        &layer.attention_output,
        &layer.gate,
        &layer.up,
        &layer.down,
    ]
    .map(|linear| Source {
        matrix: &linear.matrix,
        is_exact,
    })
}
