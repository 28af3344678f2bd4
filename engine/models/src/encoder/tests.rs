//! Claims about encoders: vectors as those of sentence-transformers.
//!
//! `testdata/minilm.json` is recorded by `testdata/encoder.py`; the weights lie in `target/weights/minilm`.

use std::fs;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use engine_core::TokenId;
use serde::Deserialize;
use serde_json::json;

use super::{InvalidInput, LoadedEncoder};
use crate::weights::{Opened, open};

const COSINE_MIN: f32 = 0.9999;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<TokenId>,
    vector: Vec<f32>,
}

fn reference() -> Vec<Case> {
    let reference: Reference =
        serde_json::from_str(include_str!("../../testdata/minilm.json")).unwrap();
    reference.cases
}

fn weights() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/weights/minilm");
    assert!(
        path.join("model.safetensors").exists(),
        "{} is missing: run `cargo xtask weights` to fetch it",
        path.display()
    );
    path
}

fn minilm() -> LoadedEncoder {
    match open(&weights()).unwrap() {
        Opened::Encoder(loaded) => *loaded,
        Opened::Generative(_) => panic!("MiniLM is an encoder"),
    }
}

fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |left: &[f32], right: &[f32]| -> f32 {
        left.iter()
            .zip(right)
            .map(|(left, right)| left * right)
            .sum()
    };
    dot(left, right) / (dot(left, left) * dot(right, right)).sqrt()
}

#[test]
fn minilm_embeds_as_the_reference_does() {
    let loaded = minilm();
    assert_eq!(loaded.encoder.config().length_max, 256);
    for case in reference() {
        let ids = loaded.tokenizer.encode(&case.text);
        assert_eq!(ids, case.ids, "{:?}", case.text);
        let vector = &loaded.encoder.embed(&[ids]).unwrap()[0];
        let cosine = cosine(vector, &case.vector);
        assert!(COSINE_MIN <= cosine, "{:?}: {cosine}", case.text);
        let length: f32 = vector.iter().map(|value| value * value).sum();
        assert!((length - 1.0).abs() < 1e-4, "vectors have length 1");
    }
}

#[test]
fn a_vector_does_not_depend_on_the_texts_beside_it() {
    let mut encoder = minilm().encoder;
    let texts: Vec<_> = reference().into_iter().map(|case| case.ids).collect();
    let alone: Vec<_> = texts
        .iter()
        .map(|text| encoder.embed(std::slice::from_ref(text)).unwrap().remove(0))
        .collect();
    encoder.use_threads(NonZeroUsize::new(3).unwrap());
    assert!(encoder.embed(&texts).unwrap() == alone);
}

#[test]
fn long_texts_are_refused_and_not_cut() {
    let encoder = minilm().encoder;
    let too_long = InvalidInput::TooLong {
        index: 1,
        length: 257,
        limit: 256,
    };
    assert_eq!(
        encoder.embed(&[vec![101; 256], vec![101; 257]]),
        Err(too_long)
    );
    assert_eq!(
        encoder.embed(&[vec![]]),
        Err(InvalidInput::Empty { index: 0 })
    );
    assert_eq!(encoder.embed(&[]), Ok(Vec::new()));
    assert_eq!(encoder.embed(&[vec![u32::MAX]]).unwrap()[0].len(), 384);
}

#[track_caller]
fn check_refused(changes: &serde_json::Value, expected: &str) {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({
        "model_type": "bert", "num_hidden_layers": 1, "hidden_size": 8, "intermediate_size": 8,
        "num_attention_heads": 2, "vocab_size": 10, "max_position_embeddings": 8,
    });
    let changes = changes.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let error = LoadedEncoder::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn absurd_configurations_are_refused() {
    check_refused(
        &json!({"hidden_size": 0}),
        "hidden_size is missing, or not 1 to",
    );
    check_refused(
        &json!({"hidden_size": 1e30}),
        "hidden_size is missing, or not 1 to",
    );
    check_refused(
        &json!({"num_attention_heads": 3}),
        "the heads do not share the width evenly",
    );
    check_refused(
        &json!({"position_embedding_type": "relative_key"}),
        "positions of type relative_key",
    );
    check_refused(&json!({"hidden_act": "mish"}), "the activation mish");
    check_refused(&json!({}), "cannot read");
}
