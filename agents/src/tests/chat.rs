//! The OpenAI-compatible surface.

use std::sync::Arc;

use protocol::runs::{RunList, RunStatus};
use serde_json::{Value, json};

use super::{
    fakes::Reply,
    harness::{Runtime, World, read_events},
    loops::turns,
};

fn request(model: &str, stream: bool) -> Value {
    json!({
        "model": model, "stream": stream, "stream_options": { "include_usage": true },
        "messages": [
            { "role": "user", "content": "My name is Ada." },
            { "role": "assistant", "content": "Hello Ada." },
            { "role": "user", "content": [{ "type": "text", "text": "Who am I?" }] }
        ]
    })
}

fn text_of(events: &[protocol::sse::Event]) -> String {
    let chunks = events.iter().filter(|event| event.data != "[DONE]");
    chunks
        .map(|event| serde_json::from_str::<Value>(&event.data).unwrap())
        .filter_map(|chunk| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(ToOwned::to_owned)
        })
        .collect()
}

#[tokio::test]
async fn a_loop_is_a_chat_model_with_history() {
    let world = World::new(Arc::new(|_, _| Reply::Text("You are Ada.".to_owned()))).await;
    let runtime = world.start(world.definition(&turns(3))).await;
    let response = runtime
        .post("/v1/chat/completions", &request("worker", false))
        .send()
        .await
        .unwrap();
    assert!(response.headers().contains_key("x-run-id"));
    let answer: Value = response.json().await.unwrap();
    assert_eq!(answer["choices"][0]["message"]["content"], "You are Ada.");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    assert_eq!(answer["usage"]["total_tokens"], 15);
    let messages = world.model.asked.lock()[0].body["messages"].clone();
    assert_eq!(
        messages.as_array().unwrap().len(),
        4,
        "instructions and the whole history"
    );
    let response = runtime
        .post("/v1/chat/completions", &request("team/worker", true))
        .send()
        .await
        .unwrap();
    let events = read_events(response).await;
    assert_eq!(text_of(&events), "You are Ada.");
    assert_eq!(events.last().unwrap().data, "[DONE]");
    let usage: Value = serde_json::from_str(&events[events.len() - 2].data).unwrap();
    assert_eq!(
        (&usage["usage"]["prompt_tokens"], &usage["choices"]),
        (&json!(10), &json!([]))
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_graph_answers_with_its_output_only() {
    let world = World::new(Arc::new(|_, _| Reply::Text("secret thought".to_owned()))).await;
    let program = json!({ "graph": {
        "state": { "thought": {} },
        "nodes": { "think": { "step": { "model": { "prompt": "{{ input }}", "to": "thought" } } } },
        "edges": [{ "from": "start", "arms": [{ "to": "think" }] }],
        "output": "{'length': size(state.thought), 'input': input}"
    } });
    let runtime = world.start(world.definition(&program)).await;
    let response = runtime
        .post("/v1/chat/completions", &request("worker", true))
        .send()
        .await
        .unwrap();
    let text = text_of(&read_events(response).await);
    assert_eq!(text, r#"{"input":"Who am I?","length":14}"#);
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn models_are_the_agents_of_the_key() {
    let world = World::silent().await;
    let mut twin = world.entry("worker", world.definition(&turns(1)));
    twin.namespace = "elsewhere".to_owned();
    let agents = vec![
        world.entry("worker", world.definition(&turns(1))),
        twin,
        world.entry("solo", world.definition(&turns(1))),
    ];
    let runtime = Runtime::start(world.data.path(), agents, None).await;
    let list: Value = runtime
        .get("/v1/models")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let ids: Vec<&str> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        ["elsewhere/worker", "solo", "team/solo", "team/worker"]
    );
    let one: Value = runtime
        .get("/v1/models/team/solo")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(one["id"], "team/solo");
    for (model, status) in [("worker", 404), ("nobody", 404)] {
        let response = runtime
            .post("/v1/chat/completions", &request(model, false))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{model}");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "model_not_found");
    }
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn requests_that_an_agent_would_ignore_are_refused() {
    let world = World::silent().await;
    let runtime = world.start(world.definition(&turns(1))).await;
    let user = json!([{ "role": "user", "content": "hi" }]);
    let cases = [
        (json!({ "model": "worker", "messages": [] }), "messages"),
        (
            json!({ "model": "worker", "messages": [{ "role": "system", "content": "hi" }] }),
            "messages",
        ),
        (
            json!({ "model": "worker", "messages": user, "tools": [{}] }),
            "tools",
        ),
        (json!({ "model": "worker", "messages": user, "n": 2 }), "n"),
        (
            json!({ "model": "worker", "messages": user, "logprobs": true }),
            "logprobs",
        ),
        (
            json!({ "model": "worker", "messages": user, "response_format": { "type": "json_object" } }),
            "response_format",
        ),
    ];
    for (body, param) in cases {
        let response = runtime
            .post("/v1/chat/completions", &body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 400, "{body}");
        let error: Value = response.json().await.unwrap();
        assert_eq!(error["error"]["param"], param, "{body}");
    }
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_failed_run_is_an_error_in_both_ways_of_answering() {
    let world = World::new(Arc::new(|_, _| Reply::Status(400))).await;
    let runtime = world.start(world.definition(&turns(1))).await;
    let response = runtime
        .post("/v1/chat/completions", &request("worker", false))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 502);
    let response = runtime
        .post("/v1/chat/completions", &request("worker", true))
        .send()
        .await
        .unwrap();
    let events = read_events(response).await;
    let last: Value = serde_json::from_str(&events.last().unwrap().data).unwrap();
    assert!(
        last["error"]["message"]
            .as_str()
            .unwrap()
            .contains("400 Bad Request"),
        "{last}"
    );
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_run() {
    let world = World::silent().await;
    let runtime = world.start(world.definition(&turns(1))).await;
    for (stream, key) in [(false, None), (true, None), (true, Some("stay"))] {
        let before = world.model.count();
        let mut asking = runtime.post("/v1/chat/completions", &request("worker", stream));
        if let Some(key) = key {
            asking = asking.header("idempotency-key", key);
        }
        let waiting = async {
            while world.model.count() == before {
                tokio::task::yield_now().await;
            }
        };
        let asked = async { asking.send().await.unwrap().bytes().await.unwrap() };
        tokio::select! {
            bytes = asked => panic!("an answer without a model: {bytes:?}"),
            () = waiting => {}
        }
        let list: RunList = runtime
            .get("/v1/agents/team/worker/runs")
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        let id = list.data[0].id.clone();
        if key.is_none() {
            runtime.events(&id).await;
        }
        let status = runtime.run(&id).await.status;
        assert_eq!(
            status,
            if key.is_none() {
                RunStatus::Cancelled
            } else {
                RunStatus::Running
            }
        );
    }
    runtime.stop().await.unwrap();
}
