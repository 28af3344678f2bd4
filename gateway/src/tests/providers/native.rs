//! Requests that a provider answers in the API that they came in: address, credential, headers, and every byte.

use protocol::{
    provider::{Header, Provider},
    secret::SecretString,
    snapshot::{Cache, GatewaySnapshot, Per, RouteEntry, Target},
};
use serde_json::json;
use testkit::scripted_provider::{API_KEY, Api, Scripted, ScriptedProvider};

use super::{ask, start, target};
use crate::tests::harness::{Harness, chat, key, route};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";

#[tokio::test]
async fn anthropic_is_asked_with_its_key_and_the_clients_version_and_betas() {
    let provider = ScriptedProvider::start(Api::Anthropic, vec![Scripted::Text("hello")]).await;
    let harness = start(vec![target("claude", Provider::Anthropic, &provider)]).await;
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "x": 1});
    let headers = [
        ("anthropic-beta", "a-1"),
        ("anthropic-beta", "b-2"),
        ("anthropic-version", "2099-01-01"),
        ("x-private", "mine"),
    ];
    let (status, answer) = ask(&harness, MESSAGES, &headers, &body).await;
    assert_eq!(
        (status, &answer["content"][0]["text"]),
        (200, &json!("hello"))
    );
    let (status, _) = ask(&harness, MESSAGES, &[], &body).await;
    assert_eq!(status, 200);

    let received = provider.received();
    let mut sent = body.clone();
    sent["model"] = json!("real");
    assert_eq!(received[0].body, sent);
    let [first, second] = [0, 1].map(|place: usize| &received[place].headers);
    assert_eq!(first["x-api-key"], API_KEY);
    assert_eq!(first["anthropic-version"], "2099-01-01");
    let betas: Vec<_> = first.get_all("anthropic-beta").iter().collect();
    assert_eq!(betas, ["a-1", "b-2"]);
    assert_eq!(
        (first.get("authorization"), first.get("x-private")),
        (None, None)
    );
    assert_eq!(second["anthropic-version"], "2023-06-01");
    assert_eq!(
        harness.rows().await,
        [
            ("complete".to_owned(), 200, 11, 1),
            ("complete".to_owned(), 200, 11, 1)
        ]
    );
}

#[tokio::test]
async fn azure_is_asked_for_a_deployment_or_without_a_version() {
    let provider = ScriptedProvider::start(Api::Azure, vec![Scripted::Text("hello")]).await;
    let azure = |version: Option<&str>| Provider::AzureOpenAI {
        api_version: version.map(str::to_owned),
    };
    for (version, path) in [
        (
            Some("2024-10-21"),
            "/openai/deployments/real/chat/completions?api-version=2024-10-21",
        ),
        (None, "/openai/v1/chat/completions"),
    ] {
        let harness = start(vec![target("azure", azure(version), &provider)]).await;
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()));
        let last = provider.received().pop().unwrap();
        assert_eq!(last.path, path);
        assert_eq!(last.headers["api-key"], API_KEY);
        assert_eq!(last.headers.get("authorization"), None);
    }
}

#[tokio::test]
async fn a_vendor_gets_what_it_understands_and_the_models_headers() {
    let provider = ScriptedProvider::start(Api::OpenAi, vec![Scripted::Text("one two")]).await;
    let mistral = Target {
        vendor: Some("mistral".to_owned()),
        headers: vec![Header {
            name: "x-team".to_owned(),
            value: SecretString::new("blue".to_owned()),
        }],
        ..target("mistral", Provider::OpenAI, &provider)
    };
    let harness = start(vec![mistral]).await;
    let body = json!({
        "model": "m", "stream": true, "seed": 7, "max_completion_tokens": 9, "store": false, "x": 1.5,
        "messages": [{"role": "developer", "content": "be brief"}],
    });
    let mut stream = harness.stream(CHAT, Some("qd-a"), &body.to_string()).await;
    crate::tests::harness::completes(&mut stream, "one two").await;
    let received = provider.received().pop().unwrap();
    let expected = json!({
        "model": "real", "stream": true, "random_seed": 7, "max_tokens": 9, "x": 1.5,
        "messages": [{"role": "system", "content": "be brief"}],
    });
    assert_eq!(received.body, expected);
    assert_eq!(received.headers["x-team"], "blue");
    let bearer = format!("Bearer {API_KEY}");
    assert_eq!(received.headers["authorization"], bearer.as_str());
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = ScriptedProvider::start(Api::OpenAi, Vec::new()).await;
    let to = format!("{}/chat/completions", elsewhere.base_url());
    let provider = ScriptedProvider::start(Api::OpenAi, vec![Scripted::Redirect(to)]).await;
    let harness = start(vec![target("t", Provider::OpenAI, &provider)]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.status, 502);
    assert!(elsewhere.received().is_empty());
}

#[tokio::test]
async fn a_snapshot_with_a_forbidden_address_or_an_unknown_vendor_is_refused() {
    let harness = Harness::empty().await;
    let refused = |target: Target| {
        let routes = vec![route("m", vec![target])];
        let snapshot = GatewaySnapshot::new(routes, vec![key("a")]);
        harness.gateway.apply(&snapshot).unwrap_err().to_string()
    };
    let at = |url: &str| Target {
        name: "t".to_owned(),
        endpoints: vec![url.to_owned()],
        ..Target::default()
    };
    for url in [
        "http://169.254.169.254/v1",
        "http://[fd00:ec2::254]/v1",
        "http://metadata.google.internal/v1",
    ] {
        assert_eq!(
            refused(at(url)),
            format!("route ns/m: target t: no request may go to `{url}`")
        );
    }
    let unknown = Target {
        vendor: Some("nobody".to_owned()),
        ..at("https://llm.example/v1")
    };
    assert!(refused(unknown).contains("the vendor `nobody` is not known"));
}

#[tokio::test]
async fn an_answer_is_not_given_again_to_who_asks_with_other_betas() {
    let provider = ScriptedProvider::start(Api::Anthropic, vec![Scripted::Text("hello")]).await;
    let cached = RouteEntry {
        cache: Some(Cache {
            ttl_millis: 60_000,
            bytes_max: 1 << 20,
            per: Per::Route,
            store: None,
        }),
        ..route("m", vec![target("claude", Provider::Anthropic, &provider)])
    };
    let harness = Harness::start(vec![cached], vec![key("a")]).await;
    let body =
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
    let with = [("anthropic-beta", "a-1")];
    for (headers, asked) in [(&[][..], 1), (&with, 2), (&[], 2), (&with, 2)] {
        let (status, _) = ask(&harness, MESSAGES, headers, &body).await;
        assert_eq!((status, provider.received().len()), (200, asked));
    }
}
