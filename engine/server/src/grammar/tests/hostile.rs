//! Wishes that would take forever or all memory, if they could.

use std::time::Instant;

use engine_core::{Constraint, TokenId};
use serde_json::{Value, json};

use super::super::{GrammarSpec, Grammars};
use super::{byte_tokenizer, schema};

#[test]
fn hostile_wishes_end_soon() {
    let grammars = Grammars::new(byte_tokenizer());
    grammars.warm();
    let wishes = hostile_schemas().into_iter().chain(hostile_texts());
    for (index, wish) in wishes.enumerate() {
        let start = Instant::now();
        if let Ok(mut matching) = grammars.matching(&wish, None) {
            for _ in 0..20 {
                let Ok(mask) = matching.mask() else { break };
                let Some(token) = (0..300).find(|token: &TokenId| mask.allows(*token)) else {
                    break;
                };
                if matching.is_finished() || matching.accept(token).is_err() {
                    break;
                }
            }
        }
        let took = start.elapsed();
        println!("{index}: {took:?}, {grammars:?}");
        assert!(took.as_secs() < 20, "wish {index} took {took:?}");
    }
}

fn hostile_schemas() -> Vec<GrammarSpec> {
    // Not by `json!`, which copies what it is given by recursion.
    let nested = |levels: usize, key: &str| {
        (0..levels).fold(json!({"type": "null"}), |inner, _| {
            Value::Object([(key.to_owned(), inner)].into_iter().collect())
        })
    };
    let wide = |count: usize| {
        let members = (0..count).map(|index| (format!("p{index}"), json!({"type": "string"})));
        json!({"type": "object", "properties": Value::Object(members.collect())})
    };
    let doubling: serde_json::Map<_, _> = (0..40)
        .map(|level| {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            let both = json!({"allOf": [next.clone(), next]});
            (format!("d{level}"), both)
        })
        .chain([("d40".to_owned(), json!({"type": "integer"}))])
        .collect();
    let any_of_all_of = json!({"allOf": vec![
        json!({"anyOf": (0..40).map(|index| json!({"properties": {format!("a{index}"): {"minLength": index}}})).collect::<Vec<_>>()});
        6
    ]});
    vec![
        schema(nested(10_000, "items")),
        schema(nested(100, "items")),
        schema(wide(20_000)),
        schema(json!({"$ref": "#/$defs/d0", "$defs": doubling})),
        schema(any_of_all_of),
        schema(json!({"type": "string", "pattern": "((a{1000}){1000}){1000}"})),
        schema(json!({"type": "string", "pattern": "(.*a.{30})*"})),
        schema(json!({"type": "string", "minLength": 1_000_000_000, "maxLength": 2_000_000_000})),
        schema(json!({"type": "array", "minItems": 1_000_000_000, "items": {"type": "integer"}})),
        schema(
            json!({"type": "array", "maxItems": 1_000_000, "prefixItems": [{"type": "integer"}]}),
        ),
        schema(
            json!({"enum": (0..10_000).map(|index| format!("value {index}")).collect::<Vec<_>>()}),
        ),
        schema(json!({"type": "number", "multipleOf": 1e-300})),
        schema(json!({"type": "integer", "minimum": -1e300, "maximum": 1e300})),
        schema(json!({"$ref": "#"})),
        schema(json!({"allOf": [{"$ref": "#"}]})),
    ]
}

fn hostile_texts() -> Vec<GrammarSpec> {
    vec![
        GrammarSpec::Regex("(x+x+)+y".to_owned()),
        GrammarSpec::Regex("(a|b|ab)*c{0,5000}".repeat(20)),
        GrammarSpec::Lark("start: start start | \"a\"".to_owned()),
        GrammarSpec::Lark("start: a\na: b\nb: a".to_owned()),
        GrammarSpec::Lark(format!(
            "start: {}\"a\"{}",
            "(".repeat(20_000),
            ")".repeat(20_000)
        )),
        GrammarSpec::Choice((0..2_000).map(|index| format!("c{index}")).collect()),
    ]
}

#[test]
fn a_schema_that_is_only_itself_is_the_callers_fault() {
    let grammars = Grammars::new(byte_tokenizer());
    let circles = [
        json!({"$ref": "#"}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ];
    for circle in circles {
        let error = grammars
            .matching(&schema(circle.clone()), None)
            .unwrap_err();
        assert!(error.is_callers_fault(), "{circle}: {error}");
    }
}
