//! OpenAI's chat completions: what they ask for, and their answers, whole and in events.

use serde_json::{Value, json};

use super::question::{CACHED_TOKENS, Question, Reply, image};

/// What a request asks for.
pub(super) fn question(request: &Value) -> Question {
    let mut question = Question {
        words_max: limit(request),
        tools: tools(request),
        ..Question::default()
    };
    let messages = request["messages"].as_array();
    for message in messages.into_iter().flatten() {
        question.result = None;
        match message["role"].as_str() {
            Some("user") => (question.text, question.images) = content(&message["content"]),
            Some("tool") => question.result = Some(content(&message["content"]).0),
            _ => {}
        }
    }
    question.schema = match request["response_format"]["type"].as_str() {
        Some("json_schema") => Some(request["response_format"]["json_schema"]["schema"].clone()),
        Some("json_object") => Some(json!({"properties": {"city": {"type": "string"}}})),
        _ => None,
    };
    question
}

/// Most words of the answer.
pub(super) fn limit(request: &Value) -> Option<usize> {
    let limit = ["max_completion_tokens", "max_tokens"].map(|name| request[name].as_u64());
    limit[0]
        .or(limit[1])
        .and_then(|limit| usize::try_from(limit).ok())
}

fn tools(request: &Value) -> Vec<(String, Value)> {
    let choice = &request["tool_choice"];
    if choice == "none" {
        return Vec::new();
    }
    let wanted = choice["function"]["name"].as_str();
    let tools = request["tools"].as_array().into_iter().flatten();
    let functions = tools.map(|tool| &tool["function"]);
    let mut found: Vec<(String, Value)> = functions
        .filter(|function| wanted.is_none_or(|wanted| function["name"] == wanted))
        .map(|function| {
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            (name, function["parameters"].clone())
        })
        .collect();
    if request["parallel_tool_calls"] == false {
        found.truncate(1);
    }
    found
}

/// The text of a content, and its images.
fn content(content: &Value) -> (String, Vec<String>) {
    let Some(parts) = content.as_array() else {
        return (content.as_str().unwrap_or_default().to_owned(), Vec::new());
    };
    let texts = parts.iter().filter_map(|part| part["text"].as_str());
    let images = parts
        .iter()
        .filter_map(|part| part["image_url"]["url"].as_str());
    (texts.collect(), images.map(image).collect())
}

/// A whole answer.
pub(super) fn whole(request: &Value, reply: &Reply) -> Value {
    let count = request["n"].as_u64().unwrap_or(1);
    let choices: Vec<Value> = (0..count)
        .map(|index| {
            json!({"index": index, "message": message(reply), "finish_reason": finish_reason(reply),
                "logprobs": logprobs(request, &reply.text)})
        })
        .collect();
    json!({"id": "chatcmpl-fluent", "object": "chat.completion", "created": 1_700_000_000, "model": request["model"],
        "choices": choices, "usage": usage(reply), "service_tier": "default", "system_fingerprint": "fp_fluent",
        "x_unheard_of": {"kept": true}})
}

fn message(reply: &Reply) -> Value {
    if reply.calls.is_empty() {
        return json!({"role": "assistant", "content": reply.text, "refusal": null, "annotations": []});
    }
    let calls = reply.calls.iter().enumerate();
    let calls: Vec<Value> = calls
        .map(|(place, (name, arguments))| {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            json!({"id": format!("call_{place}"), "type": "function", "function": function})
        })
        .collect();
    json!({"role": "assistant", "content": null, "refusal": null, "annotations": [], "tool_calls": calls})
}

/// Why an answer ended.
pub(super) fn finish_reason(reply: &Reply) -> &'static str {
    match (reply.calls.is_empty(), reply.is_cut) {
        (false, _) => "tool_calls",
        (true, true) => "length",
        (true, false) => "stop",
    }
}

fn logprobs(request: &Value, text: &str) -> Value {
    if request["logprobs"] != true {
        return Value::Null;
    }
    let entry = |token: &str| json!({"token": token, "logprob": -0.25, "bytes": token.as_bytes(), "top_logprobs": []});
    let entries: Vec<Value> = text.split_inclusive(' ').map(entry).collect();
    json!({"content": entries, "refusal": null})
}

/// What an answer used.
pub(super) fn usage(reply: &Reply) -> Value {
    let output = reply.tokens();
    json!({"prompt_tokens": reply.prompt_tokens, "completion_tokens": output, "total_tokens": reply.prompt_tokens + output,
        "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0}})
}

/// The events of an answer, without the end.
pub(super) fn events(request: &Value, reply: &Reply) -> Vec<Value> {
    let shows_usage = request["stream_options"]["include_usage"] == true;
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({"id": "chatcmpl-fluent", "object": "chat.completion.chunk", "created": 1_700_000_000,
            "model": request["model"], "choices": choices, "service_tier": "default", "system_fingerprint": "fp_fluent",
            "obfuscation": "abc"});
        if shows_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let count = request["n"].as_u64().unwrap_or(1);
    let mut all = Vec::new();
    for index in 0..count {
        let choice = |delta: Value, reason: Value, logprobs: Value| {
            let choice = json!({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason});
            chunk(json!([choice]), Value::Null)
        };
        let content = if reply.calls.is_empty() {
            json!("")
        } else {
            Value::Null
        };
        let role = json!({"role": "assistant", "content": content, "refusal": null});
        all.push(choice(role, Value::Null, Value::Null));
        for piece in reply.pieces() {
            let logprobs = logprobs(request, piece);
            all.push(choice(json!({"content": piece}), Value::Null, logprobs));
        }
        let deltas = call_deltas(reply).into_iter();
        all.extend(deltas.map(|delta| choice(delta, Value::Null, Value::Null)));
        all.push(choice(json!({}), json!(finish_reason(reply)), Value::Null));
    }
    if shows_usage {
        all.push(chunk(json!([]), usage(reply)));
    }
    all
}

/// Each call with its name first, then its arguments in pieces.
fn call_deltas(reply: &Reply) -> Vec<Value> {
    let mut deltas = Vec::new();
    for (place, (name, arguments)) in reply.calls.iter().enumerate() {
        let function = json!({"name": name, "arguments": ""});
        let first = json!({"index": place, "id": format!("call_{place}"), "type": "function", "function": function});
        deltas.push(json!({"tool_calls": [first]}));
        for piece in pieces(&arguments.to_string()) {
            let next = json!({"index": place, "function": {"arguments": piece}});
            deltas.push(json!({"tool_calls": [next]}));
        }
    }
    deltas
}

/// A text in pieces of a few characters, as arguments are streamed.
pub(super) fn pieces(text: &str) -> Vec<String> {
    const CHARACTERS: usize = 6;
    let characters: Vec<char> = text.chars().collect();
    let chunks = characters.chunks(CHARACTERS);
    chunks.map(|chunk| chunk.iter().collect()).collect()
}
