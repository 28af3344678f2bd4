//! A Route's prompts and marks, as backends get them.

use protocol::{
    provider::{Credential, Provider},
    secret::SecretString,
    snapshot::{PromptCache, PromptMessage, PromptTemplate, Prompts, RouteEntry, Target},
};
use serde_json::{Value, json};
use testkit::scripted_provider::{API_KEY, Api, Scripted, ScriptedProvider};

use super::harness::{Harness, key, route};

const CHAT: &str = "/v1/chat/completions";

fn target(at: &ScriptedProvider, provider: Provider) -> Target {
    Target {
        name: "t".to_owned(),
        model: "real".to_owned(),
        endpoints: vec![at.base_url()],
        weight: 1,
        provider,
        credential: Some(Credential::Token(SecretString::new(API_KEY.to_owned()))),
        ..Target::default()
    }
}

fn with_prompts(target: Target) -> RouteEntry {
    let template = |name: &str, text: &str| PromptTemplate {
        name: name.to_owned(),
        messages: PromptMessage::read(text).unwrap(),
    };
    RouteEntry {
        prompts: Some(Box::new(Prompts {
            default: Some("house".to_owned()),
            templates: vec![
                template("house", "be kind"),
                template("review", "review {{what}}"),
            ],
        })),
        ..route("m", vec![target])
    }
}

fn user() -> Value {
    json!({"role": "user", "content": "hi"})
}

fn system(text: &str) -> Value {
    json!({"role": "system", "content": text})
}

#[tokio::test]
async fn a_prompt_reaches_the_backend_from_every_client() {
    let provider = ScriptedProvider::start(Api::OpenAi, Vec::new()).await;
    let routes = vec![with_prompts(target(&provider, Provider::OpenAI))];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let named = json!({
        "model": "m", "messages": [user()], "prompt_id": "review", "prompt_variables": {"what": "Rust"},
    });
    let plain = json!({"model": "m", "messages": [user()], "stream": false});
    for (path, body, expected) in [
        (CHAT, &plain, system("be kind")),
        (CHAT, &named, system("review Rust")),
        ("/api/chat", &plain, system("be kind")),
    ] {
        let answer = harness.post(path, Some("qd-a"), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text_body());
        let sent = provider.received().pop().unwrap().body;
        assert_eq!(sent["messages"], json!([expected, user()]), "{path}");
        assert_eq!(
            (&sent["prompt_id"], &sent["prompt_variables"]),
            (&Value::Null, &Value::Null)
        );
    }
    let wrong = json!({"model": "m", "messages": [user()], "prompt_id": "other"}).to_string();
    let (status, code) = harness.post(CHAT, Some("qd-a"), &wrong).await.fault();
    assert_eq!((status, &*code), (400, "invalid_request"));
    assert_eq!(provider.received().len(), 3);
}

#[tokio::test]
async fn a_request_of_ollamas_api_with_a_prompt_is_no_longer_the_original() {
    let provider = ScriptedProvider::start(Api::Ollama, Vec::new()).await;
    let routes = vec![with_prompts(target(&provider, Provider::Ollama))];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let body = json!({"model": "m", "messages": [user()], "stream": false}).to_string();
    assert_eq!(
        harness.post("/api/chat", Some("qd-a"), &body).await.status,
        200
    );
    let sent = provider.received().pop().unwrap().body;
    assert_eq!(sent["messages"], json!([system("be kind"), user()]));
}

#[tokio::test]
async fn a_route_without_prompts_passes_their_fields_on() {
    let provider = ScriptedProvider::start(Api::OpenAi, Vec::new()).await;
    let routes = vec![route("m", vec![target(&provider, Provider::OpenAI)])];
    let harness = Harness::start(routes, vec![key("a")]).await;
    let body = json!({"model": "m", "messages": [user()], "prompt_id": "x"}).to_string();
    harness.post(CHAT, Some("qd-a"), &body).await;
    assert_eq!(provider.received()[0].body["prompt_id"], "x");
}

#[tokio::test]
async fn marks_for_caches_are_put_into_messages_and_chats() {
    let mark = json!({"type": "ephemeral"});
    let provider = ScriptedProvider::start(Api::Anthropic, vec![Scripted::Text("hello")]).await;
    let marking = Target {
        prompt_cache: PromptCache::Automatic,
        ..target(&provider, Provider::Anthropic)
    };
    let harness = Harness::start(vec![route("m", vec![marking])], vec![key("a")]).await;
    let message = json!({"model": "m", "max_tokens": 9, "system": "s", "messages": [user()]});
    let chat = json!({"model": "m", "messages": [system("s"), user()]});
    for (path, body) in [("/v1/messages", message), (CHAT, chat)] {
        let answer = harness.post(path, Some("qd-a"), &body.to_string()).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text_body());
        let sent = provider.received().pop().unwrap().body;
        let last = &sent["messages"][0]["content"][0];
        assert_eq!(
            (&sent["system"][0]["cache_control"], &last["cache_control"]),
            (&mark, &mark),
            "{path}: {sent}"
        );
    }
}
