//! Requests that a provider answers in another API than they came in: whole, streamed, with tools, and refused.

use protocol::{
    provider::{Api as Part, Provider},
    snapshot::Target,
};
use serde_json::{Value, json};
use testkit::scripted_provider::{Api, CACHED_TOKENS, PROMPT_TOKENS, Scripted, ScriptedProvider};

use super::{ask, start, target};
use crate::tests::harness::{Harness, chat, completes};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

/// A chat with a tool.
fn chat_with_tool(stream: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    let function = json!({"name": "weather", "parameters": schema});
    json!({
        "model": "m", "stream": stream, "max_completion_tokens": 9,
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "tools": [{"type": "function", "function": function}],
    })
}

/// A message with a tool.
fn message_with_tool(stream: bool) -> Value {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}});
    json!({
        "model": "m", "stream": stream, "max_tokens": 9, "system": "be brief",
        "messages": [{"role": "user", "content": "hi"}],
        "tools": [{"name": "weather", "input_schema": schema}],
    })
}

async fn at(provider: Provider, api: Api, script: Vec<Scripted>) -> (Harness, ScriptedProvider) {
    let scripted = ScriptedProvider::start(api, script).await;
    let harness = start(vec![target("t", provider, &scripted)]).await;
    (harness, scripted)
}

/// A gateway whose model is at a plain server of OpenAI's API.
async fn at_plain(script: Vec<Scripted>) -> (Harness, ScriptedProvider) {
    let scripted = ScriptedProvider::start(Api::OpenAi, script).await;
    let plain = Target {
        apis: vec![Part::Chat, Part::Completions, Part::Embeddings],
        ..target("t", Provider::OpenAI, &scripted)
    };
    (start(vec![plain]).await, scripted)
}

#[tokio::test]
async fn a_chat_is_answered_by_anthropic() {
    let script = vec![Scripted::Text("hello there"), Scripted::Call];
    let (harness, provider) = at(Provider::Anthropic, Api::Anthropic, script).await;
    let (status, answer) = ask(&harness, CHAT, &[], &chat_with_tool(false)).await;
    assert_eq!(status, 200, "{answer}");
    let (choice, usage) = (&answer["choices"][0], &answer["usage"]);
    assert_eq!(choice["message"]["content"], "hello there");
    assert_eq!(
        (
            &answer["object"],
            &answer["model"],
            &choice["finish_reason"]
        ),
        (&json!("chat.completion"), &json!("m"), &json!("stop"))
    );
    assert_eq!(
        (
            &usage["prompt_tokens"],
            &usage["prompt_tokens_details"]["cached_tokens"]
        ),
        (&json!(PROMPT_TOKENS), &json!(CACHED_TOKENS))
    );
    let sent = provider.received().pop().unwrap().body;
    assert_eq!(
        (
            &sent["model"],
            &sent["max_tokens"],
            &sent["tools"][0]["name"]
        ),
        (&json!("real"), &json!(9), &json!("weather"))
    );

    let (_, answer) = ask(&harness, CHAT, &[], &chat_with_tool(false)).await;
    let call = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(call["arguments"].as_str().unwrap()).unwrap();
    assert_eq!(
        (&call["name"], arguments),
        (&json!("weather"), json!({"city": "Oslo"}))
    );
    assert_eq!(
        harness.rows().await,
        [
            ("complete".to_owned(), 200, PROMPT_TOKENS, 2),
            ("complete".to_owned(), 200, PROMPT_TOKENS, 1)
        ]
    );
}

#[tokio::test]
async fn a_chats_stream_comes_from_anthropic() {
    let script = vec![Scripted::Text("one two three")];
    let (harness, _provider) = at(Provider::Anthropic, Api::Anthropic, script).await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    completes(&mut stream, "one two three").await;
    let mut body = chat_with_tool(true);
    body["stream_options"] = json!({"include_usage": true});
    let mut stream = harness.stream(CHAT, Some("qd-a"), &body.to_string()).await;
    let mut usage = Value::Null;
    while let Some(data) = stream.next().await {
        let event: Value = serde_json::from_str(&data).unwrap_or_default();
        if event["choices"] == json!([]) {
            usage = event["usage"].clone();
        }
    }
    assert_eq!(usage["prompt_tokens"], PROMPT_TOKENS);
    let row = ("complete".to_owned(), 200, PROMPT_TOKENS, 3);
    assert_eq!(harness.rows().await, [row.clone(), row]);
}

#[tokio::test]
async fn a_message_is_answered_by_a_server_of_openais_api() {
    let (harness, provider) = at_plain(vec![Scripted::Text("hello"), Scripted::Call]).await;
    let (status, answer) = ask(&harness, MESSAGES, &[], &message_with_tool(false)).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        (&answer["type"], &answer["model"], &answer["stop_reason"]),
        (&json!("message"), &json!("m"), &json!("end_turn"))
    );
    assert_eq!(
        answer["content"],
        json!([{"type": "text", "text": "hello"}])
    );
    let usage = &answer["usage"];
    assert_eq!(
        (&usage["input_tokens"], &usage["cache_read_input_tokens"]),
        (&json!(PROMPT_TOKENS - CACHED_TOKENS), &json!(CACHED_TOKENS))
    );
    let sent = &provider.received()[0];
    assert_eq!(sent.path, CHAT);
    assert_eq!(sent.body["tools"][0]["function"]["name"], "weather");
    let (_, answer) = ask(&harness, MESSAGES, &[], &message_with_tool(false)).await;
    let call = &answer["content"][0];
    assert_eq!(
        (&call["type"], &call["name"], &call["input"]),
        (
            &json!("tool_use"),
            &json!("weather"),
            &json!({"city": "Oslo"})
        )
    );
}

#[tokio::test]
async fn a_messages_stream_comes_from_a_server_of_openais_api() {
    let (harness, _provider) = at_plain(vec![Scripted::Text("one two"), Scripted::Call]).await;
    for kind in ["text_delta", "input_json_delta"] {
        let body = message_with_tool(true).to_string();
        let mut stream = harness.stream(MESSAGES, Some("qd-a"), &body).await;
        let (mut kinds, mut said) = (Vec::new(), String::new());
        while let Some(data) = stream.next().await {
            let event: Value = serde_json::from_str(&data).unwrap();
            let delta = &event["delta"];
            if delta["type"] == kind {
                let piece = delta["text"].as_str().or(delta["partial_json"].as_str());
                said.push_str(piece.unwrap());
            }
            kinds.push(event["type"].as_str().unwrap().to_owned());
        }
        let ends = (kinds.first().unwrap(), kinds.last().unwrap());
        assert_eq!(
            ends,
            (&"message_start".to_owned(), &"message_stop".to_owned())
        );
        assert!(
            ["one two", "{\"city\": \"Oslo\"}"].contains(&&*said),
            "{said}"
        );
    }
    assert_eq!(
        harness.rows().await,
        [
            ("complete".to_owned(), 200, PROMPT_TOKENS, 2),
            ("complete".to_owned(), 200, PROMPT_TOKENS, 1)
        ]
    );
}

#[tokio::test]
async fn a_response_is_answered_by_a_server_of_chats_and_by_anthropic() {
    let script = || vec![Scripted::Text("one two")];
    let (plain, _at_plain) = at_plain(script()).await;
    let (claude, _at_claude) = at(Provider::Anthropic, Api::Anthropic, script()).await;
    for harness in [plain, claude] {
        let mut body = json!({"model": "m", "input": "hi", "max_output_tokens": 99});
        let (status, answer) = ask(&harness, RESPONSES, &[], &body).await;
        assert_eq!(status, 200, "{answer}");
        let message = &answer["output"][0];
        assert_eq!(
            (&answer["object"], &message["content"][0]["text"]),
            (&json!("response"), &json!("one two"))
        );
        assert_eq!(answer["usage"]["input_tokens"], PROMPT_TOKENS);
        body["stream"] = json!(true);
        let mut stream = harness
            .stream(RESPONSES, Some("qd-a"), &body.to_string())
            .await;
        let (mut said, mut last) = (String::new(), Value::Null);
        while let Some(data) = stream.next().await {
            last = serde_json::from_str(&data).unwrap();
            if last["type"] == "response.output_text.delta" {
                said.push_str(last["delta"].as_str().unwrap());
            }
        }
        assert_eq!(
            (&*said, &last["type"]),
            ("one two", &json!("response.completed"))
        );
        let row = ("complete".to_owned(), 200, PROMPT_TOKENS, 2);
        assert_eq!(harness.rows().await, [row.clone(), row]);
    }
}

#[tokio::test]
async fn errors_are_in_the_clients_words() {
    let script = vec![Scripted::Error(400, "too hot"), Scripted::Error(401, "no")];
    let (harness, _provider) = at(Provider::Anthropic, Api::Anthropic, script).await;
    let (status, answer) = ask(&harness, CHAT, &[], &chat_with_tool(false)).await;
    let error = &answer["error"];
    assert_eq!(
        (status, &error["message"], &error["type"]),
        (400, &json!("too hot"), &json!("invalid_request_error"))
    );
    let (status, answer) = ask(&harness, CHAT, &[], &chat_with_tool(false)).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (502, &json!("upstream_error"))
    );

    let (harness, _provider) = at_plain(vec![Scripted::Error(400, "too cold")]).await;
    let (status, answer) = ask(&harness, MESSAGES, &[], &message_with_tool(false)).await;
    assert_eq!(
        (status, &answer["type"], &answer["error"]["message"]),
        (400, &json!("error"), &json!("too cold"))
    );
}

#[tokio::test]
async fn what_cannot_be_said_in_the_other_api_is_refused_before_anybody_is_asked() {
    let (harness, provider) = at(Provider::Anthropic, Api::Anthropic, Vec::new()).await;
    let body = json!({"model": "m", "n": 2, "messages": [{"role": "user", "content": "hi"}]});
    let (status, answer) = ask(&harness, CHAT, &[], &body).await;
    assert_eq!(status, 400);
    assert!(
        answer["error"]["message"].as_str().unwrap().contains("`n`"),
        "{answer}"
    );
    let (status, answer) = ask(
        &harness,
        "/v1/embeddings",
        &[],
        &json!({"model": "m", "input": "x"}),
    )
    .await;
    assert_eq!(status, 400);
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("no API that could answer this"),
        "{message}"
    );
    assert!(provider.received().is_empty());
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_an_error_event_of_the_clients_api() {
    let script = vec![Scripted::Cut("one two three", 5)];
    let (harness, _provider) = at(Provider::Anthropic, Api::Anthropic, script).await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    let mut last = Value::Null;
    while let Some(data) = stream.next().await {
        last = serde_json::from_str(&data).unwrap();
    }
    assert_eq!(last["error"]["code"], "upstream_error");
    let (outcome, status, ..) = harness.rows().await.remove(0);
    assert_eq!((&*outcome, status), ("failed", 502));
}

#[tokio::test]
async fn another_provider_answers_what_the_first_could_not() {
    let overloaded = vec![Scripted::Error(529, "overloaded")];
    let overloaded = ScriptedProvider::start(Api::Anthropic, overloaded).await;
    let failing = ScriptedProvider::start(Api::Anthropic, vec![Scripted::ErrorEvent]).await;
    let good = ScriptedProvider::start(Api::Azure, vec![Scripted::Text("hello there")]).await;
    let azure = Provider::AzureOpenAI {
        api_version: Some("2024-10-21".to_owned()),
    };
    let harness = start(vec![
        target("one", Provider::Anthropic, &overloaded),
        target("two", Provider::Anthropic, &failing),
        target("three", azure, &good),
    ])
    .await;
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    completes(&mut stream, "hello there").await;
    assert_eq!(
        [&overloaded, &failing, &good].map(|provider| provider.received().len()),
        [1, 1, 1]
    );
    let (_, answer) = ask(&harness, MESSAGES, &[], &message_with_tool(false)).await;
    assert_eq!(answer["content"][0]["text"], "hello there");
}
