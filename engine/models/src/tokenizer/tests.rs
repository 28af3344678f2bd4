//! Claims about tokenizers on a small vocabulary; real ones are compared in `tests/reference.rs`.

use super::Tokenizer;
use crate::gguf::{GgufFile, Value, writer::Writer};
use crate::synthetic::SyntheticModel;

fn tokenizer(writer: &Writer) -> Result<Tokenizer, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    writer.write(&path).unwrap();
    Tokenizer::read(&GgufFile::open(&path).unwrap()).map_err(|error| error.to_string())
}

#[track_caller]
fn check_round_trip(tokenizer: &Tokenizer, text: &str, tokens: usize) {
    let encoded = tokenizer.encode(text);
    assert_eq!(encoded.len(), tokens, "{text:?}: {encoded:?}");
    let bytes: Vec<u8> = encoded
        .iter()
        .flat_map(|token| tokenizer.visible_bytes(*token))
        .collect();
    assert_eq!(String::from_utf8(bytes).unwrap(), text);
}

#[test]
fn bytes_are_joined_by_rules_and_special_tokens_are_whole() {
    let tokenizer = tokenizer(&SyntheticModel::default().writer()).unwrap();
    check_round_trip(&tokenizer, "", 0);
    check_round_trip(&tokenizer, "the", 1);
    check_round_trip(&tokenizer, "bathe", 3);
    check_round_trip(&tokenizer, "t he", 4);
    check_round_trip(&tokenizer, "<|im_end|>the<|im_end|>", 3);
    check_round_trip(&tokenizer, "ü", 2);
    assert_eq!(tokenizer.stop_tokens(), [0, 2]);
    assert_eq!(tokenizer.bytes(2), b"", "control tokens have no text");
    assert_eq!(
        tokenizer.bytes(u32::MAX),
        b"",
        "tokens outside the vocabulary have no text"
    );
}

fn pieces(adds_space: bool) -> Writer {
    let texts = [
        "<unk>",
        "<s>",
        "</s>",
        "<0xC3>",
        "<0xBC>",
        "\u{2581}",
        "a",
        "b",
        "ab",
        "\u{2581}ab",
        "<x>",
    ];
    let types = [2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 4];
    let scores = [0.0, 0.0, 0.0, 0.0, 0.0, -3.0, -4.0, -5.0, -1.0, -0.5, 0.0];
    let mut writer = Writer::default();
    writer.value("tokenizer.ggml.model", Value::String("llama".to_owned()));
    writer.value(
        "tokenizer.ggml.tokens",
        Value::Strings(texts.map(str::to_owned).to_vec()),
    );
    writer.value("tokenizer.ggml.token_type", Value::Integers(types.to_vec()));
    writer.value("tokenizer.ggml.scores", Value::Floats(scores.to_vec()));
    writer.value("tokenizer.ggml.bos_token_id", Value::Integer(1));
    writer.value("tokenizer.ggml.unknown_token_id", Value::Integer(0));
    writer.value("tokenizer.ggml.add_space_prefix", Value::Bool(adds_space));
    writer
}

#[test]
fn pieces_are_joined_by_score_and_the_rest_becomes_bytes() {
    let plain = tokenizer(&pieces(false)).unwrap();
    assert_eq!(plain.encode("ab ab"), [1, 8, 9]);
    assert_eq!(plain.encode("ba"), [1, 7, 6]);
    assert_eq!(plain.encode("ü"), [1, 3, 4]);
    assert_eq!(
        plain.encode("é"),
        [1, 0],
        "a byte without a piece is unknown"
    );
    assert_eq!(plain.encode("a<x>b"), [1, 6, 10, 7]);
    let spaced = tokenizer(&pieces(true)).unwrap();
    assert_eq!(spaced.encode("ab<x>ab"), [1, 9, 10, 8]);
    assert_eq!(spaced.bytes(9), b" ab");
}

#[track_caller]
fn check_refused(key: &str, value: Value, expected: &str) {
    let mut writer = SyntheticModel::default().writer();
    writer.value(key, value);
    assert_eq!(tokenizer(&writer).unwrap_err(), expected);
}

#[test]
fn what_would_give_wrong_tokens_is_refused() {
    let text = |text: &str| Value::String(text.to_owned());
    check_refused(
        "tokenizer.ggml.model",
        text("bert"),
        "tokenizer \"bert\" is not supported",
    );
    check_refused(
        "tokenizer.ggml.pre",
        text("no-such-cut"),
        "pre-tokenizer \"no-such-cut\" is not supported",
    );
    check_refused(
        "tokenizer.ggml.token_type",
        Value::Integers(vec![1]),
        "the tokenizer is inconsistent: there are not as many types as tokens",
    );
}
