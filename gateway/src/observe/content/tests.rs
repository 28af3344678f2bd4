//! What is told of requests and answers of each API, whole and streamed.

use bytes::Bytes;
use serde_json::{Value, json};

use super::{Content, Masks};
use crate::{call::Operation, decode::Decoded};

/// What comes back of an answer.
enum Answer {
    Whole(Value),
    Events(Vec<Value>),
}

fn content(operation: Operation, request: &Value, answer: Answer) -> Content {
    let mut content = Content::default();
    let request = Bytes::from(request.to_string());
    let decoded = Decoded::without_body(operation, "m".to_owned());
    let decoded = Decoded {
        body: request,
        ..decoded
    };
    content.note_request(&decoded, Masks::default());
    match answer {
        Answer::Whole(body) => content.note_answer(&Bytes::from(body.to_string())),
        Answer::Events(events) => {
            let events = events.iter().map(|event| format!("data: {event}\n\n"));
            let stream = events.collect::<String>() + "data: [DONE]\n\n";
            // Events may be cut anywhere.
            for piece in stream.as_bytes().chunks(7) {
                content.note_events(piece);
            }
        }
    }
    content
}

/// The attributes by name, their texts read as JSON.
fn told(content: &Content) -> Value {
    let attributes = content.attributes();
    let told = attributes.iter().map(|attribute| {
        let value = &attribute["value"]["stringValue"];
        let value = serde_json::from_str(value.as_str().unwrap()).unwrap();
        (attribute["key"].as_str().unwrap().to_owned(), value)
    });
    Value::Object(told.collect())
}

#[track_caller]
fn check(operation: Operation, request: &Value, answer: Answer, expected: &Value) {
    assert_eq!(&told(&content(operation, request, answer)), expected);
}

fn text(content: &str) -> Value {
    json!({"type": "text", "content": content})
}

fn chat() -> Value {
    json!({
        "model": "m",
        "messages": [
            {"role": "system", "content": "be kind"},
            {"role": "user", "content": [
                {"type": "text", "text": "what is this"},
                {"type": "image_url", "image_url": {"url": "https://me:pass@host/cat.png?key=secret#x"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "input_audio", "input_audio": {"format": "wav", "data": "QUJD"}},
            ]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "a cat"},
        ],
        "tools": [{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}}],
        "metadata": {"password": "never told"},
    })
}

fn told_of_chat(output: &Value) -> Value {
    json!({
        "gen_ai.input.messages": [
            {"role": "system", "parts": [text("be kind")]},
            {"role": "user", "parts": [
                text("what is this"),
                {"type": "uri", "modality": "image", "uri": "https://host/cat.png"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
                {"type": "blob", "modality": "audio", "content": ""},
            ]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {"at": 1}}]},
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a cat"}]},
        ],
        "gen_ai.output.messages": output,
        "gen_ai.tool.definitions": [
            {"type": "function", "name": "look", "description": "Looks.", "parameters": {"type": "object"}},
        ],
    })
}

#[test]
fn chats_are_told_whole_and_streamed_alike() {
    let output = json!([
        {"role": "assistant", "parts": [
            {"type": "reasoning", "content": "hm so"},
            text("a cat"),
            {"type": "tool_call", "id": "c2", "name": "look", "arguments": {"at": 2}},
        ], "finish_reason": "tool_call"},
        {"role": "assistant", "parts": [text("dog")], "finish_reason": "stop"},
    ]);
    let call = json!({"id": "c2", "type": "function", "function": {"name": "look", "arguments": "{\"at\":2}"}});
    let whole = json!({"choices": [
        {"index": 0, "message": {"role": "assistant", "content": "a cat", "reasoning_content": "hm so", "tool_calls": [call]}, "finish_reason": "tool_calls"},
        {"index": 1, "message": {"role": "assistant", "content": "dog"}, "finish_reason": "stop"},
    ]});
    check(
        Operation::Chat,
        &chat(),
        Answer::Whole(whole),
        &told_of_chat(&output),
    );
    let piece = |index: u64, delta: Value| json!({"choices": [{"index": index, "delta": delta, "finish_reason": null}]});
    let end = |index: u64, reason: &str| json!({"choices": [{"index": index, "delta": {}, "finish_reason": reason}]});
    let events = vec![
        piece(0, json!({"role": "assistant", "content": ""})),
        piece(0, json!({"reasoning_content": "hm "})),
        piece(1, json!({"content": "dog"})),
        piece(0, json!({"reasoning_content": "so"})),
        piece(0, json!({"content": "a "})),
        piece(0, json!({"content": "cat"})),
        piece(
            0,
            json!({"tool_calls": [{"index": 0, "id": "c2", "function": {"name": "look", "arguments": ""}}]}),
        ),
        piece(
            0,
            json!({"tool_calls": [{"index": 0, "function": {"arguments": "{\"at\""}}]}),
        ),
        piece(
            0,
            json!({"tool_calls": [{"index": 0, "function": {"arguments": ":2}"}}]}),
        ),
        end(0, "tool_calls"),
        end(1, "stop"),
        json!({"choices": [], "usage": {"prompt_tokens": 1}}),
    ];
    check(
        Operation::Chat,
        &chat(),
        Answer::Events(events),
        &told_of_chat(&output),
    );
}

fn message_request() -> Value {
    json!({
        "model": "m",
        "system": [{"type": "text", "text": "be kind"}],
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "a cat"}]},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}},
            ]},
        ],
        "tools": [{"name": "look", "input_schema": {"type": "object"}}],
    })
}

#[test]
fn messages_are_told_whole_and_streamed_alike() {
    let request = message_request();
    let expected = json!({
        "gen_ai.system_instructions": [text("be kind")],
        "gen_ai.input.messages": [
            {"role": "user", "parts": [text("hi")]},
            {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "look", "arguments": {"at": 1}}]},
            {"role": "user", "parts": [
                {"type": "tool_call_response", "id": "t1", "response": [text("a cat")]},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": ""},
            ]},
        ],
        "gen_ai.output.messages": [{"role": "assistant", "parts": [
            {"type": "reasoning", "content": "hm"},
            text("a cat"),
            {"type": "tool_call", "id": "t2", "name": "look", "arguments": {"at": 2}},
        ], "finish_reason": "tool_call"}],
        "gen_ai.tool.definitions": [{"type": "function", "name": "look", "parameters": {"type": "object"}}],
    });
    let whole = json!({"type": "message", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": "a cat"},
        {"type": "tool_use", "id": "t2", "name": "look", "input": {"at": 2}},
    ], "stop_reason": "tool_use"});
    check(
        Operation::Message,
        &request,
        Answer::Whole(whole),
        &expected,
    );
    let start = |index: u64, block: Value| json!({"type": "content_block_start", "index": index, "content_block": block});
    let delta = |index: u64, delta: Value| json!({"type": "content_block_delta", "index": index, "delta": delta});
    let events = vec![
        json!({"type": "message_start", "message": {"content": []}}),
        start(0, json!({"type": "thinking", "thinking": ""})),
        delta(0, json!({"type": "thinking_delta", "thinking": "hm"})),
        delta(0, json!({"type": "signature_delta", "signature": "s"})),
        start(1, json!({"type": "text", "text": ""})),
        delta(1, json!({"type": "text_delta", "text": "a "})),
        json!({"type": "ping"}),
        delta(1, json!({"type": "text_delta", "text": "cat"})),
        start(
            2,
            json!({"type": "tool_use", "id": "t2", "name": "look", "input": {}}),
        ),
        delta(
            2,
            json!({"type": "input_json_delta", "partial_json": "{\"at\""}),
        ),
        delta(
            2,
            json!({"type": "input_json_delta", "partial_json": ": 2}"}),
        ),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}),
        json!({"type": "message_stop"}),
    ];
    check(
        Operation::Message,
        &request,
        Answer::Events(events),
        &expected,
    );
}

fn response_request() -> Value {
    json!({
        "model": "m",
        "instructions": "be kind",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hi"}, {"type": "input_file", "file_id": "f1"}]},
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "a cat"},
            {"type": "web_search_call", "id": "w1", "action": {"query": "never told"}},
        ],
        "tools": [
            {"type": "function", "name": "look", "parameters": {"type": "object"}},
            {"type": "mcp", "server_label": "s", "authorization": "never told"},
        ],
    })
}

#[test]
fn responses_are_told_whole_and_streamed_alike() {
    let request = response_request();
    let items = json!([
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a cat"}]},
        {"type": "function_call", "call_id": "c2", "name": "look", "arguments": "{\"at\":2}"},
    ]);
    let told = |finish_reason: Value| {
        let mut message = json!({"role": "assistant", "parts": [
            text("a cat"),
            {"type": "tool_call", "id": "c2", "name": "look", "arguments": {"at": 2}},
        ]});
        if finish_reason.is_string() {
            message["finish_reason"] = finish_reason;
        }
        json!({
            "gen_ai.system_instructions": [text("be kind")],
            "gen_ai.input.messages": [
                {"role": "user", "parts": [text("hi"), {"type": "file", "modality": "document", "file_id": "f1"}]},
                {"role": "assistant", "parts": [{"type": "reasoning", "content": "hm"}]},
                {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "look", "arguments": {}}]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "a cat"}]},
                {"role": "assistant", "parts": [{"type": "web_search_call"}]},
            ],
            "gen_ai.output.messages": [message],
            "gen_ai.tool.definitions": [
                {"type": "function", "name": "look", "parameters": {"type": "object"}},
                {"type": "mcp", "name": "mcp"},
            ],
        })
    };
    let whole = json!({"status": "completed", "output": items});
    check(
        Operation::Response,
        &request,
        Answer::Whole(whole.clone()),
        &told(json!("tool_call")),
    );
    let mut events = vec![
        json!({"type": "response.created", "response": {"output": []}}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "role": "assistant", "content": []}}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "a "}),
        json!({"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "cat"}),
        json!({"type": "response.output_item.added", "output_index": 1, "item": {"type": "function_call", "call_id": "c2", "name": "look", "arguments": ""}}),
        json!({"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{\"at\":2}"}),
    ];
    // A stream that breaks off is told as far as it came.
    check(
        Operation::Response,
        &request,
        Answer::Events(events.clone()),
        &told(Value::Null),
    );
    events.push(json!({"type": "response.completed", "response": whole}));
    check(
        Operation::Response,
        &request,
        Answer::Events(events),
        &told(json!("tool_call")),
    );
}

#[test]
fn completions_are_told() {
    let output = json!([{"role": "assistant", "parts": [text("b c")], "finish_reason": "length"}]);
    let expected = json!({
        "gen_ai.input.messages": [{"role": "user", "parts": [text("a")]}],
        "gen_ai.output.messages": output,
    });
    let request = json!({"model": "m", "prompt": "a"});
    let whole = json!({"choices": [{"index": 0, "text": "b c", "finish_reason": "length"}]});
    check(
        Operation::Completion,
        &request,
        Answer::Whole(whole),
        &expected,
    );
    let events = vec![
        json!({"choices": [{"index": 0, "text": "b ", "finish_reason": null}]}),
        json!({"choices": [{"index": 0, "text": "c", "finish_reason": "length"}]}),
    ];
    check(
        Operation::Completion,
        &request,
        Answer::Events(events),
        &expected,
    );
}

#[test]
fn what_is_none_of_it_harms_nothing_and_is_not_told() {
    let nothing = json!({});
    let check_whole = |operation, request: Value, answer: Value| {
        check(operation, &request, Answer::Whole(answer), &nothing);
    };
    check_whole(
        Operation::Embedding,
        json!({"input": "a"}),
        json!({"data": []}),
    );
    check_whole(
        Operation::Chat,
        json!([1]),
        json!({"error": {"message": "x"}}),
    );
    check_whole(Operation::Message, json!({"messages": 1}), json!("text"));
    check_whole(
        Operation::Response,
        json!({"input": 1}),
        json!({"output": 1}),
    );
    let odd = [
        json!([1]),
        json!({"type": "response.output_item.added", "output_index": 1_000_000_000, "item": []}),
        json!({"type": "response.output_text.delta", "delta": "x"}),
        json!({"type": "response.completed", "response": [1]}),
        json!({"type": "content_block_start", "content_block": "x"}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"text": "y"}}),
        json!({"choices": [1, {"index": 0, "delta": [], "message": 1}, {"index": "x", "delta": {"tool_calls": [1]}}]}),
        json!({"choices": {"index": 0}}),
    ];
    for operation in [Operation::Chat, Operation::Message, Operation::Response] {
        for first in &odd {
            for second in &odd {
                let events = vec![first.clone(), second.clone()];
                content(operation, &json!({}), Answer::Events(events)).attributes();
            }
        }
    }
}

#[test]
fn an_answer_that_is_too_long_is_not_told_and_a_request_as_far_as_it_fits() {
    let long = "x".repeat(2 << 20);
    let events = vec![json!({"choices": [{"index": 0, "delta": {"content": long}}]})];
    let messages: Vec<Value> = (0..100)
        .map(|number| json!({"role": "user", "content": format!("{number}{}", "y".repeat(1000))}))
        .collect();
    let request = json!({"messages": messages});
    let attributes = content(Operation::Chat, &request, Answer::Events(events)).attributes();
    let names: Vec<&str> = attributes
        .iter()
        .map(|attribute| attribute["key"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        ["gen_ai.input.messages", "quarterdeck.content.left_out"]
    );
    let input = attributes[0]["value"]["stringValue"].as_str().unwrap();
    assert!(input.len() <= super::INPUT_BYTES_MAX);
    let input: Vec<Value> = serde_json::from_str(input).unwrap();
    let last = input.last().unwrap()["parts"][0]["content"]
        .as_str()
        .unwrap();
    assert!(last.starts_with("99y"), "{last}");
    let left_out = attributes[1]["value"]["intValue"].as_str().unwrap();
    assert_eq!(left_out.parse::<usize>().unwrap(), 100 - input.len());
}
