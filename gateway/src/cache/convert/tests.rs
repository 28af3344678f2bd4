//! A stream and a whole answer become each other, or nothing.

use bytes::Bytes;
use protocol::sse::{Event, Parser};
use serde_json::{Value, json};

use super::convert;
use crate::{
    cache::{Form, Kept},
    call::Operation,
};

fn stream(events: &[Value]) -> Bytes {
    let mut text = String::new();
    for event in events {
        text.push_str(&format!("data: {event}\n\n"));
    }
    Bytes::from(text + "data: [DONE]\n\n")
}

#[track_caller]
fn check_whole(operation: Operation, events: &[Value], expected: Option<&Value>) {
    let whole = convert(operation, &Kept::of(Form::Stream, stream(events)));
    let whole = whole.map(|body| serde_json::from_slice::<Value>(&body).unwrap());
    assert_eq!(whole.as_ref(), expected);
}

/// There and back again.
#[track_caller]
fn check_same(operation: Operation, whole: &Value) {
    let kept = Kept::of(Form::Whole, Bytes::from(whole.to_string()));
    let events = convert(operation, &kept).unwrap();
    let back = convert(operation, &Kept::of(Form::Stream, events)).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&back).unwrap(), *whole);
}

fn chunk(delta: &Value, end: &Value) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "model": "m",
        "choices": [{"index": 0, "delta": delta, "logprobs": null, "finish_reason": end}], "usage": null})
}

#[test]
fn the_pieces_of_a_chat_are_its_message() {
    let call = |piece: Value| json!({"tool_calls": [piece]});
    let events = [
        chunk(&json!({"role": "assistant", "content": ""}), &Value::Null),
        chunk(
            &json!({"content": "gr", "reasoning_content": "h"}),
            &Value::Null,
        ),
        chunk(
            &json!({"content": "ün", "reasoning_content": "m"}),
            &Value::Null,
        ),
        chunk(
            &call(
                json!({"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}),
            ),
            &Value::Null,
        ),
        chunk(
            &call(json!({"index": 0, "function": {"arguments": "{\"a\":"}})),
            &Value::Null,
        ),
        chunk(
            &call(json!({"index": 0, "function": {"arguments": "1}"}})),
            &Value::Null,
        ),
        chunk(&json!({}), &json!("tool_calls")),
        json!({"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": {"total_tokens": 3}}),
    ];
    let message = json!({"role": "assistant", "content": "grün", "reasoning_content": "hm", "tool_calls": [
        {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}}]});
    let whole = json!({"id": "c", "object": "chat.completion", "model": "m", "usage": {"total_tokens": 3},
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"}]});
    check_whole(Operation::Chat, &events, Some(&whole));
    check_same(Operation::Chat, &whole);
}

#[test]
fn what_is_not_known_how_to_add_is_not_added() {
    let end = chunk(&json!({}), &json!("stop"));
    let odd = |delta: Value| {
        [
            chunk(&delta, &Value::Null),
            chunk(&json!({"audio": "b"}), &Value::Null),
            end.clone(),
        ]
    };
    check_whole(Operation::Chat, &odd(json!({"audio": "a"})), None);
    let with_chances = json!({"object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {}, "logprobs": {"content": []}, "finish_reason": "stop"}]});
    check_whole(Operation::Chat, &[with_chances], None);
    check_whole(
        Operation::Chat,
        &[chunk(&json!({"content": "cut"}), &Value::Null)],
        None,
    );
    let whole = Kept::of(
        Form::Whole,
        Bytes::from_static(b"{\"status\":\"completed\"}"),
    );
    assert_eq!(convert(Operation::Response, &whole), None);
}

#[test]
fn completions_become_each_other() {
    let choice = |index: u64, text: &str| json!({"index": index, "text": text, "logprobs": null, "finish_reason": "stop"});
    check_same(
        Operation::Completion,
        &json!({"id": "c", "object": "text_completion", "usage": {"total_tokens": 1},
            "choices": [choice(0, "a"), choice(1, "b")]}),
    );
}

#[test]
fn messages_become_each_other() {
    let content = json!([
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "grün"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [1]}},
    ]);
    let whole = json!({"id": "m", "type": "message", "role": "assistant", "content": content,
        "stop_reason": "tool_use", "stop_sequence": null, "usage": {"input_tokens": 3, "output_tokens": 4}});
    check_same(Operation::Message, &whole);
}

#[test]
fn the_last_event_of_a_response_is_the_whole_one() {
    let response = json!({"id": "r", "status": "completed"});
    let last = json!({"type": "response.completed", "response": response});
    let events: String = [json!({"type": "response.created"}), last]
        .iter()
        .map(|event| format!("event: x\ndata: {event}\n\n"))
        .collect();
    let whole = convert(
        Operation::Response,
        &Kept::of(Form::Stream, Bytes::from(events)),
    );
    assert_eq!(whole, Some(Bytes::from(response.to_string())));
}

#[test]
fn a_stream_of_messages_names_its_events() {
    let whole =
        json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn", "usage": {}});
    let kept = Kept::of(Form::Whole, Bytes::from(whole.to_string()));
    let events = convert(Operation::Message, &kept).unwrap();
    let events: Vec<Event> = Parser::new(1 << 20).push(&events).unwrap();
    let names: Vec<&str> = events.iter().map(|event| event.event.as_str()).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
}
