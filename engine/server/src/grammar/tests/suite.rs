//! The JSON Schema test suite: whatever is generated under a schema that can be enforced is valid under it.
//!
//! `testdata/json_schemas.json` holds the suite's schemas, with where they come from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{GrammarSpec, Grammars};
use super::sampling::{Ended, Sampler, real_tokenizer};

const SUITE: &str = include_str!("../../../testdata/json_schemas.json");
/// Answers under each schema.
const ANSWERS: usize = 3;
/// Most tokens of an answer.
const TOKENS_MAX: usize = 200;

/// Answers that the validator does not understand, or takes a stricter view of than their standard.
pub(super) fn is_beyond_the_validator(name: &str, text: &str) -> bool {
    let is_long = |number: &str| {
        let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, ""));
        15 < digits.len() || 2 < exponent.trim_start_matches(['+', '-']).len()
    };
    let mut numbers = text.split(|next: char| !next.is_ascii_digit() && !"+-.eE".contains(next));
    // Numbers that no double holds, leap seconds at other times than midnight, and spaces of Unicode.
    numbers.any(is_long) || text.contains(":60") || name.contains("ECMA 262 \\s matches whitespace")
}

#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
pub(super) struct Case {
    pub(super) file: String,
    pub(super) description: String,
    pub(super) schema: Value,
}

/// The schemas of the suite.
pub(super) fn suite() -> Vec<Case> {
    let suite: Suite = serde_json::from_str(SUITE).unwrap();
    suite.cases
}

/// What decides whether an answer is valid.
pub(super) fn validator(schema: &Value) -> Option<jsonschema::Validator> {
    let options = jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .should_validate_formats(true)
        .build(schema);
    options.ok()
}

#[derive(Debug, Default)]
struct Count {
    schemas: usize,
    refused: usize,
    answers: usize,
    valid: usize,
    capped: usize,
    too_hard: usize,
    beyond_the_validator: usize,
    not_checked: usize,
}

/// Generates under a schema and complains about answers that are not valid.
fn generate(
    grammars: &Grammars,
    sampler: &mut Sampler,
    name: &str,
    schema: &Value,
    count: &mut Count,
) -> Vec<String> {
    let spec = GrammarSpec::JsonSchema {
        schema: schema.clone(),
        strict: true,
    };
    count.schemas += 1;
    if let Err(error) = grammars.matching(&spec, None) {
        println!("{name}: {error}");
        count.refused += 1;
        return Vec::new();
    }
    let Some(validator) = validator(schema) else {
        count.not_checked += 1;
        return Vec::new();
    };
    let mut faults = Vec::new();
    for _ in 0..ANSWERS {
        let mut matching = grammars.matching(&spec, None).unwrap();
        match sampler.answer(&mut matching, TOKENS_MAX) {
            Ended::Complete(text) => {
                count.answers += 1;
                let value: Result<Value, _> = serde_json::from_str(&text);
                if value.as_ref().is_ok_and(|value| validator.is_valid(value)) {
                    count.valid += 1;
                } else if is_beyond_the_validator(name, &text) {
                    count.beyond_the_validator += 1;
                } else {
                    faults.push(format!("{name}: {text:?} under {schema}"));
                }
            }
            Ended::Capped => count.capped += 1,
            Ended::TooHard(error) => {
                count.too_hard += 1;
                println!("{name}: {error}");
            }
        }
    }
    faults
}

#[test]
fn what_is_generated_under_a_schema_of_the_suite_is_valid() {
    let tokenizer = real_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let mut sampler = Sampler::new(tokenizer, 1);
    let mut count = Count::default();
    let mut faults = Vec::new();
    for case in &suite() {
        let name = format!("{}: {}", case.file, case.description);
        faults.extend(generate(
            &grammars,
            &mut sampler,
            &name,
            &case.schema,
            &mut count,
        ));
    }
    println!("{count:?}");
    sampler.report();
    assert!(faults.is_empty(), "{}:\n{faults:#?}", faults.len());
    assert!(500 < count.answers, "{count:?}");
}

#[test]
fn what_all_grammars_share_is_built_at_once() {
    let tokenizer = real_tokenizer();
    let start = Instant::now();
    let grammars = Grammars::new(tokenizer);
    let created = start.elapsed();
    grammars.warm();
    println!("created in {created:?}, warm after {:?}", start.elapsed());
    assert!(created < Duration::from_millis(1), "{created:?}");
    let spec = GrammarSpec::JsonSchema {
        schema: json!({"type": "object", "properties": {"a": {"type": "string"}}}),
        strict: true,
    };
    for _ in 0..2 {
        let start = Instant::now();
        drop(grammars.matching(&spec, None).unwrap());
        println!("compiled in {:?}", start.elapsed());
    }
}

/// Schemas as people send them.
#[test]
fn masks_take_microseconds() {
    let tokenizer = real_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let address = json!({"type": "object", "properties": {
        "street": {"type": "string"}, "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "country": {"enum": ["de", "fr", "no"]},
    }, "required": ["street", "zip", "country"], "additionalProperties": false});
    let person = json!({"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 40}, "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "born": {"type": "string", "format": "date-time"}, "mail": {"type": "string", "format": "email"},
        "addresses": {"type": "array", "items": address, "maxItems": 4}, "tags": {"type": "array", "items": {"type": "string"}},
    }, "required": ["name", "age", "addresses"], "additionalProperties": false});
    let specs = HashMap::from([
        ("object", GrammarSpec::JsonObject),
        (
            "person",
            GrammarSpec::JsonSchema {
                schema: person,
                strict: true,
            },
        ),
        (
            "regex",
            GrammarSpec::Regex("[A-Z][a-z]+( [A-Z][a-z]+){1,8}\\.".to_owned()),
        ),
    ]);
    for (name, spec) in specs {
        let mut sampler = Sampler::new(Arc::clone(&tokenizer), 3);
        for _ in 0..20 {
            let mut matching = grammars.matching(&spec, None).unwrap();
            let _ = sampler.answer(&mut matching, 100);
        }
        print!("{name}: ");
        sampler.report();
    }
}
