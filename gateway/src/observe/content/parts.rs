//! Parts of messages, from the words of all APIs to those of the conventions. What is not known is told by its type alone.

use serde_json::{Map, Value, json};

/// A text.
pub(super) fn text(content: &str) -> Value {
    json!({"type": "text", "content": content})
}

/// Thoughts.
pub(super) fn reasoning(content: &str) -> Value {
    json!({"type": "reasoning", "content": content})
}

/// A call of a tool; arguments that are no JSON are told as they were written.
pub(super) fn call(id: &Value, name: &Value, arguments: &Value) -> Value {
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
    let arguments = arguments.as_str().map_or_else(|| arguments.clone(), read);
    json!({"type": "tool_call", "id": id, "name": name, "arguments": arguments})
}

/// What a call gave.
pub(super) fn response(id: &Value, content: &Value) -> Value {
    let response = match content {
        Value::Array(_) => Value::Array(parts(content)),
        other => other.clone(),
    };
    json!({"type": "tool_call_response", "id": id, "response": response})
}

/// The parts of a content: a text, or a list.
pub(super) fn parts(content: &Value) -> Vec<Value> {
    match content {
        Value::String(content) if !content.is_empty() => vec![text(content)],
        Value::Array(parts) => parts.iter().filter_map(part).collect(),
        _ => Vec::new(),
    }
}

/// One part of a list.
pub(super) fn part(part: &Value) -> Option<Value> {
    if let Value::String(content) = part {
        return Some(text(content));
    }
    let kind = part["type"].as_str()?;
    let content = |field: &str| part[field].as_str().unwrap_or_default();
    Some(match kind {
        "text" | "input_text" | "output_text" | "summary_text" | "reasoning_text" => {
            text(content("text"))
        }
        "refusal" => json!({"type": "refusal", "content": content("refusal")}),
        "thinking" => reasoning(content("thinking")),
        "tool_use" => call(&part["id"], &part["name"], &part["input"]),
        "tool_result" => response(&part["tool_use_id"], &part["content"]),
        "image_url" => match &part["image_url"] {
            Value::String(url) => media("image", url),
            image => media("image", image["url"].as_str().unwrap_or_default()),
        },
        "input_image" => stored("image", part, content("image_url")),
        "input_file" => stored("document", part, content("file_url")),
        "file" => stored("document", &part["file"], ""),
        "input_audio" => blob("audio", None),
        "image" => source("image", &part["source"]),
        "document" => source("document", &part["source"]),
        other => json!({"type": other}),
    })
}

/// A file that is stored at the upstream, or one that comes with the request or from the web.
fn stored(modality: &str, part: &Value, url: &str) -> Value {
    match part["file_id"].as_str() {
        Some(id) => json!({"type": "file", "modality": modality, "file_id": id}),
        None => media(modality, url),
    }
}

/// Where Anthropic's clients say that a picture or a document is.
fn source(modality: &str, source: &Value) -> Value {
    match source["type"].as_str() {
        Some("url") => media(modality, source["url"].as_str().unwrap_or_default()),
        Some("file") => json!({"type": "file", "modality": modality, "file_id": source["file_id"]}),
        Some("text") => text(source["data"].as_str().unwrap_or_default()),
        _ => blob(modality, source["media_type"].as_str()),
    }
}

/// What is at a URL, of which only what cannot be secret is told.
fn media(modality: &str, url: &str) -> Value {
    if let Some(data) = url.strip_prefix("data:") {
        let end = data.find([';', ',']).unwrap_or(0);
        return blob(modality, data.get(..end).filter(|kind| !kind.is_empty()));
    }
    let Ok(mut parsed) = url::Url::parse(url) else {
        return blob(modality, None);
    };
    parsed.set_query(None);
    parsed.set_fragment(None);
    // A URL that can have no user has none.
    let _ = parsed.set_username("");
    let _ = parsed.set_password(None);
    json!({"type": "uri", "modality": modality, "uri": parsed.as_str()})
}

/// Bytes, which are left out.
fn blob(modality: &str, mime_type: Option<&str>) -> Value {
    let mut blob = Map::new();
    blob.insert("type".to_owned(), json!("blob"));
    blob.insert("modality".to_owned(), json!(modality));
    if let Some(mime_type) = mime_type {
        blob.insert("mime_type".to_owned(), json!(mime_type));
    }
    blob.insert("content".to_owned(), json!(""));
    Value::Object(blob)
}
