//! Google's `generateContent`: what it asks for, and its answers, whole and in events.

use serde_json::{Value, json};

use super::question::{CACHED_TOKENS, Question, Reply};

/// What a request asks for.
pub(super) fn question(request: &Value) -> Question {
    let generation = &request["generationConfig"];
    let words_max = generation["maxOutputTokens"].as_u64();
    let schemas = ["responseJsonSchema", "responseSchema"].map(|name| generation[name].clone());
    let mut question = Question {
        words_max: words_max.and_then(|words_max| usize::try_from(words_max).ok()),
        tools: tools(request),
        schema: schemas.into_iter().find(Value::is_object),
        ..Question::default()
    };
    let contents = request["contents"].as_array();
    for content in contents.into_iter().flatten() {
        question.result = None;
        if content["role"] == "model" {
            continue;
        }
        for part in content["parts"].as_array().into_iter().flatten() {
            if let Some(text) = part["text"].as_str() {
                text.clone_into(&mut question.text);
            }
            let media = part["inlineData"]["mimeType"].as_str();
            question.images.extend(media.map(str::to_owned));
            let result = &part["functionResponse"]["response"];
            let said = result.as_object().into_iter().flatten();
            let said = said.filter_map(|(_, value)| value.as_str()).next();
            question.result = said.map(str::to_owned).or(question.result);
        }
    }
    question
}

fn tools(request: &Value) -> Vec<(String, Value)> {
    let choice = &request["toolConfig"]["functionCallingConfig"];
    if choice["mode"] == "NONE" {
        return Vec::new();
    }
    let wanted = choice["allowedFunctionNames"].as_array();
    let declared = request["tools"].as_array().into_iter().flatten();
    let declared = declared.filter_map(|tool| tool["functionDeclarations"].as_array());
    declared
        .flatten()
        .filter(|function| wanted.is_none_or(|wanted| wanted.contains(&function["name"])))
        .map(|function| {
            let schemas = [&function["parametersJsonSchema"], &function["parameters"]];
            let schema = schemas.into_iter().find(|schema| schema.is_object());
            let name = function["name"].as_str().unwrap_or_default().to_owned();
            (name, schema.cloned().unwrap_or_default())
        })
        .collect()
}

/// A whole answer.
pub(super) fn whole(reply: &Reply) -> Value {
    let calls = reply.calls.iter();
    let mut parts: Vec<Value> = calls
        .map(|(name, arguments)| json!({"functionCall": {"name": name, "args": arguments}}))
        .collect();
    if parts.is_empty() {
        parts.push(json!({"text": reply.text}));
    }
    chunk(&parts, Some(reply), reply)
}

fn chunk(parts: &[Value], ended: Option<&Reply>, reply: &Reply) -> Value {
    let mut candidate = json!({"content": {"parts": parts, "role": "model"}, "index": 0});
    let mut usage = json!({"promptTokenCount": reply.prompt_tokens, "cachedContentTokenCount": CACHED_TOKENS,
        "totalTokenCount": reply.prompt_tokens});
    if let Some(reply) = ended {
        candidate["finishReason"] = json!(if reply.is_cut { "MAX_TOKENS" } else { "STOP" });
        usage["candidatesTokenCount"] = json!(reply.tokens());
        usage["totalTokenCount"] = json!(reply.prompt_tokens + reply.tokens());
    }
    json!({"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fluent", "responseId": "fluent"})
}

/// The events of an answer.
pub(super) fn events(reply: &Reply) -> Vec<Value> {
    if !reply.calls.is_empty() {
        return vec![whole(reply)];
    }
    let pieces: Vec<&str> = reply.pieces().collect();
    let last = pieces.len();
    let pieces = pieces.into_iter().enumerate();
    pieces
        .map(|(place, piece)| {
            let ended = (place + 1 == last).then_some(reply);
            chunk(&[json!({"text": piece})], ended, reply)
        })
        .collect()
}
