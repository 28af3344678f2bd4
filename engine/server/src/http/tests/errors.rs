//! Claims about requests that cannot be served.

use axum::http::StatusCode;
use protocol::load::{LoadFailure, LoadPhase, LoadReport};
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::{chat, with};

/// Sends a body and compares status, code and parameter.
async fn check(fixture: &Fixture, path: &str, body: &str, expected: (u16, &str, Option<&str>)) {
    let (status, _, text) = fixture.post_text(path, body).await;
    let answer: Value = serde_json::from_str(&text).unwrap();
    let error = &answer["error"];
    let got = (
        status.as_u16(),
        error["code"].as_str().unwrap(),
        error["param"].as_str(),
    );
    assert_eq!(got, expected, "{body}: {text}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty())
    );
    assert!(error["type"].is_string());
}

/// Parameters that make a chat invalid, and the one that is named.
#[expect(clippy::too_many_lines, reason = "a table")]
fn malformed() -> Vec<(Value, &'static str)> {
    vec![
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [{"content": "no role"}]}), "messages"),
        (
            json!({"messages": [{"role": "wizard", "content": "x"}]}),
            "messages",
        ),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
            "messages",
        ),
        (json!({"temperature": "hot"}), "temperature"),
        (json!({"temperature": 2.5}), "temperature"),
        (json!({"top_p": 0}), "top_p"),
        (json!({"top_k": -5}), "top_k"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"max_tokens": -1}), "max_tokens"),
        (
            json!({"max_tokens": 4, "max_completion_tokens": 0}),
            "max_completion_tokens",
        ),
        (json!({"n": 0}), "n"),
        (json!({"n": 33}), "n"),
        (json!({"stop": vec!["a"; 17]}), "stop"),
        (json!({"stop": ""}), "stop"),
        (json!({"stop": 5}), "stop"),
        (json!({"stop": "x".repeat(1025)}), "stop"),
        (json!({"top_logprobs": 3}), "top_logprobs"),
        (
            json!({"logprobs": true, "top_logprobs": 21}),
            "top_logprobs",
        ),
        (json!({"presence_penalty": 3}), "presence_penalty"),
        (json!({"frequency_penalty": "x"}), "frequency_penalty"),
        (json!({"logit_bias": {"x": 1}}), "logit_bias"),
        (
            json!({"response_format": {"type": "xml"}}),
            "response_format",
        ),
        (
            json!({"response_format": {"type": "json_object"}, "guided_regex": "a"}),
            "guided_regex",
        ),
        (json!({"guided_regex": "("}), "guided_regex"),
        (
            json!({"structured_outputs": {"json": 5}}),
            "structured_outputs",
        ),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (
            json!({"chat_template_kwargs": {"messages": []}}),
            "chat_template_kwargs",
        ),
        (
            json!({"continue_final_message": true}),
            "continue_final_message",
        ),
        (json!({"min_tokens": 5}), "min_tokens"),
        (
            json!({"stream_options": {"include_usage": true}}),
            "stream_options",
        ),
        (json!({"prompt_logprobs": 21}), "prompt_logprobs"),
        (
            json!({"prompt_logprobs": 1, "stream": true}),
            "prompt_logprobs",
        ),
        (json!({"cache_salt": ""}), "cache_salt"),
        (json!({"repetition_penalty": 0}), "repetition_penalty"),
        (json!({"use_beam_search": true}), "use_beam_search"),
        (json!({"bad_words": ["x"]}), "bad_words"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"tool_choice": "required"}), "tool_choice"),
        (json!({"stream": "yes"}), "stream"),
    ]
}

#[tokio::test]
async fn malformed_chats_name_the_parameter() {
    let fixture = Fixture::start();
    let path = "/v1/chat/completions";
    check(&fixture, path, "", (400, "invalid_request", None)).await;
    check(&fixture, path, "[1]", (400, "invalid_request", None)).await;
    let deep = format!("{{\"messages\": {}", "[".repeat(10_000));
    check(&fixture, path, &deep, (400, "invalid_request", None)).await;
    check(
        &fixture,
        path,
        "{\"model\": \"tiny\"",
        (400, "invalid_request", None),
    )
    .await;
    for (more, parameter) in malformed() {
        let body = with(chat("hi", 4), more).to_string();
        check(
            &fixture,
            path,
            &body,
            (400, "invalid_request", Some(parameter)),
        )
        .await;
    }
}

#[tokio::test]
async fn malformed_completions_name_the_parameter() {
    let fixture = Fixture::start();
    let path = "/v1/completions";
    for (more, parameter) in [
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": ""}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [99999]}), "prompt"),
        (json!({"prompt": {"a": 1}}), "prompt"),
        (json!({"logprobs": 21}), "logprobs"),
        (json!({"echo": "yes"}), "echo"),
        (json!({"best_of": 2, "n": 3}), "best_of"),
        (json!({"best_of": 2, "stream": true}), "best_of"),
        (json!({"suffix": "x"}), "suffix"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"n": 32, "prompt": ["a", "b", "c", "d", "e"]}), "n"),
    ] {
        let body = with(json!({"model": "tiny", "prompt": "a"}), more).to_string();
        check(
            &fixture,
            path,
            &body,
            (400, "invalid_request", Some(parameter)),
        )
        .await;
    }
}

#[tokio::test]
async fn what_does_not_exist_is_said_so() {
    let fixture = Fixture::start();
    let body = with(chat("hi", 4), json!({"model": "huge"})).to_string();
    check(
        &fixture,
        "/v1/chat/completions",
        &body,
        (404, "model_not_found", Some("model")),
    )
    .await;
    check(&fixture, "/v1/images", "{}", (404, "not_found", None)).await;
    check(
        &fixture,
        "/v1/models",
        "{}",
        (405, "method_not_allowed", None),
    )
    .await;
}

#[tokio::test]
async fn a_prompt_and_an_answer_must_fit_the_context() {
    let fixture = Fixture::start();
    let path = "/v1/completions";
    let body = |prompt: usize, answer: usize| {
        json!({"model": "tiny", "prompt": "x".repeat(prompt), "max_tokens": answer, "ignore_eos": true}).to_string()
    };
    assert_eq!(
        fixture.post_text(path, &body(250, 6)).await.0,
        StatusCode::OK
    );
    let expected = (400, "context_length_exceeded", Some("prompt"));
    check(&fixture, path, &body(250, 7), expected).await;
    check(&fixture, path, &body(256, 1), expected).await;
    check(&fixture, path, &body(1 << 20, 1), expected).await;
    let chat = with(chat(&"y".repeat(300), 1), json!({"max_tokens": null})).to_string();
    check(
        &fixture,
        "/v1/chat/completions",
        &chat,
        (400, "context_length_exceeded", Some("messages")),
    )
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let fixture = Fixture::start();
    let body = "x".repeat(super::super::BODY_BYTES_MAX + 1);
    check(
        &fixture,
        "/v1/completions",
        &body,
        (413, "request_too_large", None),
    )
    .await;
}

#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let fixture = Fixture::start_with(&["--max-waiting", "0"]);
    let (status, headers, text) = fixture
        .post_text("/v1/chat/completions", &chat("hi", 4).to_string())
        .await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{text}");
    assert_eq!(headers["retry-after"], "1");
}

#[tokio::test]
async fn a_model_that_is_not_loaded_says_why() {
    let fixture = Fixture::loading();
    let (phase, reason) = (LoadPhase::Failed, Some(LoadFailure::SourceNotFound));
    let message = "the file was not found".to_owned();
    fixture.state.set_report(LoadReport {
        phase,
        reason,
        message,
        ..LoadReport::starting()
    });
    let (status, headers, text) = fixture
        .post_text("/v1/chat/completions", &chat("hi", 4).to_string())
        .await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(headers["retry-after"], "5");
    assert!(text.contains("the file was not found"), "{text}");
    assert_eq!(fixture.get("/health").await.0, StatusCode::OK);
    assert_eq!(
        fixture.get("/health/ready").await.0,
        StatusCode::SERVICE_UNAVAILABLE
    );
    let report: LoadReport = serde_json::from_str(&fixture.get("/health/load").await.1).unwrap();
    assert_eq!(report.reason, Some(LoadFailure::SourceNotFound));
}
