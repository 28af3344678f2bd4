//! An Agent's definition, faults and statuses, without a client.

use std::{collections::BTreeMap, sync::Arc};

use crds::{Agent, condition::Reason};
use jiff::Timestamp;
use protocol::{
    agent::{Program, Step, ToolSource},
    secret::SecretString,
};
use serde_json::{Value, json};

use super::{
    build::{entry, key_secret},
    dereference::{FoundWorkspace, World, key_in},
    status::{Observed, status},
    validate::validate,
};
use crate::{conditions::Verdict, snapshots::Programmed};

fn agent(spec: &Value) -> Agent {
    let meta = json!({"name": "scribe", "namespace": "n", "uid": "u", "generation": 7});
    serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Agent", "metadata": meta, "spec": spec})).expect("an agent")
}

/// The quickstart's agent, in small, with changes at some paths.
fn graph_agent(changes: &[(&str, Value)]) -> Agent {
    let mut spec = json!({
        "model": {"name": "smollm2", "temperature": "0.5", "maxTokens": 96},
        "instructions": "You write.",
        "tools": [
            {"name": "desk", "workspace": {"ref": "desk", "commands": ["sh"]}},
            {"name": "gh", "mcp": {"url": "http://mcp:8080/mcp", "allow": ["get_*"], "headersFrom": [{"name": "Authorization", "secretKeyRef": {"name": "gh", "key": "token"}}]}}
        ],
        "graph": {
            "state": {"text": {}, "measured": {"reducer": "append"}},
            "nodes": {
                "write": {"model": {"prompt": "About {{ input }}", "to": "text"}, "timeout": "1500ms", "retry": {"attempts": 2}},
                "measure": {"exec": {"tool": "desk", "command": ["sh", "-c", "wc"], "files": {"draft.txt": "{{ state.text }}"}, "to": "measured", "check": true}}
            },
            "edges": [{"from": "start", "to": "write"}, {"from": "write", "branch": [{"when": "size(state.text) > 0", "to": "measure"}, {"to": "end"}]}],
            "output": "state.text"
        }
    });
    for (path, value) in changes {
        *spec
            .pointer_mut(path)
            .unwrap_or_else(|| panic!("no {path}")) = value.clone();
    }
    agent(&spec)
}

fn world() -> World {
    let desk = FoundWorkspace {
        url: Some("http://10.0.0.7:7681".to_owned()),
        token: Some(SecretString::new("t".to_owned())),
        trouble: None,
    };
    let secret = key_secret(
        &agent(&json!({"model": {"name": "m"}})),
        &SecretString::new("qd-1".to_owned()),
    );
    World {
        patterns: ["smollm2".to_owned(), "chat-*".to_owned()].into(),
        routes: BTreeMap::from([
            ("exact".to_owned(), vec!["a-*".to_owned(), "a-1".to_owned()]),
            ("wild".to_owned(), vec!["*".to_owned()]),
        ]),
        workspaces: BTreeMap::from([("desk".to_owned(), Some(desk))]),
        secrets: BTreeMap::from([(
            "gh".to_owned(),
            Some(BTreeMap::from([(
                "token".to_owned(),
                "Bearer x".to_owned(),
            )])),
        )]),
        key_secret: Some(Arc::new(secret)),
    }
}

#[test]
fn a_graph_compiles_to_what_the_runtime_runs() {
    let agent = graph_agent(&[]);
    let entry = entry(
        &agent,
        &validate(&agent, &world()).expect("valid"),
        "http://gateway:8080/v1",
    )
    .expect("an entry");
    assert_eq!(
        (
            entry.generation,
            entry.suspended,
            entry.gateway.key.expose()
        ),
        (7, false, "qd-1")
    );
    let definition = entry.definition;
    assert_eq!(
        (
            definition.model.temperature,
            definition.model.max_tokens,
            definition.limits.wall_seconds
        ),
        (Some(0.5), Some(96), 1800)
    );
    let ToolSource::Workspace {
        url,
        token,
        commands,
    } = &definition.tools[0].source
    else {
        panic!("not a workspace")
    };
    assert_eq!(
        (&**url, token.expose(), commands.join(",")),
        ("http://10.0.0.7:7681", "t", "sh".to_owned())
    );
    let ToolSource::Mcp { headers, .. } = &definition.tools[1].source else {
        panic!("not a server")
    };
    assert_eq!(headers["Authorization"].expose(), "Bearer x");
    let Program::Graph(graph) = &definition.program else {
        panic!("not a graph")
    };
    assert_eq!(
        (
            graph.nodes["write"].timeout_seconds,
            graph.nodes["write"].attempts
        ),
        (Some(2), Some(2))
    );
    assert!(matches!(
        &graph.nodes["measure"].step,
        Step::Exec { check: true, .. }
    ));
    assert_eq!(graph.edges[1].arms.len(), 2);
}

#[test]
fn a_loop_compiles_too() {
    let agent = agent(&json!({"model": {"name": "chat-small"}, "loop": {"maxTurns": 3}}));
    assert_eq!(
        validate(&agent, &world()).expect("valid").program,
        Program::Loop { max_turns: 3 }
    );
}

#[track_caller]
fn check_fault(changes: &[(&str, Value)], expected: &str) {
    let fault = validate(&graph_agent(changes), &world())
        .expect_err("a fault")
        .to_string();
    assert!(fault.contains(expected), "{fault} lacks {expected}");
}

#[test]
fn faults_of_a_graph_say_where_and_what_to_do() {
    check_fault(
        &[("/graph/edges/0/to", json!("nowhere"))],
        "spec.graph.edges[from=start]: leads to `nowhere`",
    );
    check_fault(
        &[("/graph/edges/0/from", json!("write"))],
        "two edges have this source",
    );
    check_fault(
        &[("/graph/edges/1/from", json!("ghost"))],
        "spec.graph.edges[from=ghost]: no node is named `ghost`",
    );
    check_fault(
        &[("/graph/edges/0", json!({"from": "measure", "to": "end"}))],
        "no edge leads from start",
    );
    check_fault(
        &[("/graph/edges/1", json!({"from": "write", "to": "end"}))],
        "spec.graph.nodes.measure: no edge leads here",
    );
    check_fault(
        &[(
            "/graph/edges/1/branch",
            json!([{"to": "measure"}, {"to": "end"}]),
        )],
        "never taken",
    );
    check_fault(
        &[("/graph/edges/1/branch/0/when", json!("state.text >"))],
        "cannot be read",
    );
}

#[test]
fn faults_of_a_step_say_where_and_what_to_do() {
    let node = "/graph/nodes/measure/exec";
    check_fault(
        &[(&format!("{node}/to"), json!("nope"))],
        "spec.graph.nodes.measure.exec.to: no channel is named `nope`; add it to spec.graph.state",
    );
    check_fault(
        &[(&format!("{node}/to"), json!("input"))],
        "input cannot be written",
    );
    check_fault(
        &[(&format!("{node}/tool"), json!("ghost"))],
        "no tool is named `ghost`; add it to spec.tools",
    );
    check_fault(
        &[(&format!("{node}/tool"), json!("gh"))],
        "name a workspace tool",
    );
    check_fault(
        &[(&format!("{node}/files/draft.txt"), json!("{{ state"))],
        "exec.files.draft.txt: the template cannot be read",
    );
    check_fault(
        &[(
            "/graph/nodes/measure",
            json!({"mcp": {"tool": "gh", "function": "put", "to": "text"}}),
        )],
        "add it to the tool's allow list",
    );
    check_fault(&[("/graph/nodes/write/timeout", json!("2h"))], "1s to 1h");
    check_fault(
        &[(
            "/graph/state",
            json!({"text": {}, "measured": {}, "input": {}}),
        )],
        "input always exists",
    );
    check_fault(
        &[(
            "/graph/state/measured",
            json!({"reducer": "append", "default": 1}),
        )],
        "must be a list",
    );
    check_fault(&[("/graph/output", json!("state."))], "spec.graph.output");
    check_fault(&[("/instructions", json!("{% if %}"))], "spec.instructions");
}

#[track_caller]
fn check_model(model: &Value, expected: Result<&str, &str>) {
    let agent = agent(&json!({"model": model, "loop": {}}));
    match (validate(&agent, &world()), expected) {
        (Ok(valid), Ok(name)) => {
            assert_eq!((&*valid.model.name, valid.unresolved.len()), (name, 0));
        }
        (Ok(valid), Err(part)) => assert!(
            valid.unresolved[0].1.contains(part),
            "{:?}",
            valid.unresolved
        ),
        (Err(fault), Err(part)) => assert!(fault.to_string().contains(part), "{fault}"),
        (Err(fault), Ok(_)) => panic!("{fault}"),
    }
}

#[test]
fn a_model_is_a_name_that_a_route_answers_or_a_route() {
    check_model(&json!({"name": "smollm2"}), Ok("smollm2"));
    check_model(&json!({"name": "chat-9"}), Ok("chat-9"));
    check_model(&json!({"name": "gpt-9"}), Err("no Route answers it"));
    check_model(&json!({"ref": "exact"}), Ok("a-1"));
    check_model(&json!({"ref": "wild"}), Err("answers only patterns"));
    check_model(&json!({"ref": "ghost"}), Err("does not exist"));
}

#[test]
fn a_key_that_is_not_whole_is_no_key() {
    let mut secret = key_secret(
        &agent(&json!({"model": {"name": "m"}})),
        &SecretString::new("qd-1".to_owned()),
    );
    assert_eq!(key_in(&secret).expect("a key").expose(), "qd-1");
    secret
        .data
        .as_mut()
        .expect("data")
        .insert("key".to_owned(), k8s_openapi::ByteString(b"qd-2".to_vec()));
    assert!(key_in(&secret).is_none());
}

#[track_caller]
fn check_status(world: &World, expected: &[&str]) {
    let agent = graph_agent(&[]);
    let valid = validate(&agent, world);
    let programmed = Programmed {
        version: None,
        verdict: Verdict::holds(Reason::Programmed, ""),
        is_current: true,
        is_settling: false,
    };
    let status = status(&Observed {
        agent: &agent,
        valid: valid.as_ref(),
        refusal: None,
        programmed: &programmed,
        now: Timestamp::UNIX_EPOCH,
    });
    let lines = status.conditions.iter().map(|condition| {
        format!(
            "{}={} {}",
            condition.kind,
            condition.status.as_str(),
            condition.reason
        )
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn an_agent_is_ready_when_the_runtime_has_it_and_its_workspaces_run() {
    check_status(
        &world(),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True MinimumReplicasAvailable",
            "Ready=True Ready",
        ],
    );
    let mut stopped = world();
    if let Some(Some(desk)) = stopped.workspaces.get_mut("desk") {
        desk.trouble = Some("is stopped; set spec.running to true".to_owned());
    }
    check_status(
        &stopped,
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=False WorkspaceUnavailable",
            "Ready=False WorkspaceUnavailable",
            "Reconciling=True Progressing",
        ],
    );
    let mut missing = world();
    missing.workspaces.insert("desk".to_owned(), None);
    check_status(
        &missing,
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=False RefNotFound",
            "Programmed=Unknown Blocked",
            "Available=Unknown Blocked",
            "Ready=False RefNotFound",
            "Reconciling=True Progressing",
        ],
    );
    let agent = graph_agent(&[]);
    assert!(entry(&agent, &validate(&agent, &missing).expect("valid"), "u").is_none());
}

#[test]
fn a_workspace_that_never_ran_suspends_its_agents() {
    let mut world = world();
    if let Some(Some(desk)) = world.workspaces.get_mut("desk") {
        desk.url = None;
    }
    let agent = graph_agent(&[]);
    let entry = entry(&agent, &validate(&agent, &world).expect("valid"), "u").expect("an entry");
    assert!(entry.suspended);
}
