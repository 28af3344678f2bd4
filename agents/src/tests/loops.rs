//! Loops: model, tools, answer; what models do wrong is told to them.

use std::sync::Arc;

use protocol::runs::{RunEvent, RunStatus};
use serde_json::{Value, json};

use super::{
    fakes::Reply,
    harness::{World, logged},
};

pub(super) fn turns(max: u32) -> Value {
    json!({ "loop": { "maxTurns": max } })
}

fn call(name: &str, arguments: &str) -> (String, String) {
    (name.to_owned(), arguments.to_owned())
}

#[tokio::test]
async fn a_loop_calls_tools_and_answers() {
    let world = World::new(Arc::new(|_, count| match count {
        0 => Reply::Calls(vec![
            call("box__write_file", r#"{"path":"a.txt","content":"4"}"#),
            call("box__exec", r#"{"command":["echo","two","+","two"]}"#),
        ]),
        1 => Reply::Calls(vec![call("box__read_file", r#"{"path":"a.txt"}"#)]),
        _ => Reply::Text("It is 4.".to_owned()),
    }))
    .await;
    let runtime = world.start(world.definition(&turns(5))).await;
    let (run, events) = runtime.finish(&json!("What is two plus two?")).await;
    assert_eq!(
        (run.error.as_deref(), run.output),
        (None, Some(json!("It is 4.")))
    );
    let asked = world.model.asked.lock().clone();
    let offered: Vec<&str> = asked[0].body["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["function"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(offered, ["box__exec", "box__read_file", "box__write_file"]);
    let last = asked[2].body["messages"].as_array().unwrap();
    let roles: Vec<&str> = last
        .iter()
        .map(|message| message["role"].as_str().unwrap())
        .collect();
    assert_eq!(
        roles,
        [
            "system",
            "user",
            "assistant",
            "tool",
            "tool",
            "assistant",
            "tool"
        ]
    );
    assert_eq!(
        last[6],
        json!({ "role": "tool", "tool_call_id": "call_0", "content": "4" })
    );
    let called: Vec<(String, bool)> = logged(&events)
        .into_iter()
        .filter_map(|event| match event {
            RunEvent::ToolCalled { tool, failed, .. } => Some((tool, failed)),
            _ => None,
        })
        .collect();
    let expected =
        ["box__write_file", "box__exec", "box__read_file"].map(|tool| (tool.to_owned(), false));
    assert_eq!(called, expected);
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_model_does_wrong_is_told_to_it() {
    let cases = [
        ("box__exec", r#"{"command": ["#, "not the JSON object"),
        (
            "box__exec",
            r#"{"comand": ["echo"]}"#,
            "missing field `command`",
        ),
        (
            "box__exec",
            r#"{"command": ["rm"]}"#,
            "`rm` may not be run here",
        ),
        ("box__fly", "{}", "there is no function `box__fly`"),
        ("bash", "{}", "there is no function `bash`"),
        ("box__read_file", r#"{"path":"none"}"#, "not_found"),
    ];
    for (name, arguments, expected) in cases {
        let world = World::new(Arc::new(move |_, count| match count {
            0 => Reply::Calls(vec![call(name, arguments)]),
            _ => Reply::Text("sorry".to_owned()),
        }))
        .await;
        let runtime = world.start(world.definition(&turns(5))).await;
        let (run, events) = runtime.finish(&json!("go")).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{name}: {:?}", run.error);
        let told = world.model.asked.lock()[1].body["messages"][3]["content"]
            .as_str()
            .unwrap()
            .to_owned();
        assert!(
            told.starts_with("error: ") && told.contains(expected),
            "{name}: {told}"
        );
        let failed = logged(&events)
            .iter()
            .any(|event| matches!(event, RunEvent::ToolCalled { failed: true, .. }));
        assert!(failed, "{name}");
        runtime.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_model_that_never_answers_is_stopped() {
    let endless = |_: &Value, _| Reply::Calls(vec![call("box__exec", r#"{"command":["echo"]}"#)]);
    let world = World::new(Arc::new(endless)).await;
    let runtime = world.start(world.definition(&turns(3))).await;
    let (run, _) = runtime.finish(&json!("go")).await;
    assert_eq!(
        run.error.as_deref(),
        Some("the model still calls tools after 3 turns")
    );
    assert_eq!(world.model.count(), 3);
    runtime.stop().await.unwrap();
}
