//! Whatever comes in: nothing panics, streams do not depend on how they are cut, and there is a way back.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{
    ClientApi, Translation, UpstreamApi, exchange, frame, translate_error, translate_reply,
    translate_request,
};

/// Names of fields, so that what is generated gets past the first check.
const NAMES: [&str; 64] = [
    "type",
    "role",
    "content",
    "text",
    "messages",
    "input",
    "system",
    "instructions",
    "tools",
    "tool_calls",
    "tool_choice",
    "function",
    "name",
    "arguments",
    "parameters",
    "input_schema",
    "id",
    "call_id",
    "tool_call_id",
    "tool_use_id",
    "tool_name",
    "image_url",
    "url",
    "source",
    "data",
    "media_type",
    "thinking",
    "signature",
    "reasoning",
    "effort",
    "max_tokens",
    "stop",
    "response_format",
    "format",
    "json_schema",
    "schema",
    "options",
    "images",
    "output",
    "cache_control",
    "choices",
    "message",
    "delta",
    "finish_reason",
    "usage",
    "prompt_tokens",
    "candidates",
    "parts",
    "functionCall",
    "args",
    "finishReason",
    "usageMetadata",
    "toolUse",
    "toolUseId",
    "reasoningContent",
    "stopReason",
    "content_block",
    "index",
    "partial_json",
    "done",
    "error",
    "model",
    "stream",
    "start",
];

/// Words that mean something.
const WORDS: [&str; 40] = [
    "",
    "user",
    "assistant",
    "system",
    "tool",
    "text",
    "image_url",
    "tool_use",
    "tool_result",
    "function",
    "function_call",
    "function_call_output",
    "reasoning",
    "message",
    "thinking",
    "redacted_thinking",
    "base64",
    "url",
    "auto",
    "none",
    "required",
    "any",
    "{}",
    "{\"a\":1}",
    "{\"a\":",
    "data:image/png;base64,AA==",
    "https://example.com/a.png",
    "json_schema",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block_stop",
    "message_delta",
    "message_stop",
    "text_delta",
    "input_json_delta",
    "stop",
    "tool_calls",
    "STOP",
    "high",
];

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&WORDS[..]).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        let field = (select(&NAMES[..]), inner.clone());
        prop_oneof![
            vec(inner, 0..4).prop_map(Value::from),
            vec(field, 0..7).prop_map(|fields| {
                let fields = fields.into_iter();
                let map: Map<_, _> = fields
                    .map(|(name, value)| (name.to_owned(), value))
                    .collect();
                Value::from(map)
            }),
        ]
    })
}

/// A request that has what every request must have.
fn any_request() -> impl Strategy<Value = Value> {
    (vec(any_json(), 0..4), vec(any_json(), 0..3), any_json()).prop_map(
        |(messages, tools, other)| {
            let mut request = json!({
                "model": "m", "max_tokens": 9, "messages": messages, "input": messages, "tools": tools,
            });
            if let Value::Object(other) = other {
                for (name, value) in other {
                    request[name.as_str()] = value;
                }
            }
            request
        },
    )
}

/// An event of Bedrock's.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let kinds = [
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "throttlingException",
    ];
    (select(kinds.to_vec()), any_json())
        .prop_map(|(kind, payload)| frame(&[(":event-type", kind)], payload.to_string().as_bytes()))
}

fn every_pair() -> impl Iterator<Item = (ClientApi, UpstreamApi)> {
    let pairs = |client| UpstreamApi::ALL.map(|upstream| (client, upstream));
    ClientApi::ALL.into_iter().flat_map(pairs)
}

/// What a stream gives; it must not panic.
fn run(client: ClientApi, upstream: UpstreamApi, chunks: &[Vec<u8>]) -> String {
    let mut translation = Translation::new(&exchange(client, upstream));
    let mut seen = Vec::new();
    for chunk in chunks {
        match translation.push(chunk) {
            Ok(bytes) => seen.extend_from_slice(&bytes),
            Err(error) => return String::from_utf8(seen).unwrap() + &error.to_string(),
        }
    }
    match translation.finish() {
        Ok(bytes) => seen.extend_from_slice(&bytes),
        Err(error) => return String::from_utf8(seen).unwrap() + &error.to_string(),
    }
    String::from_utf8(seen).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn no_request_panics_and_what_is_sent_is_json(request in any_request()) {
        let body = request.to_string();
        for (client, upstream) in every_pair() {
            if let Ok(body) = translate_request(&exchange(client, upstream), body.as_bytes()) {
                prop_assert!(serde_json::from_slice::<Value>(&body).is_ok());
            }
        }
    }

    #[test]
    fn no_answer_panics_and_what_is_answered_is_json(answer in any_json(), status in 400..600_u16) {
        let body = answer.to_string();
        for (client, upstream) in every_pair() {
            let exchange = exchange(client, upstream);
            if let Ok(reply) = translate_reply(&exchange, body.as_bytes()) {
                prop_assert!(serde_json::from_slice::<Value>(&reply.body).is_ok());
            }
            let error = translate_error(client, status, body.as_bytes());
            prop_assert!(serde_json::from_slice::<Value>(&error).is_ok());
        }
    }

    #[test]
    fn no_stream_panics_however_it_is_cut(
        events in vec(any_json(), 0..6),
        frames in vec(any_frame(), 0..6),
        noise in vec(any::<u8>(), 0..40),
        size in 1..200_usize,
    ) {
        let sse: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        let lines: String = events.iter().map(|event| format!("{event}\n")).collect();
        for (client, upstream) in every_pair() {
            let mut bytes = match upstream {
                UpstreamApi::Chat | UpstreamApi::Messages | UpstreamApi::Gemini => sse.clone().into_bytes(),
                UpstreamApi::Ollama => lines.clone().into_bytes(),
                UpstreamApi::Bedrock => frames.concat(),
            };
            let whole = run(client, upstream, &[bytes.clone()]);
            let chunks: Vec<Vec<u8>> = bytes.chunks(size).map(<[u8]>::to_vec).collect();
            prop_assert_eq!(&whole, &run(client, upstream, &chunks));
            bytes.extend_from_slice(&noise);
            run(client, upstream, &[bytes]);
        }
    }

    #[test]
    fn a_chat_that_went_to_messages_and_back_is_the_same(
        system in proptest::option::of("[a-z ]{1,20}"),
        turns in vec(("[a-zü\n ]{1,20}", "[a-z ]{1,20}", 0..3_usize), 1..4),
        temperature in proptest::option::of(0.0..1.0_f64),
        stop in vec("[a-z]{1,4}", 0..3),
        parallel in proptest::option::of(Just(false)),
    ) {
        let mut messages: Vec<Value> = Vec::new();
        messages.extend(system.map(|text| json!({"role": "system", "content": text})));
        for (number, (question, answer, calls)) in turns.into_iter().enumerate() {
            messages.push(json!({"role": "user", "content": question}));
            let ids: Vec<String> = (0..calls).map(|call| format!("call_{number}_{call}")).collect();
            let call = |id: &String| json!({
                "id": id, "type": "function", "function": {"name": "f", "arguments": "{\"a\":[1.50]}"},
            });
            if !ids.is_empty() {
                let calls: Vec<Value> = ids.iter().map(call).collect();
                messages.push(json!({"role": "assistant", "content": answer, "tool_calls": calls}));
                messages.extend(ids.iter().map(
                    |id| json!({"role": "tool", "content": answer, "tool_call_id": id}),
                ));
            }
            messages.push(json!({"role": "assistant", "content": answer}));
        }
        let mut chat = json!({
            "model": "smart", "messages": messages, "max_completion_tokens": 64,
            "tools": [{"type": "function", "function": {
                "name": "f", "description": "d", "parameters": {"type": "object", "properties": {}},
            }}],
            "tool_choice": "auto", "unknown": [1],
        });
        if let Some(temperature) = temperature {
            chat["temperature"] = json!(temperature);
        }
        if !stop.is_empty() {
            chat["stop"] = json!(stop);
        }
        chat["parallel_tool_calls"] = json!(parallel.unwrap_or(true));
        let to = |client, upstream, body: &[u8]| {
            let mut exchange = exchange(client, upstream);
            exchange.upstream_model = "smart".to_owned();
            translate_request(&exchange, body).unwrap()
        };
        let chat = chat.to_string();
        let there = to(ClientApi::Chat, UpstreamApi::Messages, chat.as_bytes());
        let back = to(ClientApi::Messages, UpstreamApi::Chat, &there);
        let back: Value = serde_json::from_slice(&back).unwrap();
        // The digits are compared as both are read, which may lose the last one.
        prop_assert_eq!(back, serde_json::from_str::<Value>(&chat).unwrap());
    }
}
