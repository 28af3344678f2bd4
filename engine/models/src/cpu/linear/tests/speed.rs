//! Speed of the products of SmolLM2-135M and Gemma 3 270M, beside the memory's. Run by hand:
//! `cargo test -p engine-models linear::tests::speed -- --ignored --nocapture`.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{
    Activations, Arithmetic, FloatWeights, GROUP, Gated, Level, Matrix, Output, Packed, Parts,
    Product, Random, TensorKind, multiply, multiply_gated, pack_all, random_matrix,
};
use crate::cpu::parallel::Workers;

const THREADS: usize = 2;

struct Layer {
    attention: Packed,
    attention_output: Packed,
    gate: Packed,
    up: Packed,
    down: Packed,
}

/// A model's matrices, which are more than fit into caches.
struct Shape {
    name: &'static str,
    layers: usize,
    width: usize,
    attention: (usize, usize),
    inner: usize,
    vocabulary: usize,
    /// Of attention, its output, gate and up, down, output.
    kinds: [TensorKind; 5],
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "SmolLM2-135M Q4_1",
        layers: 30,
        width: 576,
        attention: (960, 576),
        inner: 1536,
        vocabulary: 49152,
        kinds: [
            TensorKind::Q4_1,
            TensorKind::Q4_1,
            TensorKind::Q4_1,
            TensorKind::Q4_1,
            TensorKind::Q8_0,
        ],
    },
    Shape {
        name: "Gemma 3 270M Q4_K_M",
        layers: 18,
        width: 640,
        attention: (1536, 1024),
        inner: 2048,
        vocabulary: 262_144,
        kinds: [
            TensorKind::Q5_0,
            TensorKind::Q4_K,
            TensorKind::Q5_0,
            TensorKind::Q6_K,
            TensorKind::Q8_0,
        ],
    },
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

fn read_bandwidth(workers: &mut Workers) -> f64 {
    let memory = vec![1_u64; 32 << 20];
    let sum = AtomicU64::new(0);
    let chunks = 64;
    let length = memory.len() / chunks;
    let seconds = best(12, || {
        workers.run(chunks, &|chunk, _| {
            let numbers = &memory[chunk * length..(chunk + 1) * length];
            let part = numbers
                .as_chunks::<64>()
                .0
                .iter()
                .fold([0_u64; 64], |mut sums, numbers| {
                    for (sum, number) in sums.iter_mut().zip(numbers) {
                        *sum ^= number;
                    }
                    sums
                });
            sum.fetch_add(part.iter().sum(), Ordering::Relaxed);
        });
    });
    assert!(sum.load(Ordering::Relaxed) < u64::MAX);
    size_of_val(memory.as_slice()) as f64 / seconds / 1e9
}

/// Rows of a chunk: several chunks a thread, and whole groups.
fn chunk_rows(rows: usize) -> usize {
    (rows / (4 * THREADS))
        .clamp(GROUP, 128)
        .next_multiple_of(GROUP)
}

fn project(
    workers: &mut Workers,
    level: Level,
    matrix: &Packed,
    input: &Activations,
    output: &mut [f32],
) {
    let parts = Parts::new(output);
    let product = Product {
        matrix,
        bias: None,
        input,
        output: &parts,
        mode: Output::Set,
    };
    let step = chunk_rows(matrix.rows());
    workers.run(matrix.rows().div_ceil(step), &|chunk, scratch| {
        let rows = chunk * step..((chunk + 1) * step).min(matrix.rows());
        multiply(level, &product, rows, scratch);
    });
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut workers = Workers::start(NonZeroUsize::new(THREADS).unwrap());
    let bandwidth = read_bandwidth(&mut workers);
    println!(
        "{THREADS} threads, {:?}: memory {bandwidth:.1} GB/s",
        Level::detect()
    );
    for shape in SHAPES {
        measure(&shape, &mut workers);
        println!("memory {:.1} GB/s", read_bandwidth(&mut workers));
    }
}

fn measure(shape: &Shape, workers: &mut Workers) {
    let [attention, output, inner, down, head] = shape.kinds;
    let shapes = [
        (attention, shape.attention.0, shape.width),
        (output, shape.width, shape.attention.1),
        (inner, shape.inner, shape.width),
        (inner, shape.inner, shape.width),
        (down, shape.width, shape.inner),
    ];
    let matrices: Vec<Matrix> = shapes
        .iter()
        .map(|(kind, rows, columns)| random_matrix(*kind, (*rows, *columns), None))
        .collect();
    let head = random_matrix(head, (shape.vocabulary, shape.width), None);
    let all: Vec<&Matrix> = (0..shape.layers)
        .flat_map(|_| &matrices)
        .chain([&head])
        .collect();
    let start = Instant::now();
    let mut run = |chunks: usize, work: &(dyn Fn(usize) + Sync)| {
        workers.run(chunks, &|chunk, _| work(chunk));
    };
    let mut packed = pack_all(&all, Arithmetic::Int8, FloatWeights::Keep, &mut run)
        .unwrap()
        .into_iter();
    let seconds = start.elapsed().as_secs_f64();
    let mut next = || packed.next().unwrap();
    let layers: Vec<Layer> = (0..shape.layers)
        .map(|_| Layer {
            attention: next(),
            attention_output: next(),
            gate: next(),
            up: next(),
            down: next(),
        })
        .collect();
    let head = next();
    let bytes: usize = layers
        .iter()
        .flat_map(|layer| {
            [
                &layer.attention,
                &layer.attention_output,
                &layer.gate,
                &layer.up,
                &layer.down,
            ]
        })
        .chain([&head])
        .map(Packed::bytes)
        .sum();
    println!(
        "{}: {:.1} MB packed in {:.0} ms",
        shape.name,
        bytes as f64 / 1e6,
        seconds * 1e3
    );
    for tokens in [1, 2, 4, 8, 16, 64, 512] {
        step(shape, workers, (&layers, &head), tokens);
    }
}

fn step(shape: &Shape, workers: &mut Workers, matrices: (&[Layer], &Packed), tokens: usize) {
    let level = Level::detect();
    let (layers, head) = matrices;
    let mut random = Random(1);
    let state = random.floats(tokens * shape.width);
    let attended = random.floats(tokens * shape.attention.1);
    let (mut input, mut inner) = (Activations::default(), Activations::default());
    let mut results = vec![0.0; tokens.max(8) * shape.attention.0.max(shape.vocabulary)];
    let mut time = |layers: &[Layer], head: Option<&Packed>, outputs: usize| {
        let runs = if tokens < 64 { 30 } else { 5 };
        best(runs, || {
            for layer in layers {
                let forms = layer.attention.forms();
                input.prepare(level, &state, shape.width, forms);
                project(
                    workers,
                    level,
                    &layer.attention,
                    &input,
                    &mut results[..tokens * shape.attention.0],
                );
                input.prepare(level, &attended, shape.attention.1, forms);
                project(
                    workers,
                    level,
                    &layer.attention_output,
                    &input,
                    &mut results[..tokens * shape.width],
                );
                input.prepare(level, &state, shape.width, forms);
                inner.reset(tokens, shape.inner, forms);
                let slots = inner.slots();
                let gated = Gated {
                    gate: &layer.gate,
                    up: &layer.up,
                    gate_bias: None,
                    up_bias: None,
                    input: &input,
                    combine: &|gate, up| gate.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up),
                    output: &slots,
                };
                let step = chunk_rows(shape.inner);
                workers.run(shape.inner / step, &|chunk, scratch| {
                    multiply_gated(level, &gated, chunk * step..(chunk + 1) * step, scratch);
                });
                project(
                    workers,
                    level,
                    &layer.down,
                    &inner,
                    &mut results[..tokens * shape.width],
                );
            }
            if let Some(head) = head {
                input.prepare(
                    level,
                    &state[..outputs * shape.width],
                    shape.width,
                    head.forms(),
                );
                project(
                    workers,
                    level,
                    head,
                    &input,
                    &mut results[..outputs * shape.vocabulary],
                );
            }
        })
    };
    let bytes_of = |layer: &Layer| {
        [
            &layer.attention,
            &layer.attention_output,
            &layer.gate,
            &layer.up,
            &layer.down,
        ]
        .map(Packed::bytes)
        .iter()
        .sum::<usize>()
    };
    let bytes: usize = layers.iter().map(bytes_of).sum();
    let numbers =
        shape.layers * shape.width * (shape.attention.0 + shape.attention.1 + 3 * shape.inner);
    let layers_time = time(layers, None, 0);
    let outputs = if tokens <= 16 { tokens } else { 1 };
    let head_time = time(&[], Some(head), outputs);
    println!(
        "{tokens:4} tokens: layers {:7.2} ms {:6.1} GB/s {:6.0} GOP/s; head of {outputs} {:6.2} ms {:6.1} GB/s; {:6.0} tokens/s",
        layers_time * 1e3,
        bytes as f64 / layers_time / 1e9,
        2.0 * (numbers * tokens) as f64 / layers_time / 1e9,
        head_time * 1e3,
        head.bytes() as f64 / head_time / 1e9,
        tokens as f64 / (layers_time + head_time),
    );
}

#[test]
#[ignore = "a measurement"]
fn kernel_speed() {
    for kind in [
        TensorKind::Q4_0,
        TensorKind::Q4_1,
        TensorKind::Q8_0,
        TensorKind::Q5_1,
        TensorKind::Q6_K,
        TensorKind::F16,
    ] {
        for (rows, columns) in [(960, 768), (576, 1536)] {
            let matrix = super::pack(
                &random_matrix(kind, (rows, columns), None),
                Arithmetic::Int8,
                FloatWeights::Keep,
            );
            for level in Level::supported().into_iter().skip(1) {
                let speed = [1, 2, 4, 8, 16, 64].map(|tokens| {
                    let input = Random(1).floats(tokens * columns);
                    let mut activations = Activations::default();
                    activations.prepare(level, &input, columns, matrix.forms());
                    let mut output = vec![0.0; tokens * rows];
                    let parts = Parts::new(&mut output);
                    let product = Product {
                        matrix: &matrix,
                        bias: None,
                        input: &activations,
                        output: &parts,
                        mode: Output::Set,
                    };
                    let mut scratch = Vec::new();
                    let seconds = best(300, || {
                        for first in (0..rows).step_by(64) {
                            multiply(level, &product, first..(first + 64).min(rows), &mut scratch);
                        }
                    });
                    (2 * rows * columns * tokens) as f64 / seconds / 1e9
                });
                println!(
                    "{kind:?} {rows}x{columns} {level:?} GOP/s at 1, 2, 4, 8, 16, 64 tokens: {:.0?}",
                    speed
                );
            }
        }
    }
}
