//! Claims about adapter files.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Adapter;
use super::open::{interleave, separate};
use crate::config::ModelConfig;
use crate::gguf::GgufFile;
use crate::synthetic::{SyntheticAdapter, SyntheticModel};

fn config(shape: &SyntheticModel) -> ModelConfig {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    shape.write(&path).unwrap();
    ModelConfig::read(&GgufFile::open(&path).unwrap(), 261).unwrap()
}

#[test]
fn an_adapter_is_read_as_it_was_made() {
    let config = config(&SyntheticModel::default());
    let folder = tempfile::tempdir().unwrap();
    let synthetic = SyntheticAdapter::default();
    synthetic.write(folder.path(), &config).unwrap();
    let adapter = Adapter::open(folder.path(), &config).unwrap();
    assert!(adapter == synthetic.build(&config));
    let gate = adapter.layers[1].gate.as_ref().unwrap();
    assert_eq!((gate.rank, gate.a.len(), gate.b.len()), (4, 4 * 32, 48 * 4));
}

#[test]
fn rows_of_halves_are_put_side_by_side_and_back() {
    let halves: Vec<f32> = (0..16_u8).map(f32::from).collect();
    let turns = interleave(&halves, 8, 2);
    assert_eq!(
        turns,
        [
            0., 1., 4., 5., 2., 3., 6., 7., 8., 9., 12., 13., 10., 11., 14., 15.
        ]
    );
    assert_eq!(separate(&turns, 8, 2), halves);
}

/// Opens a synthetic adapter after a change.
fn changed(change: impl FnOnce(&Path), shape: &SyntheticModel) -> Result<Adapter, String> {
    let folder = tempfile::tempdir().unwrap();
    let made_for = config(&SyntheticModel::default());
    SyntheticAdapter::default()
        .write(folder.path(), &made_for)
        .unwrap();
    change(folder.path());
    Adapter::open(folder.path(), &config(shape)).map_err(|error| error.to_string())
}

#[track_caller]
fn check_refused(result: Result<Adapter, String>, expected: &str) {
    let error = result.map(|_| ()).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn the_scale_follows_the_configuration() {
    let scaled = |changes: Value| {
        let change = |folder: &Path| describe(folder, &changes);
        let adapter = changed(change, &SyntheticModel::default()).unwrap();
        adapter.layers[0].query.as_ref().unwrap().b[0]
    };
    let plain = scaled(json!({}));
    assert_eq!(scaled(json!({"lora_alpha": 16})), 2.0 * plain);
    assert_eq!(scaled(json!({"use_rslora": true})), 2.0 * plain);
}

fn describe(folder: &Path, changes: &Value) {
    let path = folder.join("adapter_config.json");
    let mut json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json.as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    fs::write(path, json.to_string()).unwrap();
}

#[test]
fn what_does_not_fit_is_named() {
    let same = SyntheticModel::default();
    let with = |changes: Value| changed(|folder| describe(folder, &changes), &same);
    check_refused(
        with(json!({"r": 0})),
        "the rank r is missing, or not 1 to 4096",
    );
    check_refused(with(json!({"use_dora": true})), "(DoRA)");
    check_refused(
        with(json!({"peft_type": "IA3"})),
        "another method than LoRA",
    );
    check_refused(
        with(json!({"modules_to_save": ["lm_head"]})),
        "whole modules",
    );
    check_refused(
        with(json!({"rank_pattern": {"q_proj": 2}})),
        "a rank for each module",
    );
    let shallow = SyntheticModel {
        layers: 1,
        ..same.clone()
    };
    check_refused(
        changed(|_| {}, &shallow),
        "belongs to no part of this model",
    );
    let wide = SyntheticModel {
        width: 64,
        ..same.clone()
    };
    check_refused(changed(|_| {}, &wide), "not [");
    let file = |bytes: &'static [u8]| {
        changed(
            |folder| fs::write(folder.join("adapter_model.safetensors"), bytes).unwrap(),
            &same,
        )
    };
    check_refused(file(b""), "the header of");
    check_refused(
        file(b"\xff\xff\xff\xff\xff\xff\xff\xff{}"),
        "is longer than",
    );
    let missing = changed(
        |folder| fs::remove_file(folder.join("adapter_config.json")).unwrap(),
        &same,
    );
    check_refused(missing, "cannot read");
}
