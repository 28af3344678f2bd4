//! Claims about `tokenizer.json`: tiny tokenizers of each family give the tokens of the library that trained them.
//!
//! `testdata/tokenizers` is made by `testdata/tokenizers.py`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use engine_core::TokenId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::Tokenizer;

#[derive(Deserialize)]
struct Expected {
    texts: Vec<String>,
    ids: HashMap<String, Vec<Vec<TokenId>>>,
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/tokenizers")
}

fn open(text: &[u8]) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("tokenizer.json"), text).unwrap();
    let opened = Tokenizer::open_folder(folder.path(), 1 << 20);
    let opened = opened.map_err(|error| error.to_string());
    opened.map(|(tokenizer, _)| tokenizer)
}

#[test]
fn each_family_gives_the_tokens_of_the_reference() {
    let expected = fs::read(testdata().join("expected.json")).unwrap();
    let expected: Expected = serde_json::from_slice(&expected).unwrap();
    let mut faults = Vec::new();
    for (name, ids) in &expected.ids {
        let tokenizer = open(&fs::read(testdata().join(format!("{name}.json"))).unwrap()).unwrap();
        for (text, ids) in expected.texts.iter().zip(ids) {
            let got = tokenizer.encode(text);
            if got != *ids {
                faults.push(format!("{name} {text:?}: {got:?}, not {ids:?}"));
            }
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults, first: {:#?}",
        faults.len(),
        &faults[..faults.len().min(12)]
    );
}

#[track_caller]
fn check_text(name: &str, text: &str, expected: &str) {
    let file = fs::read(testdata().join(format!("{name}.json"))).unwrap();
    let tokenizer = open(&file).unwrap();
    let bytes: Vec<u8> = tokenizer
        .encode(text)
        .iter()
        .flat_map(|id| tokenizer.bytes(*id))
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), expected, "{name}");
}

#[test]
fn tokens_become_text_again() {
    check_text("gpt2", "Grüße, 日本 <b>!", "Grüße, 日本 <b>!");
    check_text("llama3", "<s> don't\n\n🙂", " don't\n\n🙂");
    check_text("gemma", " two  spaces 日", " two  spaces 日");
    check_text("llama2", "they 🙂", " they 🙂");
    check_text("bert", "Théâtre, snake_case", " theatre , snake _ case");
}

#[test]
fn what_stands_beside_the_tokenizer_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, value: Value| {
        fs::write(folder.path().join(name), value.to_string()).unwrap();
    };
    fs::copy(
        testdata().join("gpt2.json"),
        folder.path().join("tokenizer.json"),
    )
    .unwrap();
    write(
        "tokenizer_config.json",
        json!({
            "bos_token": {"content": "<s>"}, "eos_token": "</s>", "add_bos_token": true,
            "chat_template": [{"name": "tools", "template": "t"}, {"name": "default", "template": "d"}],
        }),
    );
    write(
        "generation_config.json",
        json!({"eos_token_id": [2, 7, 1_000_000]}),
    );
    let (tokenizer, template) = Tokenizer::open_folder(folder.path(), 100).unwrap();
    assert_eq!(template.as_deref(), Some("d"));
    assert_eq!(
        (tokenizer.begin_text(), tokenizer.end_text()),
        ("<s>", "</s>")
    );
    assert_eq!(tokenizer.stop_tokens(), [2, 7]);
    assert_eq!(tokenizer.encode("")[..], [1]);
    assert_eq!(tokenizer.encode_chat("<s>")[..], [1]);
    assert_eq!(tokenizer.vocabulary(), 100);
    assert!(
        tokenizer.encode("the theatre").iter().all(|id| *id < 100),
        "the model knows 100 tokens"
    );
}

/// A small tokenizer with some changes.
fn with(change: impl FnOnce(&mut Value)) -> Result<Tokenizer, String> {
    let file = fs::read(testdata().join("gpt2.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&file).unwrap();
    change(&mut file);
    open(file.to_string().as_bytes())
}

#[track_caller]
fn check_refused(result: Result<Tokenizer, String>, expected: &str) {
    let error = result.map(|_| ()).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[test]
fn what_would_give_wrong_tokens_is_refused() {
    check_refused(
        with(|file| file["normalizer"] = json!({"type": "Magic"})),
        "the normalizer \"Magic\"",
    );
    check_refused(
        with(|file| file["pre_tokenizer"] = json!({"type": "Magic"})),
        "the pre-tokenizer \"Magic\"",
    );
    check_refused(
        with(|file| file["decoder"] = json!({"type": "Magic"})),
        "the decoder \"Magic\"",
    );
    check_refused(
        with(|file| file["model"]["type"] = json!("Magic")),
        "tokenizer \"Magic\"",
    );
    check_refused(
        with(|file| file["model"]["end_of_word_suffix"] = json!("</w>")),
        "marks inside of words",
    );
    let pattern =
        |text: &str| json!({"type": "Split", "pattern": {"Regex": text}, "behavior": "Isolated"});
    check_refused(
        with(|file| file["pre_tokenizer"] = pattern("(")),
        "the pattern \"(\"",
    );
}

#[test]
fn hostile_files_are_refused_and_take_no_memory() {
    check_refused(open(b""), "does not parse");
    check_refused(open(b"\xff\xfe{}"), "not UTF-8");
    check_refused(open("[".repeat(10_000).as_bytes()), "does not parse");
    let deep = format!(
        "{{\"normalizer\": {}",
        "{\"type\":\"Sequence\",\"normalizers\":[".repeat(10_000)
    );
    check_refused(open(deep.as_bytes()), "recursion limit");
    check_refused(
        with(|file| file["model"]["vocab"]["x"] = json!(u32::MAX)),
        "large gaps",
    );
    check_refused(
        with(|file| file["model"]["vocab"]["x"] = json!(-1)),
        "does not parse",
    );
    check_refused(
        with(|file| file["added_tokens"][0]["id"] = json!(u32::MAX)),
        "large gaps",
    );
    check_refused(
        with(|file| file["model"]["merges"][0] = json!([["a"]])),
        "does not parse",
    );
    let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "x"}}]});
    check_refused(
        with(|file| file["post_processor"] = template),
        "names a token that it lacks",
    );
    let steps = (0..40).fold(
        json!({"type": "NFC"}),
        |step, _| json!({"type": "Sequence", "normalizers": [step]}),
    );
    check_refused(with(|file| file["normalizer"] = steps), "nested too deep");
}
