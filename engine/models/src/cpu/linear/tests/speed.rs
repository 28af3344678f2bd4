//! Speed of products, beside the memory's. Run by hand:
//! `cargo test -p engine-models linear::tests::speed -- --ignored --nocapture`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{
    Activations, Arithmetic, FloatWeights, GROUP, Level, Matrix, Output, Packed, Parts, Product,
    Random, Source, TensorKind, multiply, pack_all, random_matrix,
};
use crate::cpu::parallel::Workers;

const THREADS: usize = 2;

/// A matrix: the kind, the rows, the columns, how often the model has it.
type Shape = (TensorKind, usize, usize, usize);

/// The matrices that a token of a model passes.
const MODELS: [(&str, &[Shape]); 2] = [
    (
        "SmolLM2-135M Q4_1",
        &[
            (TensorKind::Q4_1, 960, 576, 30),
            (TensorKind::Q4_1, 576, 576, 30),
            (TensorKind::Q4_1, 3072, 576, 30),
            (TensorKind::Q4_1, 576, 1536, 30),
            (TensorKind::Q8_0, 49152, 576, 1),
        ],
    ),
    (
        "Gemma 3 270M Q4_K_M",
        &[
            (TensorKind::Q5_0, 1536, 640, 18),
            (TensorKind::Q4_K, 640, 1024, 18),
            (TensorKind::Q5_0, 4096, 640, 18),
            (TensorKind::Q6_K, 640, 2048, 18),
            (TensorKind::Q8_0, 262_144, 640, 1),
        ],
    ),
];

/// The shortest time of some runs in seconds.
fn best(runs: usize, mut work: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(time).fold(f64::INFINITY, f64::min)
}

/// Bytes a second of memory that no cache holds.
fn read_bandwidth(workers: &mut Workers) -> f64 {
    let memory = vec![1_u64; 32 << 20];
    let total = AtomicU64::new(0);
    let chunks = 64;
    let length = memory.len() / chunks;
    let seconds = best(12, || {
        workers.run(chunks, &|chunk, _| {
            let numbers = memory[chunk * length..(chunk + 1) * length]
                .as_chunks::<64>()
                .0;
            let mut sums = [0_u64; 64];
            for numbers in numbers {
                for (sum, number) in sums.iter_mut().zip(numbers) {
                    *sum ^= number;
                }
            }
            total.fetch_add(sums.iter().sum(), Ordering::Relaxed);
        });
    });
    size_of_val(memory.as_slice()) as f64 / seconds
}

/// Multiplies all rows, several chunks a thread.
fn project(workers: &mut Workers, level: Level, product: &Product<'_>) {
    let rows = product.matrix.rows();
    let step = (rows / (4 * THREADS))
        .clamp(GROUP, 128)
        .next_multiple_of(GROUP);
    workers.run(rows.div_ceil(step), &|chunk, scratch| {
        let rows = chunk * step..((chunk + 1) * step).min(rows);
        multiply(level, product, rows, scratch);
    });
}

/// Multiplies matrices one after the other, each with an input of its own, and gives the seconds.
fn pass(workers: &mut Workers, level: Level, matrices: &[Packed], tokens: usize) -> f64 {
    let widest = matrices.iter().map(Packed::columns).max().unwrap();
    let highest = matrices.iter().map(Packed::rows).max().unwrap();
    let values = Random(1).floats(tokens * widest);
    let mut input = Activations::default();
    let mut results = vec![0.0; tokens * highest];
    best(if tokens < 64 { 60 } else { 30 }, || {
        for matrix in matrices {
            let values = &values[..tokens * matrix.columns()];
            input.prepare(level, values, matrix.columns(), matrix.forms());
            let output = Parts::new(&mut results[..tokens * matrix.rows()]);
            let product = Product {
                matrix,
                bias: None,
                input: &input,
                output: &output,
                mode: Output::Set,
            };
            project(workers, level, &product);
        }
    })
}

#[test]
#[ignore = "a measurement"]
fn speed_of_models() {
    let mut workers = Workers::start(NonZeroUsize::new(THREADS).unwrap());
    for (name, shapes) in MODELS {
        println!("memory {:.1} GB/s", read_bandwidth(&mut workers) / 1e9);
        let matrices: Vec<(Matrix, usize)> = shapes
            .iter()
            .map(|(kind, rows, columns, count)| {
                (random_matrix(*kind, (*rows, *columns), None), *count)
            })
            .collect();
        let source = |matrix| Source {
            matrix,
            is_exact: false,
        };
        let all: Vec<Source<'_>> = matrices
            .iter()
            .flat_map(|(matrix, count)| vec![source(matrix); *count])
            .collect();
        let start = Instant::now();
        let mut run = |chunks: usize, work: &(dyn Fn(usize) + Sync)| {
            workers.run(chunks, &|chunk, _| work(chunk));
        };
        let packed = pack_all(&all, Arithmetic::Int8, FloatWeights::Keep, &mut run).unwrap();
        let seconds = start.elapsed().as_secs_f64();
        let bytes: usize = packed.iter().map(Packed::bytes).sum();
        let numbers: usize = packed
            .iter()
            .map(|matrix| matrix.rows() * matrix.columns())
            .sum();
        println!("{name}: {bytes} bytes packed in {:.0} ms", seconds * 1e3);
        for level in Level::supported().into_iter().skip(1) {
            for tokens in [1, 2, 4, 8, 16, 64] {
                let seconds = pass(&mut workers, level, &packed, tokens);
                println!(
                    "{level:?} {tokens:3} tokens: {:7.2} ms {:6.1} GB/s {:6.0} GOP/s {:6.0} tokens/s",
                    seconds * 1e3,
                    bytes as f64 / seconds / 1e9,
                    2.0 * (numbers * tokens) as f64 / seconds / 1e9,
                    tokens as f64 / seconds,
                );
            }
        }
    }
}

#[test]
#[ignore = "a measurement"]
fn speed_of_kernels() {
    let mut workers = Workers::start(NonZeroUsize::new(1).unwrap());
    for kind in super::KINDS {
        let matrix = random_matrix(kind, (960, 768), None);
        let packed = [super::pack(&matrix, Arithmetic::Int8, FloatWeights::Keep)];
        for level in Level::supported().into_iter().skip(1) {
            let speeds = [1, 2, 4, 8, 16].map(|tokens| {
                let operations = 2 * matrix.rows() * matrix.columns() * tokens;
                let seconds = (0..8)
                    .map(|_| pass(&mut workers, level, &packed, tokens))
                    .fold(f64::INFINITY, f64::min);
                operations as f64 / seconds / 1e9
            });
            println!("{kind:?} {level:?} GOP/s at 1, 2, 4, 8, 16 tokens: {speeds:.0?}");
        }
    }
}
