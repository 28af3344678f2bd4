//! Tables of expressions, templates and definitions, good and bad.

use protocol::agent::Definition;
use serde_json::{Map, Value, json};

use super::{CompiledAgent, Expression, RunFacts, Scope, Templates, pin};

fn facts() -> RunFacts {
    RunFacts {
        id: "r1".to_owned(),
        namespace: "team".to_owned(),
        agent: "worker".to_owned(),
    }
}

fn state() -> Map<String, Value> {
    let state = json!({
        "n": 2, "ratio": 0.5, "text": "abc", "list": [1, 2, 3], "none": null,
        "input": { "topic": "tea" }, "object": { "b": 1, "a": [true] }
    });
    state.as_object().unwrap().clone()
}

#[track_caller]
fn evaluates(source: &str, expected: &Value) {
    let (facts, state) = (facts(), state());
    let scope = Scope {
        state: &state,
        run: &facts,
    };
    let value = Expression::compile(source).unwrap().evaluate(scope);
    assert_eq!(value.as_ref().ok(), Some(expected), "{source}: {value:?}");
}

#[test]
fn expressions_see_state_input_and_run() {
    evaluates("state.n + 1", &json!(3));
    evaluates("state.n < 3 && state.text.startsWith('a')", &json!(true));
    evaluates("state.ratio * 2.0", &json!(1.0));
    evaluates("size(state.list)", &json!(3));
    evaluates(
        "state.list.filter(x, x > 1).map(x, x * 10)",
        &json!([20, 30]),
    );
    evaluates(
        "state.list.all(x, x > 0) && !has(state.missing)",
        &json!(true),
    );
    evaluates("input.topic + '/' + run.agent", &json!("tea/worker"));
    evaluates("input == state.input", &json!(true));
    evaluates(
        "{'z': 1, 'a': [state.none]}",
        &json!({ "a": [null], "z": 1 }),
    );
    evaluates("state['n'] + state.list[0]", &json!(3));
    evaluates("size(state)", &json!(7));
    evaluates("[state].map(s, s.n)", &json!([2]));
    evaluates("[{'n': 5}].map(state, state.n)", &json!([5]));
    evaluates("state.object", &json!({ "a": [true], "b": 1 }));
}

#[test]
fn a_map_is_written_in_the_order_of_its_keys() {
    let (facts, state) = (facts(), state());
    let scope = Scope {
        state: &state,
        run: &facts,
    };
    let expression = Expression::compile("{'c': 1, 'a': 2, 'b': 3}").unwrap();
    let text = expression.evaluate(scope).unwrap().to_string();
    assert_eq!(text, r#"{"a":2,"b":3,"c":1}"#);
}

#[track_caller]
fn is_refused(source: &str, expected: &str) {
    let error = Expression::compile(source).unwrap_err().to_string();
    assert!(error.contains(expected), "{source}: {error}");
}

#[test]
fn a_bad_expression_is_refused_before_it_runs() {
    is_refused("state.n +", "is not CEL");
    is_refused("states.n", "uses `states`");
    is_refused("state.list.all(x, y > 0)", "uses `y`");
    is_refused("[x].all(x, x > 0)", "uses `x`");
    is_refused(&"1+".repeat(20_000), "longer than");
    assert!(Expression::compile(&"(".repeat(4000)).is_err());
}

#[test]
fn a_condition_that_is_no_boolean_is_an_error() {
    let (facts, state) = (facts(), state());
    let scope = Scope {
        state: &state,
        run: &facts,
    };
    let holds = |source: &str| Expression::compile(source).unwrap().holds(scope);
    assert_eq!(holds("state.n == 2"), Ok(true));
    assert!(
        holds("state.n")
            .unwrap_err()
            .to_string()
            .contains("not a boolean")
    );
    assert!(holds("state.missing").is_err());
    assert!(holds("state.n / 0 == 1").is_err());
}

#[track_caller]
fn renders(source: &str, expected: Result<&str, &str>) {
    let (facts, state) = (facts(), state());
    let scope = Scope {
        state: &state,
        run: &facts,
    };
    let mut templates = Templates::default();
    let name = templates.add("place", source).unwrap();
    match (templates.render(&name, scope), expected) {
        (Ok(text), Ok(expected)) => assert_eq!(text, expected, "{source}"),
        (Err(error), Err(expected)) => {
            assert!(error.to_string().contains(expected), "{source}: {error}");
        }
        (result, _) => panic!("{source}: {result:?}"),
    }
}

#[test]
fn templates_render_with_limits() {
    renders(
        "{{ state.n }} {{ input.topic }} {{ run.id }}\n",
        Ok("2 tea r1\n"),
    );
    renders("{% for x in state.list %}{{ x }}{% endfor %}", Ok("123"));
    renders(
        "{{ state.object | tojson }} <b>",
        Ok(r#"{"b":1,"a":[true]} <b>"#),
    );
    renders("{% if state.missing %}a{% else %}b{% endif %}", Ok("b"));
    renders(
        "{% for key in state %}{{ key }} {% endfor %}",
        Ok("input list n none object ratio text "),
    );
    renders(
        "{% set s = state %}{{ s.n }}{{ state['te' ~ 'xt'] }}",
        Ok("2abc"),
    );
    renders(
        "{% macro m(x) %}{{ x }}{{ state.n }}{% endmacro %}{{ m(input.topic) }}",
        Ok("tea2"),
    );
    renders("{{ state.missing }}", Err("place"));
    renders(
        "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
        Err("fuel"),
    );
    renders(
        "{% for i in range(9000) %}{{ 'x' * 1000 }}{% endfor %}",
        Err("longer than"),
    );
}

fn definition() -> Value {
    json!({
        "model": { "name": "m" },
        "tools": [
            { "name": "box", "source": { "workspace": { "url": "http://10.0.0.1:7681", "token": "t-secret" } } },
            { "name": "web", "source": { "mcp": {
                "url": "http://tools/mcp", "headers": { "Authorization": "Bearer h-secret" }, "allow": ["get_*"]
            } } }
        ],
        "program": { "graph": {
            "state": { "out": {}, "list": { "reducer": "append" } },
            "nodes": { "a": { "step": { "set": { "values": { "out": "1" } } } } },
            "edges": [{ "from": "start", "arms": [{ "to": "a" }] }]
        } }
    })
}

/// Compiles the definition with one value put at a place.
fn compile_with(place: &str, value: &Value) -> Result<(), String> {
    let mut changed = definition();
    *changed.pointer_mut(place).unwrap() = value.clone();
    let definition: Definition =
        serde_json::from_value(changed).map_err(|error| error.to_string())?;
    let (revision, pinned) = pin(&definition);
    CompiledAgent::compile(revision, &pinned)
        .map(drop)
        .map_err(|error| error.to_string())
}

#[track_caller]
fn refuses(place: &str, value: &Value, expected: &str) {
    match compile_with(place, value) {
        Ok(()) => panic!("{place} may be {value}"),
        Err(error) => assert!(error.contains(expected), "{place} = {value}: {error}"),
    }
}

#[test]
fn a_bad_definition_is_refused_with_the_place() {
    assert_eq!(compile_with("/model/name", &json!("other")), Ok(()));
    let graph = "/program/graph";
    let node = "/program/graph/nodes/a";
    let exec = |tool: &str| json!({ "step": { "exec": { "tool": tool, "command": ["ls"], "to": "out" } } });
    let mcp = |function: &str| json!({ "step": { "mcp": { "tool": "web", "function": function, "to": "out" } } });
    let set = |values: &Value| json!({ "step": { "set": { "values": values } } });
    assert_eq!(compile_with(node, &exec("box")), Ok(()));
    assert_eq!(compile_with(node, &mcp("get_x")), Ok(()));
    refuses("/model/name", &json!(""), "model.name: names no model");
    refuses(
        "/model",
        &json!({ "name": "m", "temperature": 3 }),
        "model.temperature: must be 0 to 2",
    );
    refuses("/tools/0/name", &json!("my__box"), "no `__`");
    refuses("/tools/0/name", &json!("web"), "two tools have this name");
    refuses(
        "/program",
        &json!({ "loop": { "maxTurns": 0 } }),
        "loop.maxTurns",
    );
    refuses(
        &format!("{graph}/state"),
        &json!({ "input": {} }),
        "`input` always exists",
    );
    refuses(
        &format!("{graph}/state"),
        &json!({ "out": { "reducer": "sum", "default": "x" } }),
        "is a number",
    );
    refuses(&format!("{graph}/nodes"), &json!({}), "there are none");
    refuses(
        node,
        &set(&json!({ "nowhere": "1" })),
        "writes to `nowhere`",
    );
    refuses(node, &set(&json!({ "input": "1" })), "cannot change");
    refuses(
        node,
        &set(&json!({ "out": "stat.x" })),
        "graph.nodes.a.set.values.out",
    );
    refuses(
        node,
        &json!({ "step": { "template": { "template": "{% if %}", "to": "out" } } }),
        "graph.nodes.a.template",
    );
    refuses(node, &exec("web"), "is an MCP server");
    refuses(node, &exec("none"), "no tool is named `none`");
    refuses(node, &mcp("set_x"), "not in the allow list");
    refuses(
        node,
        &json!({ "step": { "set": { "values": {} } }, "attempts": 0 }),
        "attempts: must be 1 to 10",
    );
    refuses(
        node,
        &json!({ "step": { "set": { "values": {} } }, "timeoutSeconds": 3601 }),
        "timeoutSeconds",
    );
}

#[test]
fn bad_edges_are_refused_with_the_place() {
    let edges = "/program/graph/edges";
    let start = json!({ "from": "start", "arms": [{ "to": "a" }] });
    assert_eq!(
        compile_with(edges, &json!([start])),
        Ok(()),
        "a step without an edge ends the run"
    );
    refuses(edges, &json!([]), "no edge leads out of `start`");
    refuses(edges, &json!([start, start]), "two edges have this source");
    refuses(
        edges,
        &json!([{ "from": "start", "arms": [] }]),
        "has no arms",
    );
    refuses(
        edges,
        &json!([start, { "from": "b", "arms": [{ "to": "end" }] }]),
        "graph.edges.b",
    );
    refuses(
        edges,
        &json!([{ "from": "start", "arms": [{ "to": "b" }] }]),
        "leads to `b`",
    );
    refuses(
        edges,
        &json!([{ "from": "start", "arms": [{ "to": "end" }, { "to": "a" }] }]),
        "never taken",
    );
    refuses(
        edges,
        &json!([{ "from": "start", "arms": [{ "to": "end" }] }]),
        "graph.nodes.a: no edge leads here",
    );
    refuses(
        edges,
        &json!([{ "from": "start", "arms": [{ "when": "1 +", "to": "a" }] }]),
        "arms[0].when",
    );
}

#[test]
fn a_pinned_definition_has_no_credentials_and_no_addresses() {
    let definition: Definition = serde_json::from_value(definition()).unwrap();
    let (revision, pinned) = pin(&definition);
    let text = serde_json::to_string(&pinned).unwrap();
    for gone in ["t-secret", "h-secret", "10.0.0.1", "http:"] {
        assert!(!text.contains(gone), "{gone}: {text}");
    }
    assert!(text.contains("get_*"), "what may be called stays: {text}");
    let mut moved = definition;
    if let protocol::agent::ToolSource::Workspace { url, .. } = &mut moved.tools[0].source {
        "http://10.0.0.2:7681".clone_into(url);
    }
    assert_eq!(
        pin(&moved).0,
        revision,
        "a workspace that moved is the same revision"
    );
    moved.instructions = "other".to_owned();
    assert_ne!(pin(&moved).0, revision);
}
