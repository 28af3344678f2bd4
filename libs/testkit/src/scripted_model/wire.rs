//! The bodies of scripted answers, in the shapes of OpenAI's API. A word counts as a token.

use serde_json::{Value, json};

use super::answer::Call;

/// A complete text.
pub(super) fn text(request: &Value, text: &str) -> Value {
    let choice = if is_chat(request) {
        json!({"index": 0, "message": {"role": "assistant", "content": text}, "logprobs": null, "finish_reason": "stop"})
    } else {
        json!({"index": 0, "text": text, "logprobs": null, "finish_reason": "stop"})
    };
    whole(request, &choice, words(text))
}

/// Complete calls of tools.
pub(super) fn calls(request: &Value, calls: &[Call]) -> Value {
    let message = json!({"role": "assistant", "content": null, "tool_calls": tool_calls(calls)});
    let choice =
        json!({"index": 0, "message": message, "logprobs": null, "finish_reason": "tool_calls"});
    whole(request, &choice, calls.len())
}

/// The events of a streamed text, without the end.
pub(super) fn text_events(request: &Value, text: &str) -> Vec<String> {
    let pieces = text.split_inclusive(' ').map(|piece| {
        if is_chat(request) {
            json!({"index": 0, "delta": {"content": piece}, "finish_reason": null})
        } else {
            json!({"index": 0, "text": piece, "logprobs": null, "finish_reason": null})
        }
    });
    let last = if is_chat(request) {
        json!({"index": 0, "delta": {}, "finish_reason": "stop"})
    } else {
        json!({"index": 0, "text": "", "logprobs": null, "finish_reason": "stop"})
    };
    let role =
        json!({"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": null});
    let first = is_chat(request).then_some(role);
    stream_of(
        request,
        first.into_iter().chain(pieces).chain([last]),
        words(text),
    )
}

/// The events of streamed calls of tools, without the end.
pub(super) fn call_events(request: &Value, calls: &[Call]) -> Vec<String> {
    let pieces = tool_calls(calls).into_iter().enumerate().map(|(index, mut call)| {
        call["index"] = json!(index);
        json!({"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}, "finish_reason": null})
    });
    let last = json!({"index": 0, "delta": {}, "finish_reason": "tool_calls"});
    stream_of(request, pieces.chain([last]), calls.len())
}

/// Embeddings of every input: its length, and one.
pub(super) fn embedding(request: &Value) -> Value {
    let inputs = match &request["input"] {
        Value::Array(inputs) => inputs.clone(),
        input => vec![input.clone()],
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let length = input.as_str().map_or(0, str::len);
            json!({"object": "embedding", "index": index, "embedding": [length, 1.0]})
        })
        .collect();
    let tokens: usize = inputs.iter().filter_map(Value::as_str).map(words).sum();
    let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
    json!({"object": "list", "data": data, "model": request["model"], "usage": usage})
}

fn tool_calls(calls: &[Call]) -> Vec<Value> {
    let call = |(index, call): (usize, &Call)| {
        let function = json!({"name": call.name, "arguments": call.arguments.to_string()});
        json!({"id": format!("call_{index}"), "type": "function", "function": function})
    };
    calls.iter().enumerate().map(call).collect()
}

fn whole(request: &Value, choice: &Value, completion_tokens: usize) -> Value {
    json!({
        "id": id(request), "object": object(request, false), "created": 0, "model": request["model"],
        "choices": [choice], "usage": usage(request, completion_tokens),
    })
}

fn stream_of(
    request: &Value,
    choices: impl Iterator<Item = Value>,
    completion_tokens: usize,
) -> Vec<String> {
    let event = |choices: Value, usage: Value| {
        let mut event = json!({
            "id": id(request), "object": object(request, true), "created": 0, "model": request["model"],
            "choices": choices,
        });
        if !usage.is_null() {
            event["usage"] = usage;
        }
        format!("data: {event}\n\n")
    };
    let mut events: Vec<String> = choices
        .map(|choice| event(json!([choice]), Value::Null))
        .collect();
    if request["stream_options"]["include_usage"] == true {
        events.push(event(json!([]), usage(request, completion_tokens)));
    }
    events
}

fn usage(request: &Value, completion_tokens: usize) -> Value {
    let messages = request["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|message| &message["content"]);
    let prompt: usize = messages
        .chain([&request["prompt"]])
        .filter_map(Value::as_str)
        .map(words)
        .sum();
    let total = prompt + completion_tokens;
    json!({"prompt_tokens": prompt, "completion_tokens": completion_tokens, "total_tokens": total})
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn is_chat(request: &Value) -> bool {
    request.get("messages").is_some()
}

fn id(request: &Value) -> &'static str {
    if is_chat(request) {
        "chatcmpl-scripted"
    } else {
        "cmpl-scripted"
    }
}

fn object(request: &Value, is_event: bool) -> &'static str {
    match (is_chat(request), is_event) {
        (true, true) => "chat.completion.chunk",
        (true, false) => "chat.completion",
        (false, _) => "text_completion",
    }
}
