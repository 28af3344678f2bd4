//! Requests of chats, messages, responses and completions, in the words of the conventions.

use serde_json::{Map, Value, json};

use super::{
    Said,
    parts::{call, part, parts, reasoning, response, text},
};
use crate::call::Operation;

/// What a request says.
pub(super) fn said(operation: Operation, body: &Value) -> Said {
    let system = match operation {
        Operation::Message => parts(&body["system"]),
        Operation::Response => parts(&body["instructions"]),
        // Clients of chats give instructions among the messages.
        _ => Vec::new(),
    };
    let messages = match operation {
        Operation::Response => input(&body["input"]),
        Operation::Completion => prompts(&body["prompt"]),
        _ => list(&body["messages"]).iter().map(message).collect(),
    };
    Said {
        system,
        messages,
        tools: list(&body["tools"]).iter().map(tool).collect(),
    }
}

/// The entries of a list; none of anything else.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A message of a chat, or of Anthropic's API.
fn message(message: &Value) -> Value {
    let role = message["role"].as_str().unwrap_or("user");
    if role == "tool" {
        let given = response(&message["tool_call_id"], &message["content"]);
        return json!({"role": role, "parts": [given]});
    }
    json!({"role": role, "parts": parts_of_message(message)})
}

/// What a message of a chat holds, also one that a model has answered with.
pub(super) fn parts_of_message(message: &Value) -> Vec<Value> {
    let mut thoughts = ["reasoning_content", "reasoning"].into_iter();
    let thoughts = thoughts.find_map(|field| message[field].as_str());
    let mut all: Vec<Value> = thoughts.map(reasoning).into_iter().collect();
    all.extend(parts(&message["content"]));
    if let Some(refusal) = message["refusal"].as_str() {
        all.push(json!({"type": "refusal", "content": refusal}));
    }
    let calls = list(&message["tool_calls"]).iter();
    all.extend(calls.map(|made| {
        let function = &made["function"];
        call(&made["id"], &function["name"], &function["arguments"])
    }));
    all
}

/// The input of a request for a response.
fn input(input: &Value) -> Vec<Value> {
    match input {
        Value::String(content) => vec![json!({"role": "user", "parts": [text(content)]})],
        items => list(items).iter().map(item).collect(),
    }
}

fn item(item: &Value) -> Value {
    let (role, parts) = match item["type"].as_str() {
        None | Some("message") => {
            let role = item["role"].as_str().unwrap_or("user");
            (role, parts(&item["content"]))
        }
        Some("function_call_output" | "custom_tool_call_output") => {
            ("tool", vec![response(&item["call_id"], &item["output"])])
        }
        Some(_) => ("assistant", parts_of_item(item)),
    };
    json!({"role": role, "parts": parts})
}

/// What an item holds that a model has made.
pub(super) fn parts_of_item(item: &Value) -> Vec<Value> {
    match item["type"].as_str() {
        Some("message") => parts(&item["content"]),
        Some("function_call") => vec![call(&item["call_id"], &item["name"], &item["arguments"])],
        Some("custom_tool_call") => vec![call(&item["call_id"], &item["name"], &item["input"])],
        Some("reasoning") => {
            let told = list(&item["summary"]).iter().chain(list(&item["content"]));
            let told = told.filter_map(|part| part["text"].as_str());
            told.map(reasoning).collect()
        }
        _ => part(item).into_iter().collect(),
    }
}

/// The prompts of a completion; those that are given as tokens are not told.
fn prompts(prompt: &Value) -> Vec<Value> {
    let user = |content: &str| json!({"role": "user", "parts": [text(content)]});
    match prompt {
        Value::String(content) => vec![user(content)],
        prompts => list(prompts)
            .iter()
            .filter_map(Value::as_str)
            .map(user)
            .collect(),
    }
}

/// The definition of a tool. Of tools that the upstream has itself only the type is told.
fn tool(tool: &Value) -> Value {
    let kind = tool["type"].as_str().unwrap_or("function");
    let definition = match &tool["function"] {
        Value::Object(_) => &tool["function"],
        _ => tool,
    };
    let mut told = Map::new();
    told.insert("type".to_owned(), json!(kind));
    let name = definition["name"].as_str().unwrap_or(kind);
    told.insert("name".to_owned(), json!(name));
    if let Some(description) = definition["description"].as_str() {
        told.insert("description".to_owned(), json!(description));
    }
    let schemas = ["parameters", "input_schema"].into_iter();
    let schema = schemas
        .map(|field| &definition[field])
        .find(|schema| schema.is_object());
    if let Some(schema) = schema {
        told.insert("parameters".to_owned(), schema.clone());
    }
    Value::Object(told)
}
