//! Answers on real weights compared with those of a reference implementation, and with each other: alone, in a
//! batch, in chunks and from the prefix cache.
//!
//! `testdata/*.json` is recorded by `testdata/reference.py`; the weights lie in `target/weights`.
#![cfg(test)]

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use engine_core::{
    BlockPool, Cache, NewSequence, Scheduler, SchedulerOptions, SchedulingPolicy, SequenceId,
    TokenId,
};
use engine_models::{
    Arithmetic, Backend, BatchRow, CacheShape, ChatInput, CpuBackend, CpuOptions, FloatWeights,
    Loaded,
};
use serde::Deserialize;

const SMOLLM2: (&str, &str) = (
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    include_str!("../testdata/smollm2.json"),
);
const GEMMA3: (&str, &str) = (
    "gemma-3-270m-q4_k_m.gguf",
    include_str!("../testdata/gemma3.json"),
);

/// How far a log probability may be from the reference, whose sums have another order.
const LOGPROB_TOLERANCE: f32 = 2e-3;
/// The same with integer activations, which round more: how far any is from it, and on average.
const INTEGER_TOLERANCE: f32 = 0.15;
const INTEGER_MEAN: f32 = 0.03;

/// The beginning of "Alice's Adventures in Wonderland" (Lewis Carroll, 1865).
const TEXT: &str = include_str!("../testdata/alice.txt");

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
    tokenization: Vec<Tokenization>,
}

#[derive(Deserialize)]
struct Case {
    prompt: serde_json::Value,
    #[serde(default)]
    rendered: Option<String>,
    prompt_ids: Vec<TokenId>,
    output_ids: Vec<TokenId>,
    text: String,
    top: Vec<(TokenId, f32)>,
}

#[derive(Deserialize)]
struct Tokenization {
    text: String,
    ids: Vec<TokenId>,
}

fn reference(model: (&str, &str)) -> Reference {
    serde_json::from_str(model.1).unwrap()
}

fn weights(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/weights")
        .join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo xtask weights` to fetch it",
        path.display()
    );
    path
}

fn load(model: (&str, &str)) -> Loaded {
    Loaded::open(&weights(model.0)).unwrap()
}

/// A backend with a scheduler in front, as the engine's step loop has it.
struct Bench {
    scheduler: Scheduler,
    backend: CpuBackend,
    batch_max: usize,
}

impl Bench {
    fn new(loaded: Loaded, arithmetic: Arithmetic, limits: SchedulerOptions) -> Self {
        let (blocks, block_tokens) = (256, 16);
        let pool = BlockPool::new(blocks, NonZeroU32::new(block_tokens).unwrap());
        let shape = CacheShape {
            blocks: blocks as usize,
            block_tokens: block_tokens as usize,
        };
        let backend = CpuBackend::new(
            loaded.model,
            CpuOptions {
                cache: shape,
                threads: NonZeroUsize::new(2).unwrap(),
                arithmetic,
                float_weights: FloatWeights::Keep,
            },
        );
        Self {
            scheduler: Scheduler::new(limits, Cache::new(pool)),
            backend,
            batch_max: 0,
        }
    }

    fn add(&mut self, id: usize, prompt: &[TokenId], tokens: usize) {
        let new = NewSequence {
            prompt: prompt.to_vec(),
            length_max: prompt.len() + tokens,
            ..NewSequence::default()
        };
        self.scheduler.add(SequenceId(id as u64), new).unwrap();
    }

    /// Runs a step and returns the logits of the sequences that sample.
    fn step(&mut self) -> HashMap<usize, Vec<f32>> {
        let step = self.scheduler.schedule();
        self.batch_max = self.batch_max.max(step.rows.len());
        let rows: Vec<_> = step
            .rows
            .iter()
            .map(|row| {
                let sequence = self.scheduler.sequence(row.sequence).unwrap();
                let tokens = &sequence.tokens()[row.start..row.start + row.length];
                BatchRow {
                    tokens,
                    start: row.start,
                    blocks: sequence.blocks(),
                    outputs: row.outputs,
                    adapter: None,
                }
            })
            .collect();
        let logits = self.backend.forward(&rows);
        let sampling = step.rows.iter().filter(|row| 0 < row.outputs);
        let sampled: Vec<_> = sampling
            .zip(logits.rows())
            .map(|(row, logits)| (row.sequence, greedy(logits), logits))
            .collect();
        let tokens: Vec<_> = sampled.iter().map(|(id, token, _)| (*id, *token)).collect();
        let out = sampled
            .iter()
            .map(|(id, _, logits)| (id.0 as usize, logits.to_vec()))
            .collect();
        for (id, token) in tokens {
            self.scheduler.settle(id, &[token], 0);
        }
        out
    }

    /// Runs until each sequence has `lengths[id]` new tokens; returns them and the first logits.
    fn run(&mut self, lengths: &[usize]) -> Vec<(Vec<TokenId>, Vec<f32>)> {
        let mut first = HashMap::new();
        let mut done = vec![None; lengths.len()];
        while done.iter().any(Option::is_none) {
            for (id, logits) in self.step() {
                first.entry(id).or_insert(logits);
                let sequence = self.scheduler.sequence(SequenceId(id as u64)).unwrap();
                let output = &sequence.tokens()[sequence.prompt_length()..];
                if output.len() == lengths[id] {
                    done[id] = Some(output.to_vec());
                    self.scheduler.remove(SequenceId(id as u64));
                }
            }
        }
        done.into_iter()
            .enumerate()
            .map(|(id, output)| (output.unwrap(), first.remove(&id).unwrap()))
            .collect()
    }
}

fn greedy(logits: &[f32]) -> TokenId {
    let mut best = 0;
    for (index, logit) in logits.iter().enumerate() {
        if logits[best] < *logit {
            best = index;
        }
    }
    best as TokenId
}

fn log_probability(logits: &[f32], token: TokenId) -> f32 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - highest).exp())
        .sum();
    logits[token as usize] - highest - sum.ln() as f32
}

const fn limits(step_tokens_max: usize, sequences_max: usize) -> SchedulerOptions {
    SchedulerOptions {
        step_tokens_max,
        sequences_max,
        waiting_max: 64,
        waiting_tokens_max: 1 << 20,
        policy: SchedulingPolicy::Arrival,
        speculation: None,
    }
}

const ALONE: SchedulerOptions = limits(4096, 1);

#[track_caller]
fn check_answers(model: (&str, &str)) {
    let reference = reference(model);
    let mut bench = Bench::new(load(model), Arithmetic::F32, ALONE);
    let lengths: Vec<_> = reference
        .cases
        .iter()
        .map(|case| case.output_ids.len())
        .collect();
    for (id, case) in reference.cases.iter().enumerate() {
        bench.add(id, &case.prompt_ids, lengths[id]);
    }
    for (case, (output, logits)) in reference.cases.iter().zip(bench.run(&lengths)) {
        for (token, expected) in &case.top {
            let got = log_probability(&logits, *token);
            let distance = (got - expected).abs();
            assert!(
                distance < LOGPROB_TOLERANCE,
                "{}: token {token} has {got}, not {expected}",
                case.prompt
            );
        }
        assert_eq!(
            output, case.output_ids,
            "{}: expected {:?}",
            case.prompt, case.text
        );
    }
}

#[test]
fn smollm2_answers_as_the_reference_does() {
    check_answers(SMOLLM2);
}

#[test]
fn gemma3_answers_as_the_reference_does() {
    check_answers(GEMMA3);
}

/// Top log probabilities with integers are near the reference's, and a text is hardly less likely.
#[track_caller]
fn check_integers(model: (&str, &str)) {
    let reference = reference(model);
    let mut bench = Bench::new(load(model), Arithmetic::Int8, ALONE);
    for (id, case) in reference.cases.iter().enumerate() {
        bench.add(id, &case.prompt_ids, 1);
    }
    let answers = bench.run(&vec![1; reference.cases.len()]);
    let mut distances = Vec::new();
    for (case, (_, logits)) in reference.cases.iter().zip(answers) {
        let distance = |(token, expected): &(TokenId, f32)| {
            (log_probability(&logits, *token) - expected).abs()
        };
        distances.extend(case.top.iter().map(distance));
    }
    let mean = distances.iter().sum::<f32>() / distances.len() as f32;
    let furthest = distances.iter().copied().fold(0.0, f32::max);
    assert!(
        mean < INTEGER_MEAN && furthest < INTEGER_TOLERANCE,
        "{mean} away on average, {furthest} at most"
    );
    let [exact, integer] = [Arithmetic::F32, Arithmetic::Int8].map(|mode| perplexity(model, mode));
    assert!(
        integer < 1.01 * exact,
        "a perplexity of {integer}, not {exact}"
    );
}

fn perplexity(model: (&str, &str), arithmetic: Arithmetic) -> f64 {
    let loaded = load(model);
    let tokens = loaded.tokenizer.encode(TEXT);
    let mut bench = Bench::new(loaded, arithmetic, ALONE);
    let block_tokens = NonZeroU32::new(16).unwrap();
    let blocks = BlockPool::new(256, block_tokens).lend(256).unwrap();
    let row = BatchRow {
        tokens: &tokens[..tokens.len() - 1],
        start: 0,
        blocks: &blocks,
        outputs: tokens.len() - 1,
        adapter: None,
    };
    let logits = bench.backend.forward(&[row]);
    let next = logits.rows().zip(&tokens[1..]);
    let sum: f64 = next
        .map(|(logits, token)| f64::from(log_probability(logits, *token)))
        .sum();
    (-sum / (tokens.len() - 1) as f64).exp()
}

#[test]
fn smollm2_computes_nearly_the_same_with_integers() {
    check_integers(SMOLLM2);
}

#[test]
fn gemma3_computes_nearly_the_same_with_integers() {
    check_integers(GEMMA3);
}

/// Each way of computing gives the same bits as the plain one.
#[track_caller]
fn check_invariance(
    model: (&str, &str),
    arithmetic: Arithmetic,
    limits: SchedulerOptions,
    rounds: usize,
) {
    let reference = reference(model);
    let prompts = reference.cases.iter().map(|case| &case.prompt_ids);
    let prompts: Vec<_> = prompts
        .filter(|prompt| model == GEMMA3 || prompt.len() <= 200)
        .collect();
    // A long prompt and the first few: enough for full batches.
    let first = prompts.len().saturating_sub(9);
    let prompts = &prompts[first..];
    let lengths = vec![8; prompts.len()];
    let mut alone = Bench::new(load(model), arithmetic, ALONE);
    let mut other = Bench::new(load(model), arithmetic, limits);
    for (id, prompt) in prompts.iter().enumerate() {
        alone.add(id, prompt, lengths[id]);
    }
    let expected = alone.run(&lengths);
    assert_eq!(alone.batch_max, 1);
    for _ in 0..rounds {
        for (id, prompt) in prompts.iter().enumerate() {
            other.add(id, prompt, lengths[id]);
        }
        assert!(
            other.run(&lengths) == expected,
            "answers or logits differ from those alone"
        );
    }
    assert!(
        limits.sequences_max == 1 || 1 < other.batch_max,
        "nothing was batched"
    );
}

#[test]
fn an_answer_is_the_same_alone_in_a_batch_in_chunks_and_from_the_prefix_cache() {
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        check_invariance(SMOLLM2, arithmetic, limits(512, 8), 1);
        check_invariance(SMOLLM2, arithmetic, limits(7, 3), 2);
    }
}

#[test]
fn sliding_windows_do_not_depend_on_the_batch_either() {
    for arithmetic in [Arithmetic::F32, Arithmetic::Int8] {
        check_invariance(GEMMA3, arithmetic, limits(33, 3), 1);
    }
}

#[track_caller]
fn check_tokenizer(model: (&str, &str)) {
    let reference = reference(model);
    let tokenizer = load(model).tokenizer;
    for case in &reference.tokenization {
        assert_eq!(tokenizer.encode(&case.text), case.ids, "{:?}", case.text);
        let visible: Vec<u8> = case
            .ids
            .iter()
            .flat_map(|id| tokenizer.visible_bytes(*id))
            .collect();
        let text = String::from_utf8(visible).unwrap();
        assert_eq!(
            text.trim_start_matches(tokenizer.begin_text()),
            case.text.trim_start_matches(tokenizer.begin_text())
        );
    }
    for case in &reference.cases {
        if let Some(rendered) = &case.rendered {
            assert_eq!(
                tokenizer.encode_chat(rendered),
                case.prompt_ids,
                "{rendered:?}"
            );
        }
    }
}

#[test]
fn smollm2_texts_become_the_reference_tokens_and_back() {
    check_tokenizer(SMOLLM2);
}

#[test]
fn gemma3_texts_become_the_reference_tokens_and_back() {
    check_tokenizer(GEMMA3);
}

#[test]
fn the_chat_template_renders_as_the_reference_does() {
    let (reference, loaded) = (reference(SMOLLM2), load(SMOLLM2));
    let template = loaded.template.unwrap();
    for case in reference.cases {
        let Some(rendered) = case.rendered else {
            continue;
        };
        let texts: Vec<String> = serde_json::from_value(case.prompt).unwrap();
        let roles = ["user", "assistant"].into_iter().cycle();
        let messages = texts.iter().zip(roles);
        let messages = messages
            .map(|(text, role)| serde_json::json!({"role": role, "content": text}))
            .collect();
        let input = ChatInput {
            messages,
            tools: None,
            add_generation_prompt: true,
            bos_token: loaded.tokenizer.begin_text(),
            eos_token: loaded.tokenizer.end_text(),
            extra: serde_json::Map::new(),
        };
        assert_eq!(
            template.render(&input, |_| String::new()).unwrap(),
            rendered
        );
    }
}
