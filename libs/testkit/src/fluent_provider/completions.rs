//! OpenAI's completions and embeddings.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    chat,
    question::{Question, Reply, words, words_in},
};

/// What a completion asks for.
pub(super) fn question(request: &Value) -> Question {
    let prompt = match &request["prompt"] {
        Value::Array(prompts) => prompts.first().unwrap_or(&Value::Null),
        prompt => prompt,
    };
    Question {
        text: prompt.as_str().unwrap_or_default().to_owned(),
        words_max: chat::limit(request),
        ..Question::default()
    }
}

/// A whole completion.
pub(super) fn whole(request: &Value, reply: &Reply) -> Value {
    let mut body = event(request, &reply.text, Some(chat::finish_reason(reply)));
    body["usage"] = chat::usage(reply);
    body
}

/// The events of a completion, without the end.
pub(super) fn events(request: &Value, reply: &Reply) -> Vec<Value> {
    let pieces = reply.pieces();
    let mut all: Vec<Value> = pieces.map(|piece| event(request, piece, None)).collect();
    all.push(event(request, "", Some(chat::finish_reason(reply))));
    if request["stream_options"]["include_usage"] == true {
        let mut last = event(request, "", None);
        last["choices"] = json!([]);
        last["usage"] = chat::usage(reply);
        all.push(last);
    }
    all
}

fn event(request: &Value, text: &str, reason: Option<&str>) -> Value {
    let choice = json!({"index": 0, "text": text, "logprobs": null, "finish_reason": reason});
    json!({"id": "cmpl-fluent", "object": "text_completion", "created": 1_700_000_000, "model": request["model"],
        "choices": [choice]})
}

/// Embeddings of every input, as numbers or as the bytes that OpenAI's clients ask for.
pub(super) fn embeddings(request: &Value) -> Value {
    let is_tokens = |inputs: &[Value]| inputs.first().is_some_and(Value::is_number);
    let inputs: Vec<&Value> = match &request["input"] {
        Value::Array(inputs) if !is_tokens(inputs) => inputs.iter().collect(),
        input => vec![input],
    };
    let data: Vec<Value> = inputs
        .iter()
        .enumerate()
        .map(|(index, input)| {
            let length = input.as_str().map_or(0, words);
            let numbers = [
                f32::from(u16::try_from(length).unwrap_or(u16::MAX)),
                -0.5,
                0.125,
            ];
            let embedding = match request["encoding_format"].as_str() {
                Some("base64") => json!(STANDARD.encode(numbers.map(f32::to_le_bytes).concat())),
                _ => json!(numbers),
            };
            json!({"object": "embedding", "index": index, "embedding": embedding})
        })
        .collect();
    let tokens = words_in(&request["input"]);
    json!({"object": "list", "data": data, "model": request["model"],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens}})
}
