//! Answers of the surfaces beside chats: reranking, moderation, tokens, images, sounds. A word counts as a token.

use std::io;

use axum::{
    Json,
    body::{Body, Bytes},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

/// An image of one pixel.
const PIXEL: &str = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

/// The answer of a surface that says this text; `None` if the path is one of chats.
pub(crate) fn respond(
    path: &str,
    headers: &HeaderMap,
    body: &Bytes,
    text: &str,
) -> Option<Response> {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let form = Form { headers, body };
    let below = path.strip_prefix("/v1").unwrap_or(path);
    Some(match below {
        "/rerank" => Json(rerank(&request)).into_response(),
        "/moderations" => Json(moderation(&request)).into_response(),
        "/tokenize" => {
            let count = words(request["prompt"].as_str().unwrap_or_default());
            Json(json!({"count": count, "max_model_len": 4096, "tokens": (0..count).collect::<Vec<_>>()}))
                .into_response()
        }
        "/detokenize" => Json(json!({"prompt": text})).into_response(),
        "/responses/input_tokens" => {
            Json(json!({"object": "response.input_tokens", "input_tokens": 7})).into_response()
        }
        "/responses/compact" => Json(compaction(text)).into_response(),
        "/images/generations" if request["stream"] == true => images_streamed("image_generation"),
        "/images/generations" | "/images/variations" => Json(images()).into_response(),
        "/images/edits" if form.says("stream", "true") || request["stream"] == true => {
            images_streamed("image_edit")
        }
        "/images/edits" => Json(images()).into_response(),
        "/audio/speech" => speech(&request, text),
        "/audio/transcriptions" | "/audio/translations" => transcription(&form, text),
        _ => return None,
    })
}

/// A form of which single lines are looked for.
struct Form<'a> {
    headers: &'a HeaderMap,
    body: &'a Bytes,
}

impl Form<'_> {
    /// Whether a part of this name has this value.
    fn says(&self, name: &str, value: &str) -> bool {
        let kind = self.headers.get(header::CONTENT_TYPE);
        let is_form = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"multipart/form-data"));
        let text = String::from_utf8_lossy(self.body);
        is_form && text.contains(&format!("name=\"{name}\"\r\n\r\n{value}\r\n"))
    }
}

fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

fn rerank(request: &Value) -> Value {
    let documents = request["documents"].as_array().map_or(0, Vec::len);
    let results: Vec<Value> = (0..documents)
        .map(|index| json!({"index": index, "relevance_score": 0.5}))
        .collect();
    json!({"id": "rerank-1", "results": results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1, "input_tokens": 9}}})
}

fn moderation(request: &Value) -> Value {
    let names = [
        "hate",
        "hate/threatening",
        "harassment",
        "harassment/threatening",
        "illicit",
        "illicit/violent",
        "self-harm",
        "self-harm/intent",
        "self-harm/instructions",
        "sexual",
        "sexual/minors",
        "violence",
        "violence/graphic",
    ];
    let each = |value: Value| -> Value {
        let pairs = names.iter().map(|name| ((*name).to_owned(), value.clone()));
        Value::Object(pairs.collect())
    };
    json!({"id": "modr-1", "model": request["model"], "results": [{"flagged": false,
        "categories": each(json!(false)), "category_scores": each(json!(0.0)),
        "category_applied_input_types": each(json!(["text"]))}]})
}

fn compaction(text: &str) -> Value {
    json!({"id": "resp_1", "object": "response.compaction", "created_at": 0, "output": [
        {"type": "compaction", "id": "cmp_1", "encrypted_content": text}],
        "usage": {"input_tokens": 5, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 7}})
}

fn image_usage() -> Value {
    json!({"input_tokens": 3, "input_tokens_details": {"text_tokens": 3, "image_tokens": 0},
        "output_tokens": 4, "total_tokens": 7})
}

fn images() -> Value {
    json!({"created": 0, "data": [{"b64_json": PIXEL}], "usage": image_usage()})
}

/// Two images, each with an event before it is complete.
fn images_streamed(kind: &str) -> Response {
    let event = |name: &str, more: Value| {
        let mut event = json!({"type": format!("{kind}.{name}"), "b64_json": PIXEL, "created_at": 0,
            "size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "png"});
        if let (Some(event), Value::Object(more)) = (event.as_object_mut(), more) {
            event.extend(more);
        }
        named(&event)
    };
    let image = || {
        [
            event("partial_image", json!({"partial_image_index": 0})),
            event("completed", json!({"usage": image_usage()})),
        ]
    };
    events(image().into_iter().chain(image()).collect())
}

/// A text word by word, as sounds.
fn speech(request: &Value, text: &str) -> Response {
    let pieces: Vec<String> = text.split_inclusive(' ').map(str::to_owned).collect();
    if request["stream_format"] == "sse" {
        let usage = json!({"input_tokens": 2, "output_tokens": pieces.len(), "total_tokens": 2 + pieces.len()});
        let done = named(&json!({"type": "speech.audio.done", "usage": usage}));
        let deltas = pieces
            .iter()
            .map(|_| named(&json!({"type": "speech.audio.delta", "audio": "AAAA"})));
        return events(deltas.chain([done]).collect());
    }
    let chunks = stream::iter(pieces).map(|piece| Ok::<_, io::Error>(Bytes::from(piece)));
    let body = Body::from_stream(chunks);
    ([(header::CONTENT_TYPE, "audio/mpeg")], body).into_response()
}

/// The first words of a text as sounds, then the connection breaks.
pub(super) fn speech_cut(text: &str, events: usize) -> Response {
    let pieces = text.split_inclusive(' ').take(events);
    let pieces: Vec<Bytes> = pieces.map(|piece| Bytes::from(piece.to_owned())).collect();
    let broken = stream::once(async {
        // What was sent has to leave before the connection is torn down.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let body = Body::from_stream(stream::iter(pieces).map(Ok).chain(broken));
    ([(header::CONTENT_TYPE, "audio/mpeg")], body).into_response()
}

fn transcription(form: &Form<'_>, text: &str) -> Response {
    let usage = json!({"type": "tokens", "input_tokens": 8, "output_tokens": words(text), "total_tokens": 8 + words(text),
        "input_token_details": {"text_tokens": 0, "audio_tokens": 8}});
    if form.says("response_format", "text") {
        return ([(header::CONTENT_TYPE, "text/plain")], format!("{text}\n")).into_response();
    }
    if form.says("stream", "true") {
        let deltas = text
            .split_inclusive(' ')
            .map(|piece| named(&json!({"type": "transcript.text.delta", "delta": piece})));
        let done = named(&json!({"type": "transcript.text.done", "text": text, "usage": usage}));
        return events(deltas.chain([done]).collect());
    }
    Json(json!({"text": text, "usage": usage})).into_response()
}

fn named(event: &Value) -> String {
    let name = event["type"].as_str().unwrap_or_default();
    format!("event: {name}\ndata: {event}\n\n")
}

fn events(events: Vec<String>) -> Response {
    let events = stream::iter(events).map(|event| Ok::<_, io::Error>(Bytes::from(event)));
    let body = Body::from_stream(events);
    ([(header::CONTENT_TYPE, "text/event-stream")], body).into_response()
}
