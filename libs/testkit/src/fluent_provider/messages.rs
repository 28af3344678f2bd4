//! Anthropic's messages: what they ask for, and their answers, whole and in events.

use serde_json::{Value, json};

use super::{
    chat::pieces,
    question::{CACHED_TOKENS, Question, Reply, words_in},
};

/// What a thought is signed with.
const SIGNATURE: &str = "c2lnbmVk";

/// What a request asks for.
pub(super) fn question(request: &Value) -> Question {
    let words_max = request["max_tokens"].as_u64();
    let format = [
        &request["output_config"]["format"],
        &request["output_format"],
    ];
    let schema = format
        .into_iter()
        .find(|format| format["type"] == "json_schema");
    let mut question = Question {
        words_max: words_max.and_then(|words_max| usize::try_from(words_max).ok()),
        tools: tools(request),
        schema: schema.map(|format| format["schema"].clone()),
        shows_thought: matches!(
            request["thinking"]["type"].as_str(),
            Some("enabled" | "adaptive")
        ),
        ..Question::default()
    };
    let messages = request["messages"].as_array();
    for message in messages.into_iter().flatten() {
        question.result = None;
        if message["role"] != "user" {
            continue;
        }
        let blocks = match &message["content"] {
            Value::Array(blocks) => blocks.clone(),
            text => vec![json!({"type": "text", "text": text})],
        };
        read(&blocks, &mut question);
    }
    question
}

fn read(blocks: &[Value], question: &mut Question) {
    let texts: String = blocks
        .iter()
        .filter_map(|block| block["text"].as_str())
        .collect();
    if !texts.is_empty() {
        question.text = texts;
    }
    let images = blocks.iter().filter(|block| block["type"] == "image");
    let media = images.filter_map(|block| {
        let source = &block["source"];
        source["media_type"]
            .as_str()
            .or_else(|| source["url"].as_str())
    });
    question.images = media.map(str::to_owned).collect();
    let results = blocks.iter().filter(|block| block["type"] == "tool_result");
    let results: Vec<String> = results
        .map(|block| match &block["content"] {
            Value::Array(parts) => parts
                .iter()
                .filter_map(|part| part["text"].as_str())
                .collect(),
            text => text.as_str().unwrap_or_default().to_owned(),
        })
        .collect();
    question.result = results.last().cloned();
}

fn tools(request: &Value) -> Vec<(String, Value)> {
    let choice = &request["tool_choice"];
    if choice["type"] == "none" {
        return Vec::new();
    }
    let wanted = choice["name"].as_str();
    let tools = request["tools"].as_array().into_iter().flatten();
    let mut found: Vec<(String, Value)> = tools
        .filter(|tool| wanted.is_none_or(|wanted| tool["name"] == wanted))
        .map(|tool| {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            (name, tool["input_schema"].clone())
        })
        .collect();
    if choice["disable_parallel_tool_use"] == true {
        found.truncate(1);
    }
    found
}

/// The number of tokens of a prompt.
pub(super) fn count(request: &Value) -> Value {
    json!({"input_tokens": words_in(&request["messages"]) + words_in(&request["system"])})
}

/// A whole answer.
pub(super) fn whole(request: &Value, reply: &Reply) -> Value {
    let mut message = begun(request, reply);
    message["content"] = Value::Array(blocks(reply));
    message["stop_reason"] = json!(stop_reason(reply));
    message["usage"]["output_tokens"] = json!(reply.tokens());
    message
}

fn begun(request: &Value, reply: &Reply) -> Value {
    let usage = json!({"input_tokens": reply.prompt_tokens - CACHED_TOKENS, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS, "output_tokens": 1, "service_tier": "standard"});
    json!({"id": "msg_fluent", "type": "message", "role": "assistant", "model": request["model"], "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage})
}

fn stop_reason(reply: &Reply) -> &'static str {
    match (reply.calls.is_empty(), reply.is_cut) {
        (false, _) => "tool_use",
        (true, true) => "max_tokens",
        (true, false) => "end_turn",
    }
}

fn blocks(reply: &Reply) -> Vec<Value> {
    let thought = reply.thought.iter();
    let mut all: Vec<Value> = thought
        .map(|thought| json!({"type": "thinking", "thinking": thought, "signature": SIGNATURE}))
        .collect();
    if reply.calls.is_empty() {
        all.push(json!({"type": "text", "text": reply.text}));
    }
    for (place, (name, arguments)) in reply.calls.iter().enumerate() {
        all.push(json!({"type": "tool_use", "id": format!("toolu_{place}"), "name": name, "input": arguments}));
    }
    all
}

/// The events of an answer.
pub(super) fn events(request: &Value, reply: &Reply) -> Vec<Value> {
    let mut all = vec![json!({"type": "message_start", "message": begun(request, reply)})];
    for (place, block) in blocks(reply).into_iter().enumerate() {
        let (start, deltas) = opened(block, reply);
        all.push(json!({"type": "content_block_start", "index": place, "content_block": start}));
        if place == 0 {
            all.push(json!({"type": "ping"}));
        }
        let deltas = deltas.into_iter();
        all.extend(
            deltas.map(
                |delta| json!({"type": "content_block_delta", "index": place, "delta": delta}),
            ),
        );
        all.push(json!({"type": "content_block_stop", "index": place}));
    }
    let usage = json!({"input_tokens": reply.prompt_tokens - CACHED_TOKENS, "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": CACHED_TOKENS, "output_tokens": reply.tokens()});
    let delta = json!({"stop_reason": stop_reason(reply), "stop_sequence": null});
    all.extend([
        json!({"type": "message_delta", "delta": delta, "usage": usage}),
        json!({"type": "message_stop"}),
    ]);
    all
}

/// A block as it begins, and what comes after.
fn opened(mut block: Value, reply: &Reply) -> (Value, Vec<Value>) {
    let deltas = match block["type"].as_str() {
        Some("thinking") => vec![
            json!({"type": "thinking_delta", "thinking": block["thinking"].take()}),
            json!({"type": "signature_delta", "signature": block["signature"].take()}),
        ],
        Some("tool_use") => {
            let input = block["input"].take().to_string();
            let pieces = pieces(&input).into_iter();
            pieces
                .map(|piece| json!({"type": "input_json_delta", "partial_json": piece}))
                .collect()
        }
        _ => {
            let pieces = reply.pieces();
            pieces
                .map(|piece| json!({"type": "text_delta", "text": piece}))
                .collect()
        }
    };
    for (name, empty) in [
        ("thinking", json!("")),
        ("signature", json!("")),
        ("input", json!({})),
        ("text", json!("")),
    ] {
        if block.get(name).is_some() {
            block[name] = empty;
        }
    }
    (block, deltas)
}
