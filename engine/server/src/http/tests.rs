//! Claims about the HTTP surface, on a synthetic model.

mod admin;
mod admission;
mod answers;
mod embeddings;
mod errors;
pub(crate) mod fixture;
mod messages;
mod responses;
mod shapes;

use std::collections::HashSet;

use axum::http::StatusCode;
use futures::future::join_all;
use serde_json::{Value, json};

use fixture::Fixture;

fn chat(content: &str, tokens: u32) -> Value {
    json!({
        "model": "tiny", "messages": [{"role": "user", "content": content}],
        "temperature": 0, "max_tokens": tokens, "ignore_eos": true,
    })
}

fn with(mut body: Value, more: Value) -> Value {
    let (Some(body_object), Value::Object(more)) = (body.as_object_mut(), more) else {
        panic!("objects")
    };
    body_object.extend(more);
    body
}

#[tokio::test]
async fn a_chat_is_answered_in_openai_shape() {
    let fixture = Fixture::start();
    let body = with(
        chat("hello", 5),
        json!({"logprobs": true, "top_logprobs": 2}),
    );
    let answer = fixture.post_ok("/v1/chat/completions", &body).await;
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "tiny");
    assert_eq!(answer["choices"][0]["message"]["role"], "assistant");
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    let total = answer["usage"]["prompt_tokens"].as_u64().unwrap() + 5;
    assert_eq!(answer["usage"]["total_tokens"], total);
    let logprobs = answer["choices"][0]["logprobs"]["content"]
        .as_array()
        .unwrap();
    assert_eq!(logprobs.len(), 5);
    for entry in logprobs {
        let top = entry["top_logprobs"].as_array().unwrap();
        assert_eq!(top.len(), 2);
        assert_eq!(
            top[0]["logprob"], entry["logprob"],
            "greedy takes the likeliest"
        );
        assert!(top[1]["logprob"].as_f64() <= top[0]["logprob"].as_f64());
    }
}

#[tokio::test]
async fn a_stream_carries_what_the_whole_answer_has() {
    let fixture = Fixture::start();
    let whole = fixture
        .post_ok("/v1/chat/completions", &chat("stream", 12))
        .await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = fixture
        .post_stream("/v1/chat/completions", &with(chat("stream", 12), options))
        .await;
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(
        text,
        whole["choices"][0]["message"]["content"].as_str().unwrap()
    );
    let ids: HashSet<_> = chunks
        .iter()
        .map(|chunk| chunk["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 1);
    let [.., end, usage] = chunks.as_slice() else {
        panic!("too few chunks")
    };
    assert_eq!(end["choices"][0]["finish_reason"], "length");
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 12);
    let plain = fixture
        .post_stream(
            "/v1/chat/completions",
            &with(chat("stream", 2), json!({"stream": true})),
        )
        .await;
    assert!(
        !plain.concat().contains("usage"),
        "usage comes only when it is asked for"
    );
}

#[tokio::test]
async fn eight_chats_at_once_are_batched_and_answered_as_alone() {
    let fixture = Fixture::start();
    let bodies: Vec<_> = (0..8)
        .map(|index| chat(&format!("question {index} about the weather"), 24))
        .collect();
    let mut alone = Vec::new();
    for body in &bodies {
        alone.push(
            fixture.post_ok("/v1/chat/completions", body).await["choices"][0]["message"].clone(),
        );
    }
    assert_eq!(fixture.state.metrics.batch_max.get(), 1);
    let together = join_all(
        bodies
            .iter()
            .map(|body| fixture.post_ok("/v1/chat/completions", body)),
    )
    .await;
    for (together, alone) in together.iter().zip(&alone) {
        assert_eq!(&together["choices"][0]["message"], alone);
    }
    assert!(
        1 < fixture.state.metrics.batch_max.get(),
        "nothing was batched"
    );
    let metrics = fixture.get("/metrics").await.1;
    assert!(metrics.contains("vllm:iteration_tokens_total_bucket"));
    assert!(
        metrics.contains("vllm:generation_tokens_total{model_name=\"tiny\",engine=\"0\"} 384"),
        "{metrics}"
    );
}

#[tokio::test]
async fn completions_take_texts_tokens_and_several_of_them() {
    let fixture = Fixture::start();
    let body = |prompt: Value| json!({"model": "small", "prompt": prompt, "max_tokens": 4, "temperature": 0, "ignore_eos": true});
    let text = fixture.post_ok("/v1/completions", &body(json!("ab"))).await;
    let tokens = fixture
        .post_ok("/v1/completions", &body(json!([3 + 97, 3 + 98])))
        .await;
    assert_eq!(text["choices"][0]["text"], tokens["choices"][0]["text"]);
    let several = fixture
        .post_ok("/v1/completions", &body(json!(["ab", "cd"])))
        .await;
    assert_eq!(several["choices"][0]["text"], text["choices"][0]["text"]);
    assert_eq!(several["choices"][1]["index"], 1);
    assert_eq!(several["usage"]["completion_tokens"], 8);
    let options = json!({"stream": true, "stream_options": {"include_usage": true}, "logprobs": 1});
    let events = fixture
        .post_stream("/v1/completions", &with(body(json!(["ab", "cd"])), options))
        .await;
    let chunks: Vec<Value> = events[..events.len() - 1]
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let first: String = chunks
        .iter()
        .filter(|chunk| chunk["choices"][0]["index"] == 0)
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(first, text["choices"][0]["text"].as_str().unwrap());
    assert_eq!(
        chunks.last().unwrap()["usage"]["total_tokens"],
        several["usage"]["total_tokens"]
    );
}

#[tokio::test]
async fn seeds_and_stop_strings_do_what_they_say() {
    let fixture = Fixture::start();
    let hot = |seed: i64| with(chat("dice", 16), json!({"temperature": 1.0, "seed": seed}));
    let text = async |body: Value| {
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        let choice = &answer["choices"][0];
        (
            choice["message"]["content"].as_str().unwrap().to_owned(),
            choice["finish_reason"].clone(),
        )
    };
    assert_eq!(text(hot(7)).await, text(hot(7)).await);
    assert_ne!(text(hot(7)).await.0, text(hot(8)).await.0);
    let (whole, _) = text(chat("stop", 16)).await;
    let stop: String = whole.chars().skip(4).take(2).collect();
    let expected = whole[..whole.find(&stop).unwrap()].to_owned();
    let (short, reason) = text(with(chat("stop", 16), json!({"stop": [stop]}))).await;
    assert_eq!((short, reason), (expected, json!("stop")));
}

#[tokio::test]
async fn models_and_health_say_what_is_served() {
    let fixture = Fixture::start();
    let models = fixture.get("/v1/models").await;
    let models: Value = serde_json::from_str(&models.1).unwrap();
    let names: Vec<_> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].clone())
        .collect();
    assert_eq!(names, ["tiny", "small"]);
    assert_eq!(fixture.get("/v1/models/small").await.0, StatusCode::OK);
    assert_eq!(
        fixture.get("/v1/models/huge").await.0,
        StatusCode::NOT_FOUND
    );
    assert_eq!(fixture.get("/health/ready").await.0, StatusCode::OK);
    let report: Value = serde_json::from_str(&fixture.get("/health/load").await.1).unwrap();
    assert_eq!(report["phase"], "Ready");
    assert_eq!(report["facts"]["architecture"], "llama");
}
