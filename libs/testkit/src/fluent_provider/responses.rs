//! OpenAI's responses: what they ask for, and their answers, whole and in events.

use serde_json::{Value, json};

use super::{
    chat::pieces,
    question::{CACHED_TOKENS, Question, Reply, image},
};

/// What a request asks for.
pub(super) fn question(request: &Value) -> Question {
    let words_max = request["max_output_tokens"].as_u64();
    let mut question = Question {
        words_max: words_max.and_then(|words_max| usize::try_from(words_max).ok()),
        tools: tools(request),
        ..Question::default()
    };
    if let Some(text) = request["input"].as_str() {
        text.clone_into(&mut question.text);
    }
    let items = request["input"].as_array();
    for item in items.into_iter().flatten() {
        question.result = None;
        if item["type"] == "function_call_output" {
            question.result = Some(content(&item["output"]).0);
        } else if item["role"] == "user" {
            (question.text, question.images) = content(&item["content"]);
        }
    }
    let format = &request["text"]["format"];
    if format["type"] == "json_schema" {
        question.schema = Some(format["schema"].clone());
    }
    question
}

fn tools(request: &Value) -> Vec<(String, Value)> {
    let choice = &request["tool_choice"];
    if choice == "none" {
        return Vec::new();
    }
    let wanted = choice["name"].as_str();
    let tools = request["tools"].as_array().into_iter().flatten();
    let mut found: Vec<(String, Value)> = tools
        .filter(|tool| tool["type"] == "function")
        .filter(|tool| wanted.is_none_or(|wanted| tool["name"] == wanted))
        .map(|tool| {
            let name = tool["name"].as_str().unwrap_or_default().to_owned();
            (name, tool["parameters"].clone())
        })
        .collect();
    if request["parallel_tool_calls"] == false {
        found.truncate(1);
    }
    found
}

fn content(content: &Value) -> (String, Vec<String>) {
    let Some(parts) = content.as_array() else {
        return (content.as_str().unwrap_or_default().to_owned(), Vec::new());
    };
    let texts = parts.iter().filter_map(|part| part["text"].as_str());
    let images = parts.iter().filter_map(|part| part["image_url"].as_str());
    (texts.collect(), images.map(image).collect())
}

/// A whole answer.
pub(super) fn whole(request: &Value, reply: &Reply) -> Value {
    let status = if reply.is_cut {
        "incomplete"
    } else {
        "completed"
    };
    let mut response = begun(request, status);
    response["output"] = Value::Array(items(reply));
    response["usage"] = usage(reply);
    if reply.is_cut {
        response["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    response
}

/// An answer without output.
fn begun(request: &Value, status: &str) -> Value {
    let given = |name: &str, default: Value| match &request[name] {
        Value::Null => default,
        value => value.clone(),
    };
    json!({
        "id": "resp_fluent", "object": "response", "created_at": 1_700_000_000, "status": status, "background": false,
        "error": null, "incomplete_details": null, "instructions": request["instructions"],
        "max_output_tokens": request["max_output_tokens"], "model": request["model"], "output": [],
        "parallel_tool_calls": given("parallel_tool_calls", json!(true)), "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null}, "store": given("store", json!(true)),
        "temperature": given("temperature", json!(1.0)), "text": given("text", json!({"format": {"type": "text"}})),
        "tool_choice": given("tool_choice", json!("auto")), "tools": shown_tools(request),
        "top_p": given("top_p", json!(1.0)), "truncation": "disabled",
        "metadata": given("metadata", json!({})), "service_tier": "default",
    })
}

/// The tools as the API shows them again: functions, with what was left out.
fn shown_tools(request: &Value) -> Vec<Value> {
    let tools = request["tools"].as_array().into_iter().flatten();
    let functions = tools.filter(|tool| tool["type"] == "function" && tool["name"].is_string());
    functions
        .map(|tool| {
            let parameters = Some(&tool["parameters"]).filter(|parameters| parameters.is_object());
            json!({"type": "function", "name": tool["name"], "description": tool["description"].as_str(),
                "parameters": parameters, "strict": tool["strict"].as_bool().unwrap_or(true)})
        })
        .collect()
}

fn usage(reply: &Reply) -> Value {
    let output = reply.tokens();
    json!({"input_tokens": reply.prompt_tokens, "input_tokens_details": {"cached_tokens": CACHED_TOKENS, "cache_write_tokens": 0},
        "output_tokens": output, "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": reply.prompt_tokens + output})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn message(content: &Value, status: &str) -> Value {
    json!({"id": "msg_fluent", "type": "message", "status": status, "role": "assistant", "content": content})
}

fn call(place: usize, name: &str, arguments: &str, status: &str) -> Value {
    json!({"id": format!("fc_{place}"), "type": "function_call", "status": status, "call_id": format!("call_{place}"),
        "name": name, "arguments": arguments})
}

fn items(reply: &Reply) -> Vec<Value> {
    if reply.calls.is_empty() {
        let status = if reply.is_cut {
            "incomplete"
        } else {
            "completed"
        };
        return vec![message(&json!([part(&reply.text)]), status)];
    }
    let calls = reply.calls.iter().enumerate();
    calls
        .map(|(place, (name, arguments))| call(place, name, &arguments.to_string(), "completed"))
        .collect()
}

/// The events of an answer.
pub(super) fn events(request: &Value, reply: &Reply) -> Vec<Value> {
    let mut all = vec![
        json!({"type": "response.created", "response": begun(request, "in_progress")}),
        json!({"type": "response.in_progress", "response": begun(request, "in_progress")}),
    ];
    for (place, item) in items(reply).iter().enumerate() {
        if item["type"] == "message" {
            all.extend(text_events(place, reply, item));
        } else {
            all.extend(call_events(place, item));
        }
    }
    let kind = if reply.is_cut {
        "response.incomplete"
    } else {
        "response.completed"
    };
    all.push(json!({"type": kind, "response": whole(request, reply)}));
    for (number, event) in all.iter_mut().enumerate() {
        event["sequence_number"] = json!(number);
    }
    all
}

fn text_events(place: usize, reply: &Reply, item: &Value) -> Vec<Value> {
    let of_part = |kind: &str, more: (&str, Value)| {
        let mut event = json!({"type": kind, "item_id": "msg_fluent", "output_index": place, "content_index": 0});
        event[more.0] = more.1;
        event
    };
    let mut all = vec![
        json!({"type": "response.output_item.added", "output_index": place, "item": message(&json!([]), "in_progress")}),
        of_part("response.content_part.added", ("part", part(""))),
    ];
    for piece in reply.pieces() {
        let mut event = of_part("response.output_text.delta", ("delta", json!(piece)));
        event["logprobs"] = json!([]);
        all.push(event);
    }
    let mut done = of_part("response.output_text.done", ("text", json!(reply.text)));
    done["logprobs"] = json!([]);
    all.extend([
        done,
        of_part("response.content_part.done", ("part", part(&reply.text))),
        json!({"type": "response.output_item.done", "output_index": place, "item": item}),
    ]);
    all
}

fn call_events(place: usize, item: &Value) -> Vec<Value> {
    let name = item["name"].as_str().unwrap_or_default();
    let arguments = item["arguments"].as_str().unwrap_or_default();
    let begun = call(place, name, "", "in_progress");
    let mut all =
        vec![json!({"type": "response.output_item.added", "output_index": place, "item": begun})];
    all.extend(pieces(arguments).into_iter().map(|piece| {
        json!({"type": "response.function_call_arguments.delta", "item_id": item["id"], "output_index": place, "delta": piece})
    }));
    all.extend([
        json!({"type": "response.function_call_arguments.done", "item_id": item["id"], "output_index": place,
            "name": name, "arguments": arguments}),
        json!({"type": "response.output_item.done", "output_index": place, "item": item}),
    ]);
    all
}
