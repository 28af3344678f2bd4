//! Claims about grammars: what they let a model say.

mod hostile;
mod sampling;
mod step_loop;
mod suite;
mod tools;

use std::sync::Arc;

use engine_core::Constraint;
use engine_models::synthetic::SyntheticModel;
use engine_models::{Loaded, Tokenizer};
use serde_json::{Value, json};

use crate::parse::Formats;

use super::{GrammarError, GrammarSpec, Grammars, Matching, Reasoning, Structure};

/// A tokenizer of single bytes.
pub(super) fn byte_tokenizer() -> Arc<Tokenizer> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::default().write(&path).unwrap();
    Arc::new(Loaded::open(&path).unwrap().tokenizer)
}

/// Whether a grammar lets a model say the text and end there. Every token must be in the mask and be a valid draft.
pub(super) fn accepts(tokenizer: &Tokenizer, matching: &mut Matching, text: &str) -> bool {
    let end = tokenizer.stop_tokens()[0];
    for token in tokenizer.encode_plain(text) {
        let mask = match matching.mask() {
            Ok(mask) => mask,
            Err(error) => {
                println!("{error}");
                return false;
            }
        };
        let is_allowed = mask.allows(token);
        if !is_allowed {
            println!(
                "{:?} is not allowed",
                String::from_utf8_lossy(&tokenizer.bytes(token))
            );
            return false;
        }
        assert_eq!(matching.allowed_prefix(&[token]), 1, "{text:?}");
        matching.accept(token).unwrap();
    }
    let may_end = matching.mask().is_ok_and(|mask| mask.allows(end));
    assert_eq!(may_end, matching.may_end(), "{text:?}");
    may_end && matching.accept(end).is_ok()
}

#[track_caller]
fn check(spec: &GrammarSpec, reasoning: Option<&Reasoning>, yes: &[&str], no: &[&str]) {
    let tokenizer = byte_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let texts = yes
        .iter()
        .map(|text| (text, true))
        .chain(no.iter().map(|text| (text, false)));
    for (text, expected) in texts {
        let mut matching = grammars.matching(spec, reasoning).unwrap();
        assert_eq!(
            accepts(&tokenizer, &mut matching, text),
            expected,
            "{text:?} for {spec:?}"
        );
    }
}

fn schema(schema: Value) -> GrammarSpec {
    GrammarSpec::JsonSchema {
        schema,
        strict: true,
    }
}

fn reasoning(is_open: bool) -> Reasoning {
    let formats = Formats::detect(None, None, Some("think")).unwrap();
    Reasoning {
        format: formats.reasoning.unwrap(),
        is_open,
    }
}

#[test]
fn answers_follow_what_was_wished() {
    check(
        &GrammarSpec::JsonObject,
        None,
        &[
            "{}",
            "{\"a\": [1, null, {\"b\": \"ü\"}]}",
            "{\n  \"a\": true\n}",
        ],
        &["[]", "", "{", "{}x", "hello"],
    );
    let person = json!({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
                        "required": ["name"], "additionalProperties": false});
    check(
        &schema(person),
        None,
        &["{\"name\":\"A\"}", "{\"name\": \"A\", \"age\": 3}"],
        &[
            "{}",
            "{\"age\": 3}",
            "{\"name\": 3}",
            "{\"name\": \"A\", \"x\": 1}",
        ],
    );
    check(&schema(json!(true)), None, &["1", "{}", "\"x\""], &["x"]);
    check(
        &GrammarSpec::Regex("[a-c]{2}|x+".to_owned()),
        None,
        &["ab", "xxx"],
        &["a", "abc", "xa"],
    );
    let choice = GrammarSpec::Choice(vec!["yes".to_owned(), "say \"no\"".to_owned()]);
    check(
        &choice,
        None,
        &["yes", "say \"no\""],
        &["ye", "yesno", "no"],
    );
    let lark = GrammarSpec::Lark("start: \"a\"+ tail\ntail: /[0-9]/".to_owned());
    check(&lark, None, &["a1", "aa2"], &["a", "1", "a12"]);
}

#[test]
fn space_in_json_has_a_limit() {
    let spec = schema(json!({"type": "array", "items": {"type": "null"}}));
    let text = |count: usize| format!("[{}null]", " ".repeat(count));
    check(&spec, None, &[&text(0), &text(64)], &[&text(65)]);
}

#[test]
fn reasoning_may_come_before_the_answer() {
    let spec = schema(json!({"type": "integer"}));
    check(
        &spec,
        Some(&reasoning(false)),
        &["7", "<think>so {x}</think>\n\n7", "<think></think>7"],
        &["<think>7", "so 7", "<think>x</think>so"],
    );
    check(
        &spec,
        Some(&reasoning(true)),
        &["so</think>\n7"],
        &["7", "<think>so"],
    );
    let choice = GrammarSpec::Choice(vec!["a".to_owned(), "b".to_owned()]);
    check(
        &choice,
        Some(&reasoning(true)),
        &["x</think>a", "</think>\nb"],
        &["a", "x</think>c"],
    );
    let lark = GrammarSpec::Lark("start: \"a\" | T\nT: \"b\"".to_owned());
    check(
        &lark,
        Some(&reasoning(true)),
        &["x</think>a", "</think>b"],
        &["a", "</think>c"],
    );
    check(
        &GrammarSpec::Regex("a/b".to_owned()),
        Some(&reasoning(true)),
        &["</think>a/b"],
        &["</think>a"],
    );
}

#[test]
fn structural_tags_bind_what_stands_in_them() {
    let spec = GrammarSpec::StructuralTag {
        structures: vec![Structure {
            begin: "<function=f>".to_owned(),
            schema: json!({"type": "integer"}),
            end: "</function>".to_owned(),
        }],
        triggers: vec!["<function=".to_owned()],
    };
    let yes = [
        "",
        "words",
        "say <function=f>7</function> and",
        "<function=f>1</function><function=f>2</function>",
    ];
    check(
        &spec,
        None,
        &yes,
        &[
            "<function=g>7</function>",
            "<function=f>x</function>",
            "a <function=",
        ],
    );
}

#[test]
fn a_wish_that_makes_no_sense_is_the_callers_fault() {
    let grammars = Grammars::new(byte_tokenizer());
    let check = |spec: GrammarSpec, expected: &str| {
        let error = grammars.matching(&spec, None).unwrap_err();
        assert!(error.to_string().chars().count() < 500, "{error}");
        assert!(error.is_callers_fault(), "{error}");
        assert!(error.to_string().contains(expected), "{error} for {spec:?}");
        assert!(!error.to_string().contains('\n'), "{error}");
    };
    check(schema(json!({"type": "nonsense"})), "at $: ");
    check(
        schema(
            json!({"type": "object", "properties": {"a": {"type": "array", "items": {"type": "array", "uniqueItems": true}}}}),
        ),
        "at $.properties.a.items: Unimplemented keys: [\"uniqueItems\"]",
    );
    check(
        schema(
            json!({"$ref": "#/$defs/x", "$defs": {"x": {"anyOf": [{"type": "null"}, {"type": "string", "format": "moon"}]}}}),
        ),
        "at $.$defs.x.anyOf[1]",
    );
    check(schema(json!({"$ref": "#/$defs/gone"})), "gone");
    check(schema(json!({"$ref": "http://127.0.0.1:1/x.json"})), "at $");
    check(schema(json!({"type": "string", "pattern": "("})), "at $");
    check(
        schema(json!({"type": "integer", "minimum": 3, "maximum": 2})),
        "at $",
    );
    let low = json!({"anyOf": [{"type": ["null", "integer"], "exclusiveMaximum": i64::MIN}]});
    check(schema(low), "`exclusiveMaximum` is -9223372036854775808");
    check(schema(json!(false)), "at $");
    check(schema(json!(7)), "at $");
    let unique = json!({"type": "array", "items": {"type": "array", "uniqueItems": true}});
    check(
        GrammarSpec::Either(vec![GrammarSpec::JsonObject, schema(unique)]),
        "at $.items: Unimplemented keys",
    );
    check(GrammarSpec::Regex("[".to_owned()), "");
    check(GrammarSpec::Regex("(?=a)a".to_owned()), "");
    check(GrammarSpec::Lark("start: missing".to_owned()), "missing");
    check(
        GrammarSpec::Lark("start: <nosuchtoken>".to_owned()),
        "nosuchtoken",
    );
    let nested = format!("start: {}\"a\"", "(".repeat(5_000));
    check(GrammarSpec::Lark(nested), "deeply nested");
    check(GrammarSpec::Choice(Vec::new()), "choices");
    check(GrammarSpec::Choice(vec!["a".repeat(2 << 20)]), "at most");
}

#[test]
fn what_cannot_be_enforced_is_ignored_unless_strict() {
    let unique = json!({"type": "array", "items": {"type": "integer"}, "uniqueItems": true});
    let spec = GrammarSpec::JsonSchema {
        schema: unique,
        strict: false,
    };
    check(&spec, None, &["[1]"], &["[\"a\"]"]);
}

#[test]
fn the_state_after_the_end_is_the_end() {
    let tokenizer = byte_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let mut matching = grammars
        .matching(&GrammarSpec::Choice(vec!["ab".to_owned()]), None)
        .unwrap();
    let [a, b, end] = [
        tokenizer.encode_plain("a")[0],
        tokenizer.encode_plain("b")[0],
        tokenizer.stop_tokens()[0],
    ];
    assert_eq!(matching.allowed_prefix(&[a, b, end, a]), 3);
    assert_eq!(matching.allowed_prefix(&[a, a]), 1);
    assert_eq!(matching.allowed_prefix(&[1_000_000]), 0);
    assert_eq!(matching.forced(), [a, b]);
    assert!(
        matching.accept(b).is_err(),
        "a token outside of the grammar"
    );
    let mut matching = grammars
        .matching(&GrammarSpec::Choice(vec!["ab".to_owned()]), None)
        .unwrap();
    matching.accept(a).unwrap();
    assert!(!matching.is_finished() && !matching.may_end());
    matching.accept(b).unwrap();
    assert!(matching.is_finished() && matching.may_end());
    let mask = matching.mask().unwrap();
    let allowed: Vec<_> = (0..300).filter(|token| mask.allows(*token)).collect();
    assert_eq!(allowed, tokenizer.stop_tokens());
    assert_eq!(
        (matching.forced(), matching.allowed_prefix(&[a])),
        (Vec::new(), 0)
    );
    assert!(matching.accept(a).is_err());
    matching.accept(end).unwrap();
    assert!(matching.is_finished());
}

#[test]
fn an_answer_does_not_disturb_another_of_the_same_grammar() {
    let tokenizer = byte_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let spec = schema(json!({"type": "boolean"}));
    let mut left = grammars.matching(&spec, None).unwrap();
    let mut right = grammars.matching(&spec, None).unwrap();
    let token = tokenizer.encode_plain("t")[0];
    left.accept(token).unwrap();
    assert!(accepts(&tokenizer, &mut right, "false"));
    assert!(accepts(&tokenizer, &mut left, "rue"));
    // Masks may be computed on another thread.
    let boxed: Box<dyn Constraint> = grammars.compile(&spec, None).unwrap();
    let allowed = std::thread::spawn(move || {
        let mut boxed = boxed;
        boxed.mask().unwrap().count()
    });
    assert_eq!(allowed.join().unwrap(), 2);
}

#[test]
fn errors_tell_whose_fault_it_is() {
    assert!(!GrammarError::Unavailable(String::new()).is_callers_fault());
}
