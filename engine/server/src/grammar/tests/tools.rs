//! Claims about grammars of tool calls: what they let through, the parser understands.

use std::sync::Arc;

use engine_core::Constraint;
use serde_json::{Value, json};

use crate::parse::{Formats, Message, Output, OutputOptions, TOOL_FORMATS, Tool, ToolChoice};

use super::super::{GrammarSpec, Grammars, ToolCalls};
use super::sampling::{Ended, Sampler, real_tokenizer};
use super::{accepts, byte_tokenizer, reasoning};

fn tools(strict: bool) -> Vec<Tool> {
    let weather = json!({
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 12},
            "unit": {"$ref": "#/$defs/unit"},
            "exact": {"type": "boolean"},
        },
        "required": ["city"],
        "additionalProperties": false,
        "$defs": {"unit": {"enum": ["C", "F"]}},
    });
    let tool = |name: &str, parameters: Option<Value>| Tool {
        name: name.to_owned(),
        description: None,
        parameters,
        strict,
    };
    let nothing = json!({"type": "object", "properties": {}, "additionalProperties": false});
    vec![tool("weather", Some(weather)), tool("now", Some(nothing))]
}

fn calls(format: &str, choice: ToolChoice, parallel: bool, strict: bool) -> GrammarSpec {
    GrammarSpec::ToolCalls(ToolCalls {
        format: Formats::detect(None, Some(format), None).unwrap().tools,
        tools: tools(strict),
        choice,
        parallel,
    })
}

#[track_caller]
fn check(spec: &GrammarSpec, yes: &[&str], no: &[&str]) {
    super::check(spec, None, yes, no);
}

#[test]
fn a_required_call_is_written_as_the_model_writes_it() {
    let required = |format: &str| calls(format, ToolChoice::Required, true, true);
    let hermes = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"unit\": \"C\"}}\n</tool_call>";
    let now = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    check(
        &required("hermes"),
        &[hermes, now, &format!("{hermes}\n{now}")],
        &[
            "",
            "hello",
            "<tool_call>\n{\"name\": \"moon\", \"arguments\": {}}\n</tool_call>",
            &format!("{now} x"),
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>",
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Oslo\", \"unit\": \"K\"}}\n</tool_call>",
        ],
    );
    check(
        &required("llama3-json"),
        &[
            "{\"name\": \"now\", \"parameters\": {}}",
            "{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {}}",
            "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}",
        ],
        &["{}", "{\"name\": \"now\", \"arguments\": {}}"],
    );
    check(
        &required("mistral"),
        &[
            "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}]",
            "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"now\", \"arguments\": {}}]",
        ],
        &["[TOOL_CALLS][]", "[]"],
    );
    check(
        &required("mistral-args"),
        &[
            "[TOOL_CALLS]now[ARGS]{}",
            "[TOOL_CALLS]now[ARGS]{}[TOOL_CALLS]weather[ARGS]{\"city\": \"A\"}",
        ],
        &["[TOOL_CALLS]moon[ARGS]{}", "now[ARGS]{}"],
    );
    check(
        &required("pythonic"),
        &[
            "[now()]",
            "[weather(city=\"A\")]",
            "[weather(city=\"A\", exact=True), now()]",
            "[weather(city=\"A\", unit=\"F\", exact=False)]",
        ],
        &[
            "[]",
            "[weather()]",
            "[weather(unit=\"F\")]",
            "[weather(city=\"A\", unit=\"K\")]",
            "[now(a=1)]",
            "[weather(exact=True, city=\"A\")]",
        ],
    );
}

#[test]
fn a_named_call_is_that_call_and_no_other() {
    let named = calls("hermes", ToolChoice::Named("now".to_owned()), true, false);
    let now = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let weather =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"A\"}}\n</tool_call>";
    check(&named, &[now], &[weather, &format!("{now}\n{now}")]);
    let single = calls("pythonic", ToolChoice::Required, false, false);
    check(&single, &["[now()]"], &["[now(), now()]"]);
}

#[test]
fn strict_tools_bind_only_what_begins_a_call() {
    let auto = |format: &str, parallel| calls(format, ToolChoice::Auto, parallel, true);
    let now = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    let moon = now.replace("now", "moon");
    check(
        &auto("hermes", true),
        &[
            "",
            "It is noon.",
            now,
            &format!("Let me see. {now}\n{now} So."),
            "a < b",
        ],
        &[&moon, &format!("Let me see. {moon}"), "<tool_call>"],
    );
    check(
        &auto("hermes", false),
        &["It is noon.", now],
        &[&moon, &format!("{now}\n{now}")],
    );
    check(
        &auto("llama3-json", true),
        &["It is.", "{\"name\": \"now\", \"parameters\": {}}"],
        &["{\"x\": 1}"],
    );
    check(
        &auto("pythonic", true),
        &["It is.", "[now()]"],
        &["[moon()]", "[1]"],
    );
    let GrammarSpec::ToolCalls(free) = calls("hermes", ToolChoice::Auto, true, false) else {
        return;
    };
    assert!(!free.is_restricted());
}

#[test]
fn a_model_may_think_before_it_calls() {
    let spec = calls("hermes", ToolChoice::Required, true, true);
    let now = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    super::check(
        &spec,
        Some(&reasoning(true)),
        &[&format!("Hm.\n</think>\n\n{now}")],
        &["Hm.</think>\n\nHello", now],
    );
}

#[test]
fn an_answer_may_be_calls_or_json() {
    let answer = GrammarSpec::JsonSchema {
        schema: json!({"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": false}),
        strict: true,
    };
    let calls = calls("hermes", ToolChoice::Required, true, true);
    let now = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
    check(
        &GrammarSpec::Either(vec![calls, answer]),
        &[now, "{\"a\": 1}", "{}"],
        &["words", "{\"b\": 1}"],
    );
}

#[test]
fn a_tool_without_a_schema_takes_any_object() {
    let tokenizer = byte_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let mut tools = tools(false);
    tools[0].parameters = None;
    for (format, text) in [
        (
            "hermes",
            "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"a\": [1]}}\n</tool_call>",
        ),
        ("pythonic", "[weather(a=[1], b=\"x\")]"),
        ("pythonic", "[weather()]"),
    ] {
        let spec = GrammarSpec::ToolCalls(ToolCalls {
            format: Formats::detect(None, Some(format), None).unwrap().tools,
            tools: tools.clone(),
            choice: ToolChoice::Required,
            parallel: true,
        });
        let mut matching = grammars.matching(&spec, None).unwrap();
        assert!(accepts(&tokenizer, &mut matching, text), "{text}");
    }
}

#[test]
fn whatever_a_grammar_of_calls_lets_through_the_parser_reads() {
    let tokenizer = real_tokenizer();
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let mut sampler = Sampler::new(tokenizer, 7);
    let tools = tools(true);
    for format in &TOOL_FORMATS {
        for (choice, is_open) in [
            (ToolChoice::Required, false),
            (ToolChoice::Named("weather".to_owned()), true),
        ] {
            let spec = GrammarSpec::ToolCalls(ToolCalls {
                format,
                tools: tools.clone(),
                choice,
                parallel: true,
            });
            let formats = Formats::detect(None, Some(format.name), Some("think")).unwrap();
            let (mut complete, mut total) = (0, 0);
            for _ in 0..5 {
                let mut matching = grammars
                    .matching(&spec, is_open.then(|| reasoning(true)).as_ref())
                    .unwrap();
                total += 1;
                let thought = if is_open { "So</think>" } else { "" };
                for token in sampler.tokenizer.encode_plain(thought) {
                    matching.accept(token).unwrap();
                }
                let Ended::Complete(text) = sampler.answer(&mut matching, 400) else {
                    continue;
                };
                complete += 1;
                let mut output = Output::new(
                    &formats,
                    OutputOptions {
                        tools: tools.clone(),
                        parallel_tool_calls: true,
                        reasoning_is_open: is_open,
                    },
                );
                let mut message = Message::default();
                message.extend(output.push(thought));
                message.extend(output.push(&text));
                message.extend(output.finish());
                assert!(
                    !message.calls.is_empty() && message.content.is_empty(),
                    "{text:?}: {message:?}"
                );
                for call in &message.calls {
                    let tool = tools.iter().find(|tool| tool.name == call.name).unwrap();
                    let arguments: Value = serde_json::from_str(&call.arguments).unwrap();
                    let schema = tool.parameters.as_ref().unwrap();
                    assert!(
                        jsonschema::is_valid(schema, &arguments),
                        "{text:?}: {message:?}"
                    );
                }
            }
            println!("{}: {complete} of {total} answers complete", format.name);
        }
    }
}
