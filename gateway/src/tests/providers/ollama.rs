//! Clients of Ollama's API: every kind of backend answers them, by the rules of every request.

use protocol::{
    provider::Provider,
    snapshot::{Access, RouteEntry, Target},
};
use serde_json::{Value, json};
use testkit::scripted_provider::{Api, PROMPT_TOKENS, Scripted, ScriptedProvider};

use super::{start, target};
use crate::tests::harness::{Harness, key, route};

const CHAT: &str = "/api/chat";
const GENERATE: &str = "/api/generate";

async fn at(provider: Provider, api: Api, script: Vec<Scripted>) -> (Harness, ScriptedProvider) {
    let scripted = ScriptedProvider::start(api, script).await;
    (
        start(vec![target("t", provider, &scripted)]).await,
        scripted,
    )
}

fn chat(more: &Value) -> String {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

/// The lines of an answer, and what they say together.
fn lines(text: &str) -> (Vec<Value>, String) {
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let said = lines.iter().filter_map(|line| {
        let said = line["message"]["content"].as_str();
        said.or(line["response"].as_str())
    });
    let said = said.collect();
    (lines, said)
}

const BACKENDS: [(Provider, Api); 5] = [
    (Provider::OpenAI, Api::OpenAi),
    (Provider::Anthropic, Api::Anthropic),
    (Provider::Gemini, Api::Gemini),
    (
        Provider::Bedrock {
            region: String::new(),
        },
        Api::Bedrock,
    ),
    (Provider::Ollama, Api::Ollama),
];

#[tokio::test]
async fn a_chat_is_answered_line_by_line_by_every_kind_of_backend() {
    for (provider, api) in BACKENDS {
        let script = vec![Scripted::Text("one two three")];
        let (harness, _provider) = at(provider, api, script).await;
        let answer = harness.post(CHAT, Some("qd-a"), &chat(&json!({}))).await;
        let (lines, said) = lines(&answer.text_body());
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (200, "application/x-ndjson".to_owned()),
            "{api:?}"
        );
        assert_eq!(said, "one two three", "{api:?}");
        let last = lines.last().unwrap();
        assert_eq!(
            (
                &last["model"],
                &last["done"],
                &last["done_reason"],
                &last["prompt_eval_count"],
                &last["eval_count"]
            ),
            (
                &json!("m"),
                &json!(true),
                &json!("stop"),
                &json!(PROMPT_TOKENS),
                &json!(3)
            ),
            "{api:?}"
        );
        let row = ("complete".to_owned(), 200, PROMPT_TOKENS, 3);
        assert_eq!(harness.rows().await, [row], "{api:?}");
    }
}

#[tokio::test]
async fn a_whole_answer_and_a_call_of_a_tool_come_from_every_kind_of_backend() {
    let function = json!({"name": "weather", "parameters": {"type": "object", "properties": {}}});
    let tools = json!([{"type": "function", "function": function}]);
    for (provider, api) in BACKENDS {
        let (harness, _provider) = at(provider, api, vec![Scripted::Call]).await;
        let body = chat(&json!({"stream": false, "tools": tools}));
        let answer = harness.post(CHAT, Some("qd-a"), &body).await.json();
        let call = &answer["message"]["tool_calls"][0]["function"];
        assert_eq!(
            (&answer["done"], &call["name"], &call["arguments"]),
            (&json!(true), &json!("weather"), &json!({"city": "Oslo"})),
            "{api:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn one_prompt_is_answered_with_a_response() {
    let script = vec![Scripted::Text("one two")];
    let (harness, provider) = at(Provider::Anthropic, Api::Anthropic, script).await;
    let body = json!({"model": "m", "prompt": "hi", "system": "be brief"});
    let answer = harness
        .post(GENERATE, Some("qd-a"), &body.to_string())
        .await;
    let (told, said) = lines(&answer.text_body());
    assert_eq!((&*said, &told[0]["message"]), ("one two", &Value::Null));
    let whole = json!({"model": "m", "prompt": "hi", "stream": false});
    let whole = harness
        .post(GENERATE, Some("qd-a"), &whole.to_string())
        .await;
    let whole = whole.json();
    assert_eq!(
        (&whole["response"], &whole["done"]),
        (&json!("one two"), &json!(true))
    );
    let sent = &provider.received()[0].body;
    assert_eq!(sent["messages"][0]["role"], "user");
    assert!(sent["system"].to_string().contains("be brief"), "{sent}");
}

#[tokio::test]
async fn what_only_ollama_knows_reaches_an_ollama_server() {
    let (harness, provider) = at(Provider::Ollama, Api::Ollama, Vec::new()).await;
    let more = json!({"keep_alive": "9m", "options": {"num_ctx": 4096, "temperature": 0.5}});
    harness.post(CHAT, Some("qd-a"), &chat(&more)).await;
    let sent = &provider.received()[0].body;
    assert_eq!(
        (&sent["model"], &sent["keep_alive"], &sent["options"]),
        (&json!("real"), &more["keep_alive"], &more["options"])
    );
}

#[tokio::test]
async fn errors_are_texts() {
    let script = vec![
        Scripted::Error(400, "too hot"),
        Scripted::Cut("one two three", 4),
    ];
    let (harness, _provider) = at(Provider::OpenAI, Api::OpenAi, script).await;
    let refused = harness.post(CHAT, Some("qd-a"), &chat(&json!({}))).await;
    assert_eq!(
        (refused.status, refused.json()),
        (400, json!({"error": "too hot"}))
    );
    let cut = harness.post(CHAT, Some("qd-a"), &chat(&json!({}))).await;
    let (lines, _) = lines(&cut.text_body());
    assert!(lines.last().unwrap()["error"].is_string(), "{lines:?}");
    for (path, key, body, status) in [
        (CHAT, None, chat(&json!({})), 401),
        (CHAT, Some("qd-a"), chat(&json!({"model": "x"})), 404),
        (CHAT, Some("qd-a"), "[1]".to_owned(), 400),
        (
            GENERATE,
            Some("qd-a"),
            json!({"model": "m", "raw": true}).to_string(),
            400,
        ),
        (
            "/api/show",
            Some("qd-a"),
            json!({"model": "x"}).to_string(),
            404,
        ),
        (
            "/api/embed",
            Some("qd-a"),
            json!({"model": "m"}).to_string(),
            400,
        ),
    ] {
        let answer = harness.post(path, key, &body).await;
        assert_eq!(answer.status, status, "{path} {body}");
        assert!(answer.json()["error"].is_string(), "{path} {body}");
    }
    let wrong = harness.get(CHAT, Some("qd-a")).await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, "POST".to_owned())
    );
}

#[tokio::test]
async fn limits_hold_for_them_too() {
    let scripted = ScriptedProvider::start(Api::OpenAi, Vec::new()).await;
    let target = target("t", Provider::OpenAI, &scripted);
    let mut limited = key("a");
    let limit = json!({"limits": [{"requests": {"limit": 1, "window": "1m"}}]});
    limited.allowance = serde_json::from_value(limit).unwrap();
    let harness = Harness::start(vec![route("m", vec![target])], vec![limited]).await;
    let body = chat(&json!({"stream": false}));
    assert_eq!(harness.post(CHAT, Some("qd-a"), &body).await.status, 200);
    let over = harness.post(CHAT, Some("qd-a"), &body).await;
    assert_eq!(over.status, 429);
    assert!(over.json()["error"].is_string());
    assert!(!over.header("retry-after").is_empty());
}

#[tokio::test]
async fn models_are_listed_and_shown_to_those_who_may_use_them() {
    let other = RouteEntry {
        access: Access::Keys(vec!["ns/b".to_owned()]),
        ..route("secret", Vec::new())
    };
    let target = Target {
        provider: Provider::Anthropic,
        ..Target::default()
    };
    let routes = vec![route("m", vec![target]), other];
    let harness = Harness::start(routes, vec![key("a"), key("b")]).await;
    let names = async |key| {
        let tags = harness.get("/api/tags", Some(key)).await.json();
        let models = tags["models"].as_array().unwrap().clone();
        let names = models
            .iter()
            .map(|model| model["model"].as_str().unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(names("qd-a").await, ["m"]);
    assert_eq!(names("qd-b").await, ["m", "secret"]);
    let body = json!({"model": "m"}).to_string();
    let shown = harness.post("/api/show", Some("qd-a"), &body).await.json();
    assert_eq!(shown["capabilities"], json!(["completion"]));
    let version = harness.get("/api/version", None).await.json();
    assert!(version["version"].is_string());
}

#[tokio::test]
async fn embeddings_are_asked_for_in_both_ways() {
    let vectors = json!([{"object": "embedding", "index": 0, "embedding": [0.5, 1.0]}]);
    let list = json!({"object": "list", "data": vectors, "model": "real", "usage": {"prompt_tokens": 3, "total_tokens": 3}});
    let script = vec![Scripted::Json(list)];
    let (harness, provider) = at(Provider::OpenAI, Api::OpenAi, script).await;
    let body = json!({"model": "m", "input": ["a"], "truncate": true, "options": {"num_ctx": 9}});
    let answer = harness
        .post("/api/embed", Some("qd-a"), &body.to_string())
        .await
        .json();
    assert_eq!(
        (
            &answer["model"],
            &answer["embeddings"],
            &answer["prompt_eval_count"]
        ),
        (&json!("m"), &json!([[0.5, 1.0]]), &json!(3))
    );
    assert_eq!(
        provider.received()[0].body,
        json!({"input": ["a"], "model": "real"})
    );
    let body = json!({"model": "m", "prompt": "a"}).to_string();
    let answer = harness
        .post("/api/embeddings", Some("qd-a"), &body)
        .await
        .json();
    assert_eq!(answer, json!({"embedding": [0.5, 1.0]}));
    assert_eq!(harness.rows().await.len(), 2);

    let native = json!({"model": "real", "embeddings": [[0.5]], "prompt_eval_count": 4});
    let (harness, provider) = at(Provider::Ollama, Api::Ollama, vec![Scripted::Json(native)]).await;
    let body = json!({"model": "m", "input": "a", "truncate": true});
    let answer = harness
        .post("/api/embed", Some("qd-a"), &body.to_string())
        .await
        .json();
    assert_eq!(answer["embeddings"], json!([[0.5]]));
    let sent = provider.received().remove(0);
    assert_eq!(
        (&*sent.path, sent.body),
        (
            "/api/embed",
            json!({"model": "real", "input": "a", "truncate": true})
        )
    );
}
