//! Routes with patterns to targets that have many models: which model is asked there, and what is told apart by it.

use protocol::{
    provider::{Credential, Provider},
    routing::{FailureClass, Fallback},
    secret::SecretString,
    snapshot::{Affinity, Cache, Mirror, Per, RouteEntry, Target},
};
use serde_json::{Value, json};
use testkit::{
    scripted_model::{Answer, ScriptedModel},
    scripted_provider::{API_KEY, Api, Scripted, ScriptedProvider},
};

use super::{
    harness::{Harness, chat, key, route, target},
    raw::{RawUpstream, Reply, answer},
};
use crate::observe::{LiteLlm, Observers};

const CHAT: &str = "/v1/chat/completions";
const EMBEDDINGS: &str = "/v1/embeddings";

/// A route that answers a pattern.
fn matching(pattern: &str, targets: Vec<Target>) -> RouteEntry {
    RouteEntry {
        models: vec![pattern.to_owned()],
        ..route("r", targets)
    }
}

/// What the models of requests were called.
fn models(model: &ScriptedModel) -> Vec<Value> {
    let requests = model.requests();
    let names = requests
        .iter()
        .map(|request| request.json()["model"].clone());
    names.collect()
}

async fn status(harness: &Harness, model: &str) -> u16 {
    let answer = harness.post(CHAT, Some("qd-a"), &chat(model, false)).await;
    answer.status
}

#[tokio::test]
async fn what_the_star_of_a_route_stood_for_is_asked_at_the_target() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let targets = |name: &str| vec![target("own", name, &[&model])];
    let routes = vec![
        matching("openai/*", targets("*")),
        matching("fireworks/*", targets("accounts/fireworks/models/*")),
        matching("*-eu", targets("eu-*")),
        matching("gpt-4o", targets("*")),
    ];
    let harness = Harness::start(routes, vec![key("a")]).await;
    for name in ["openai/gpt-4o", "fireworks/glm-4p6", "nova-eu", "gpt-4o"] {
        assert_eq!(status(&harness, name).await, 200, "{name}");
    }
    let expected = [
        "gpt-4o",
        "accounts/fireworks/models/glm-4p6",
        "eu-nova",
        "gpt-4o",
    ];
    assert_eq!(models(&model), expected);
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_no_model_and_no_fault_of_the_targets() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let entry = matching("p/*", vec![target("own", "*", &[&model])]);
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    for name in [
        "p/..", "p/../x", "p/", "p/a?b", "p/a b", "p/a\r\nb", "p/%2e",
    ] {
        let answer = harness.post(CHAT, Some("qd-a"), &chat(name, false)).await;
        let expected = (404, "model_not_found".to_owned());
        assert_eq!(answer.fault(), expected, "{name}");
    }
    assert_eq!(status(&harness, "p/m").await, 200);
    assert_eq!(models(&model), ["m"]);
}

/// The path of a request to a provider, asked for `p/NAME` where its Model's name is `model`.
async fn check(provider: Provider, api: Api, model: &str, asked: (&str, &Value), expected: &str) {
    let scripted = ScriptedProvider::start(api, vec![Scripted::Text("hello there")]).await;
    let target = Target {
        name: "t".to_owned(),
        model: model.to_owned(),
        endpoints: vec![scripted.base_url()],
        weight: 1,
        provider,
        credential: Some(Credential::Token(SecretString::new(API_KEY.to_owned()))),
        ..Target::default()
    };
    let harness = Harness::start(vec![matching("p/*", vec![target])], vec![key("a")]).await;
    let (path, body) = asked;
    harness.post(path, Some("qd-a"), &body.to_string()).await;
    assert_eq!(scripted.received().pop().unwrap().path, expected);
}

#[tokio::test]
async fn providers_with_the_model_in_the_path_are_asked_for_it_there() {
    let message = json!([{"role": "user", "content": "hi"}]);
    let chat = |model: &str| json!({"model": model, "messages": message});
    let azure = || Provider::AzureOpenAI {
        api_version: Some("2024-10-21".to_owned()),
    };
    let bedrock = || Provider::Bedrock {
        region: "us-east-1".to_owned(),
    };
    let (plain, profile) = (chat("p/gpt-4o"), chat("p/us.x/nova-v1:0"));
    check(
        azure(),
        Api::Azure,
        "team-*",
        (CHAT, &plain),
        "/openai/deployments/team-gpt-4o/chat/completions?api-version=2024-10-21",
    )
    .await;
    check(
        bedrock(),
        Api::Bedrock,
        "*",
        (CHAT, &profile),
        "/model/us.x%2Fnova-v1%3A0/converse",
    )
    .await;
    let embedding = json!({"model": "p/amazon.titan-embed-text-v2:0", "input": "a"});
    check(
        bedrock(),
        Api::Bedrock,
        "*",
        (EMBEDDINGS, &embedding),
        "/model/amazon.titan-embed-text-v2%3A0/invoke",
    )
    .await;
    check(
        Provider::Gemini,
        Api::Gemini,
        "gemini-*",
        (CHAT, &chat("p/2.5-pro")),
        "/v1beta/models/gemini-2.5-pro:generateContent",
    )
    .await;
}

#[tokio::test]
async fn a_fallbacks_name_is_what_its_own_route_is_asked_for() {
    let failing = ScriptedModel::start(vec![Answer::Status(500)]).await;
    let backup = ScriptedModel::start(vec!["x".into()]).await;
    let copies = ScriptedModel::start(vec!["x".into()]).await;
    let first = RouteEntry {
        fallbacks: vec![Fallback {
            on: vec![FailureClass::Error],
            model: Some("backup/small".to_owned()),
        }],
        ..matching("main/*", vec![target("own", "*", &[&failing])])
    };
    let second = RouteEntry {
        name: "backup".to_owned(),
        mirror: Some(Box::new(Mirror {
            target: target("mirror", "next-*", &[&copies]),
            percent: 100,
            timeout_millis: 5_000,
        })),
        ..matching("backup/*", vec![target("own", "*", &[&backup])])
    };
    let harness = Harness::start(vec![first, second], vec![key("a")]).await;
    assert_eq!(status(&harness, "main/large").await, 200);
    assert_eq!(models(&failing)[0], "large");
    assert_eq!(models(&backup), ["small"]);
    let copied = async {
        while copies.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let limit = std::time::Duration::from_secs(20);
    tokio::time::timeout(limit, copied).await.unwrap();
    assert_eq!(models(&copies), ["next-small"]);
}

#[tokio::test]
async fn models_of_one_target_share_no_answers_and_no_rate_limit() {
    let limited = answer(
        "429 Too Many Requests",
        "retry-after: 600\r\n",
        "application/json",
        "{}",
    );
    let fine = r#"{"choices":[{"message":{"content":"x"}}]}"#;
    let fine = |text: &str| answer("200 OK", "", "application/json", &fine.replace('x', text));
    let replies = [fine("one"), fine("two"), limited, fine("three")];
    let upstream = RawUpstream::start(replies.map(Reply::Bytes).to_vec()).await;
    let target = Target {
        model: "*".to_owned(),
        ..upstream.target("own")
    };
    let entry = RouteEntry {
        cache: Some(Cache {
            ttl_millis: 60_000,
            bytes_max: 1 << 20,
            per: Per::Route,
            store: None,
        }),
        retries: protocol::snapshot::Retries {
            attempts: 0,
            backoff_millis: 1,
        },
        ..matching("p/*", vec![target])
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let ask = async |model: &str| {
        let answer = harness.post(CHAT, Some("qd-a"), &chat(model, false)).await;
        (answer.status, answer.text_body())
    };
    for (model, text) in [("p/a", "one"), ("p/b", "two"), ("p/a", "one")] {
        let (status, body) = ask(model).await;
        assert!(status == 200 && body.contains(text), "{model}: {body}");
    }
    assert_eq!(ask("p/busy").await.0, 429);
    let (status, body) = ask("p/free").await;
    assert!(status == 200 && body.contains("three"), "{body}");
}

#[tokio::test]
async fn models_of_one_target_share_no_cache_of_prompts() {
    let replicas = [
        ScriptedModel::start(vec!["x".into()]).await,
        ScriptedModel::start(vec!["x".into()]).await,
    ];
    let targets = vec![target("own", "*", &[&replicas[0], &replicas[1]])];
    let entry = RouteEntry {
        affinity: Affinity::Prefix,
        ..matching("p/*", targets)
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    let message = json!([{"role": "user", "content": "salt".repeat(1000)}]);
    let ask = async |model: &str| {
        let body = json!({"model": model, "messages": message}).to_string();
        let answer = harness.post(CHAT, Some("qd-a"), &body).await;
        assert_eq!(answer.status, 200);
        harness.idle().await;
        harness.get("/metrics", None).await.text_body()
    };
    let none = "gateway_prefix_hit_ratio_sum{route=\"ns/r\"} 0.0\n";
    assert!(ask("p/a").await.contains(none));
    assert!(ask("p/b").await.contains(none));
    assert!(!ask("p/a").await.contains(none));
}

#[tokio::test]
async fn metrics_name_the_models_that_answer_and_no_others() {
    let model = ScriptedModel::start(vec!["x".into(), Answer::Status(404)]).await;
    let entry = matching("p/*", vec![target("own", "*", &[&model])]);
    let observers = Observers {
        litellm: Some(LiteLlm::default()),
        ..Observers::default()
    };
    let harness = Harness::observed(vec![entry], vec![key("a")], observers).await;
    assert_eq!(status(&harness, "p/real").await, 200);
    assert_eq!(status(&harness, "p/invented").await, 404);
    let metrics = harness.get("/metrics", None).await.text_body();
    for name in [
        "gen_ai_request_model=\"p/*\",gen_ai_response_model=\"real\"",
        "gen_ai_request_model=\"p/*\",gen_ai_response_model=\"*\"",
        "model=\"real\"",
    ] {
        assert!(metrics.contains(name), "{name} is not in\n{metrics}");
    }
    assert!(!metrics.contains("invented"), "{metrics}");
}
