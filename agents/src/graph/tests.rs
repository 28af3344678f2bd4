//! Tables of plans and reducers, and what holds for all of them.

use proptest::prelude::*;
use protocol::agent::{Definition, Reducer};
use serde_json::{Map, Value, json};

use super::{
    Next, RunState, StepRecord, next,
    reduce::{check, reduce},
};
use crate::definition::{CompiledAgent, RunFacts, pin};

fn compile(program: &Value, limits: &Value) -> CompiledAgent {
    let definition: Definition = serde_json::from_value(json!({
        "model": { "name": "m" }, "program": program, "limits": limits,
        "tools": [{ "name": "box", "source": { "workspace": { "url": "", "token": "" } } }]
    }))
    .unwrap();
    let (revision, pinned) = pin(&definition);
    CompiledAgent::compile(revision, &pinned).unwrap()
}

fn facts() -> RunFacts {
    RunFacts {
        id: "r".to_owned(),
        namespace: "n".to_owned(),
        agent: "a".to_owned(),
    }
}

/// What follows after steps that wrote these values, in words.
fn plan(agent: &CompiledAgent, steps: &[(&str, Value)]) -> String {
    let mut state = RunState::new(&agent.graph, json!("hi"));
    for (number, (node, writes)) in (0..).zip(steps) {
        let record = StepRecord {
            number,
            node: (*node).to_owned(),
            writes: writes.as_object().unwrap().clone(),
            tool_calls: u32::from(*node == "tools"),
            usage: None,
        };
        state.apply(&agent.graph, &record).unwrap();
    }
    match next(agent, &state, &facts()) {
        Next::Step { number, node } => format!("{number} {}", node.name),
        Next::Succeeded { output } => format!("output {output}"),
        Next::Failed { reason } => format!("failed: {reason}"),
    }
}

fn branching() -> Value {
    json!({ "graph": {
        "state": { "n": { "reducer": "sum" }, "log": { "reducer": "append" } },
        "nodes": {
            "a": { "step": { "set": { "values": { "n": "1" } } } },
            "b": { "step": { "set": { "values": { "log": "['b']" } } } }
        },
        "edges": [
            { "from": "start", "arms": [{ "when": "input == 'skip'", "to": "b" }, { "to": "a" }] },
            { "from": "a", "arms": [{ "when": "state.n < 2", "to": "a" }, { "when": "state.n == 2", "to": "b" }] }
        ]
    } })
}

#[test]
fn a_graph_is_planned_from_its_state_alone() {
    let agent = compile(&branching(), &json!({ "stepsMax": 4 }));
    let one = json!({ "n": 1 });
    let check = |steps: &[(&str, Value)], expected: &str| assert_eq!(plan(&agent, steps), expected);
    check(&[], "0 a");
    check(&[("a", one.clone())], "1 a");
    check(&[("a", one.clone()), ("a", one.clone())], "2 b");
    check(
        &[("a", json!({ "n": 3 }))],
        "failed: no arm of the edge from `a` holds",
    );
    check(&[("a", json!({ "n": 0.5 }))], "1 a");
    let ended = r#"output {"log":["b"],"n":2,"input":"hi"}"#;
    check(
        &[
            ("a", one.clone()),
            ("a", one),
            ("b", json!({ "log": ["b"] })),
        ],
        ended,
    );
    let zero = json!({ "n": 0 });
    let four = ["a"; 4].map(|node| (node, zero.clone()));
    check(&four, "failed: the limit of 4 steps is reached");
}

#[test]
fn a_loop_is_planned_like_a_graph() {
    let agent = compile(
        &json!({ "loop": { "maxTurns": 2 } }),
        &json!({ "toolCallsMax": 2 }),
    );
    let call = json!({ "id": "c", "type": "function", "function": { "name": "box__exec", "arguments": "{}" } });
    let calls = |count: usize| json!({ "messages": { "role": "assistant", "content": null, "tool_calls": vec![call.clone(); count] } });
    let result = json!({ "messages": [{ "role": "tool", "tool_call_id": "c", "content": "4" }] });
    let answer = json!({ "messages": { "role": "assistant", "content": "done" } });
    let check = |steps: &[(&str, Value)], expected: &str| assert_eq!(plan(&agent, steps), expected);
    check(&[], "0 model");
    check(&[("model", calls(1))], "1 tools");
    check(&[("model", calls(1)), ("tools", result.clone())], "2 model");
    check(
        &[
            ("model", calls(1)),
            ("tools", result.clone()),
            ("model", answer),
        ],
        r#"output "done""#,
    );
    check(
        &[("model", calls(3))],
        "failed: the limit of 2 tool calls is reached",
    );
    let twice = [
        ("model", calls(1)),
        ("tools", result.clone()),
        ("model", calls(1)),
        ("tools", result),
    ];
    check(&twice, "failed: the model still calls tools after 2 turns");
}

#[test]
fn a_record_that_does_not_follow_changes_nothing() {
    let agent = compile(&branching(), &json!({}));
    let before = RunState::new(&agent.graph, json!("hi"));
    let cases = [
        (1, "a", json!({}), "step 1 follows step -1"),
        (0, "z", json!({}), "no node `z`"),
        (0, "a", json!({ "z": 1 }), "no channel is named `z`"),
        (
            0,
            "a",
            json!({ "log": [1], "n": "x" }),
            "`n` sums numbers and was given a string",
        ),
        (
            0,
            "a",
            json!({ "log": ["x".repeat(9 << 20)] }),
            "larger than",
        ),
    ];
    for (number, node, writes, expected) in cases {
        let writes = writes.as_object().unwrap().clone();
        let record = StepRecord {
            number,
            node: node.to_owned(),
            writes,
            tool_calls: 0,
            usage: None,
        };
        let mut state = before.clone();
        let error = state.apply(&agent.graph, &record).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(state, before, "{expected}");
    }
}

#[test]
fn reducers_take_what_fits_and_refuse_the_rest() {
    let write = |reducer, current: Value, write: Value| {
        check("c", reducer, &current, &write)
            .ok()
            .map(|()| reduce(reducer, current, write))
    };
    let (replace, append, merge, sum) = (
        Reducer::Replace,
        Reducer::Append,
        Reducer::Merge,
        Reducer::Sum,
    );
    assert_eq!(write(replace, json!([1]), json!(2)), Some(json!(2)));
    assert_eq!(
        write(append, json!([1]), json!([2, 3])),
        Some(json!([1, 2, 3]))
    );
    assert_eq!(
        write(append, json!([1]), json!({ "a": 1 })),
        Some(json!([1, { "a": 1 }]))
    );
    assert_eq!(write(append, Value::Null, json!("x")), Some(json!(["x"])));
    assert_eq!(
        write(merge, json!({ "a": 1, "b": 1 }), json!({ "b": 2 })),
        Some(json!({ "a": 1, "b": 2 }))
    );
    assert_eq!(
        write(merge, Value::Null, json!({ "b": 2 })),
        Some(json!({ "b": 2 }))
    );
    assert_eq!(write(merge, json!({}), json!([1])), None);
    assert_eq!(write(sum, json!(1), json!(2)), Some(json!(3)));
    assert_eq!(write(sum, json!(1), json!(0.5)), Some(json!(1.5)));
    assert_eq!(write(sum, json!(1), json!("2")), None);
    assert_eq!(write(sum, json!(i64::MAX), json!(1)), None);
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c]", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn appending_in_parts_is_appending_at_once(parts in prop::collection::vec(prop::collection::vec(json_value(), 0..4), 0..6)) {
        let all: Vec<Value> = parts.iter().flatten().cloned().collect();
        let appended = parts
            .into_iter()
            .fold(json!([]), |list, part| reduce(Reducer::Append, list, Value::Array(part)));
        prop_assert_eq!(appended, Value::Array(all));
    }

    #[test]
    fn sums_do_not_depend_on_the_order(mut numbers in prop::collection::vec(-1_000_000_i64..1_000_000, 0..10)) {
        let total = |numbers: &[i64]| {
            numbers.iter().fold(json!(0), |sum, number| reduce(Reducer::Sum, sum, json!(number)))
        };
        let forwards = total(&numbers);
        numbers.reverse();
        prop_assert_eq!(total(&numbers), forwards);
    }

    #[test]
    fn merging_twice_is_merging_once(current in json_value(), write in prop::collection::btree_map("[a-e]", json_value(), 0..4)) {
        let write = Value::Object(write.into_iter().collect::<Map<_, _>>());
        let once = reduce(Reducer::Merge, current, write.clone());
        prop_assert_eq!(reduce(Reducer::Merge, once.clone(), write), once);
    }

    #[test]
    fn no_write_that_fits_is_lost_and_none_panics(current in json_value(), write in json_value()) {
        for reducer in [Reducer::Replace, Reducer::Append, Reducer::Merge, Reducer::Sum] {
            if check("c", reducer, &current, &write).is_ok() {
                reduce(reducer, current.clone(), write.clone());
            }
        }
    }
}

#[test]
fn a_run_cannot_fill_the_disk_with_what_it_replaces() {
    let program = json!({ "graph": {
        "state": { "text": {} },
        "nodes": { "a": { "step": { "template": { "template": "x", "to": "text" } } } },
        "edges": [{ "from": "start", "arms": [{ "to": "a" }] }, { "from": "a", "arms": [{ "to": "a" }] }]
    } });
    let agent = compile(&program, &json!({}));
    let mut state = RunState::new(&agent.graph, json!("hi"));
    let text = json!("x".repeat(4 << 20));
    let last = (0..100).find_map(|number| {
        let record = StepRecord {
            number,
            node: "a".to_owned(),
            writes: Map::from_iter([("text".to_owned(), text.clone())]),
            tool_calls: 0,
            usage: None,
        };
        state
            .apply(&agent.graph, &record)
            .err()
            .map(|error| (number, error.to_string()))
    });
    let (number, error) = last.unwrap();
    assert_eq!(number, 31, "{error}");
    assert!(error.contains("has written more than"), "{error}");
}
