//! Claims about the responses API.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::with;

const PATH: &str = "/v1/responses";

fn request(more: Value) -> Value {
    let body = json!({"model": "tiny", "input": "hello", "max_output_tokens": 6, "temperature": 0, "ignore_eos": true});
    with(body, more)
}

fn call(more: Value) -> Value {
    let tool = json!({"type": "function", "name": "go", "parameters": {
        "type": "object", "properties": {"to": {"enum": ["a", "b"]}}, "required": ["to"], "additionalProperties": false}});
    let body = json!({"tools": [tool], "tool_choice": "required", "max_output_tokens": 600, "ignore_eos": false});
    request(with(
        with(body, json!({"parallel_tool_calls": false})),
        more,
    ))
}

#[tokio::test]
async fn a_response_has_items_and_says_why_it_is_incomplete() {
    let fixture = Fixture::start();
    let answer = fixture
        .post_ok(
            PATH,
            &request(json!({"instructions": "be brief", "metadata": {"a": "b"}})),
        )
        .await;
    assert_eq!(answer["object"], "response");
    assert_eq!(answer["status"], "incomplete");
    assert_eq!(answer["incomplete_details"]["reason"], "max_output_tokens");
    assert_eq!(answer["output"][0]["type"], "message");
    assert!(
        !answer["output"][0]["content"][0]["text"]
            .as_str()
            .unwrap()
            .is_empty()
    );
    assert_eq!(answer["usage"]["output_tokens"], 6);
    assert_eq!(answer["metadata"], json!({"a": "b"}));
}

#[tokio::test]
async fn a_stream_of_typed_events_adds_up_to_the_response() {
    let fixture = Fixture::roomy();
    for body in [request(json!({})), call(json!({}))] {
        let whole = fixture.post_ok(PATH, &body).await;
        let events = fixture
            .post_events(PATH, &with(body, json!({"stream": true})))
            .await;
        let numbers: Vec<_> = events
            .iter()
            .map(|event| event["sequence_number"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, (0..events.len() as u64).collect::<Vec<_>>());
        let kinds: Vec<_> = events
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds[..3],
            [
                "response.created",
                "response.in_progress",
                "response.output_item.added"
            ]
        );
        let last = events.last().unwrap();
        assert!(["response.completed", "response.incomplete"].contains(&kinds[kinds.len() - 1]));
        assert_eq!(last["response"]["status"], whole["status"]);
        assert_eq!(
            last["response"]["usage"]["output_tokens"],
            whole["usage"]["output_tokens"]
        );
        let (delta, done, text) = match whole["output"][0]["type"].as_str().unwrap() {
            "message" => (
                "response.output_text.delta",
                "response.output_text.done",
                &whole["output"][0]["content"][0]["text"],
            ),
            _ => (
                "response.function_call_arguments.delta",
                "response.function_call_arguments.done",
                &whole["output"][0]["arguments"],
            ),
        };
        let joined: String = events
            .iter()
            .filter(|event| event["type"] == delta)
            .filter_map(|event| event["delta"].as_str())
            .collect();
        assert_eq!(text, &joined);
        assert_eq!(kinds.iter().filter(|kind| **kind == done).count(), 1);
    }
}

#[tokio::test]
async fn a_conversation_of_items_is_understood() {
    let fixture = Fixture::start();
    let input = json!([
        {"role": "user", "content": [{"type": "input_text", "text": "go"}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "function_call", "call_id": "c", "name": "go", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": "gone"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "done"}]},
        {"role": "user", "content": "thanks"},
    ]);
    let answer = fixture.post_ok(PATH, &request(json!({"input": input, "top_logprobs": 2, "include": ["message.output_text.logprobs"]}))).await;
    let logprobs = answer["output"][0]["content"][0]["logprobs"]
        .as_array()
        .unwrap();
    assert_eq!(logprobs.len(), 6);
    assert_eq!(logprobs[0]["top_logprobs"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn what_needs_storage_or_is_unknown_is_refused_by_name() {
    let fixture = Fixture::start();
    for (more, parameter) in [
        (
            json!({"previous_response_id": "resp_1"}),
            "previous_response_id",
        ),
        (json!({"background": true}), "background"),
        (json!({"conversation": "x"}), "conversation"),
        (json!({"truncation": "auto"}), "truncation"),
        (json!({"tools": [{"type": "web_search"}]}), "tools"),
        (
            json!({"input": [{"type": "item_reference", "id": "x"}]}),
            "input",
        ),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}),
            "input",
        ),
        (json!({"input": []}), "input"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"temperature": 9}), "temperature"),
    ] {
        let (status, _, text) = fixture.post_text(PATH, &request(more).to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(status, StatusCode::BAD_REQUEST, "{text}");
        assert_eq!(answer["error"]["param"], parameter, "{text}");
    }
    assert_eq!(
        fixture.get("/v1/responses/resp_1").await.0,
        StatusCode::NOT_FOUND
    );
}
