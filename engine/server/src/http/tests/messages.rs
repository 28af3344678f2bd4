//! Claims about Anthropic's API.

use serde_json::{Value, json};

use super::fixture::Fixture;
use super::with;

const PATH: &str = "/v1/messages";

fn request(more: Value) -> Value {
    let body = json!({"model": "tiny", "max_tokens": 6, "temperature": 0, "ignore_eos": true,
        "system": "be brief", "messages": [{"role": "user", "content": "hello"}]});
    with(body, more)
}

#[tokio::test]
async fn a_message_has_blocks_and_a_reason() {
    let fixture = Fixture::start();
    let answer = fixture.post_ok(PATH, &request(json!({}))).await;
    assert_eq!(answer["type"], "message");
    assert_eq!(answer["role"], "assistant");
    assert_eq!(answer["content"][0]["type"], "text");
    assert_eq!(answer["stop_reason"], "max_tokens");
    assert_eq!(answer["usage"]["output_tokens"], 6);
    let text = answer["content"][0]["text"].as_str().unwrap();
    let stop: String = text.chars().skip(2).take(1).collect();
    let stopped = fixture
        .post_ok(PATH, &request(json!({"stop_sequences": [stop]})))
        .await;
    assert_eq!(stopped["stop_reason"], "stop_sequence");
    assert_eq!(stopped["stop_sequence"], stop);
}

#[tokio::test]
async fn tools_are_used_and_their_results_understood() {
    let fixture = Fixture::roomy();
    let tool = json!({"name": "go", "description": "goes", "input_schema": {
        "type": "object", "properties": {"to": {"enum": ["a", "b"]}}, "required": ["to"], "additionalProperties": false}});
    let more = json!({"tools": [tool], "tool_choice": {"type": "tool", "name": "go"}, "max_tokens": 600, "ignore_eos": false});
    let answer = fixture.post_ok(PATH, &request(more.clone())).await;
    assert_eq!(answer["stop_reason"], "tool_use", "{answer}");
    let used = &answer["content"][0];
    assert_eq!(
        (&used["type"], &used["name"]),
        (&json!("tool_use"), &json!("go"))
    );
    assert!(["a", "b"].contains(&used["input"]["to"].as_str().unwrap()));
    let result = json!({"type": "tool_result", "tool_use_id": used["id"], "content": [{"type": "text", "text": "gone"}], "is_error": true});
    let messages = json!([{"role": "user", "content": "hello"}, {"role": "assistant", "content": answer["content"]}, {"role": "user", "content": [result]}]);
    fixture
        .post_ok(
            PATH,
            &request(json!({"messages": messages, "tools": [tool]})),
        )
        .await;
    let events = fixture
        .post_events(PATH, &with(request(more), json!({"stream": true})))
        .await;
    let pieces: String = events
        .iter()
        .filter_map(|event| event["delta"]["partial_json"].as_str())
        .collect();
    let input: Value = serde_json::from_str(&pieces).unwrap();
    assert_eq!(input, used["input"]);
}

#[tokio::test]
async fn a_stream_has_the_events_in_their_order() {
    let fixture = Fixture::start();
    let whole = fixture.post_ok(PATH, &request(json!({}))).await;
    let events = fixture
        .post_events(PATH, &request(json!({"stream": true})))
        .await;
    let mut kinds: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    kinds.dedup();
    assert_eq!(
        kinds,
        [
            "message_start",
            "ping",
            "content_block_start",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    let text: String = events
        .iter()
        .filter_map(|event| event["delta"]["text"].as_str())
        .collect();
    assert_eq!(whole["content"][0]["text"], text);
    let end = &events[events.len() - 2];
    assert_eq!(end["delta"]["stop_reason"], whole["stop_reason"]);
    assert_eq!(end["usage"]["output_tokens"], 6);
}

#[tokio::test]
async fn tokens_are_counted() {
    let fixture = Fixture::start();
    let body = json!({"model": "tiny", "system": "be brief", "messages": [{"role": "user", "content": "hello"}]});
    let counted = fixture.post_ok("/v1/messages/count_tokens", &body).await;
    let usage = &fixture.post_ok(PATH, &request(json!({}))).await["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap()
        + usage["cache_read_input_tokens"].as_u64().unwrap();
    assert_eq!(counted["input_tokens"], sum);
}

#[tokio::test]
async fn faults_come_in_the_shape_of_this_api() {
    let fixture = Fixture::start();
    for (more, status, kind) in [
        (json!({"max_tokens": null}), 400, "invalid_request_error"),
        (json!({"model": "huge"}), 404, "not_found_error"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}),
            400,
            "invalid_request_error",
        ),
        (
            json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}),
            400,
            "invalid_request_error",
        ),
        (
            json!({"mcp_servers": [{"name": "x"}]}),
            400,
            "invalid_request_error",
        ),
    ] {
        let (got, _, text) = fixture.post_text(PATH, &request(more).to_string()).await;
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (got.as_u16(), &answer["type"], &answer["error"]["type"]),
            (status, &json!("error"), &json!(kind)),
            "{text}"
        );
    }
    let (status, headers, text) = Fixture::start_with(&["--max-waiting", "0"])
        .post_text(PATH, &request(json!({})).to_string())
        .await;
    assert_eq!(
        (status.as_u16(), &headers["retry-after"]),
        (429, &"1".parse().unwrap())
    );
    assert!(text.contains("rate_limit_error"), "{text}");
}
