//! Providers with an API of their own: Bedrock with signatures and keys, Gemini, Vertex with access tokens for a service
//! account, Ollama.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use protocol::{
    provider::{Credential, Provider},
    secret::SecretString,
    snapshot::Target,
};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde_json::{Value, json};
use testkit::scripted_provider::{API_KEY, Api, PROMPT_TOKENS, Scripted, ScriptedProvider};

use super::{ask, start, target, token};
use crate::tests::harness::{Harness, chat, completes};

const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
/// A key file as Google hands it out, of an account that is nobody's.
const KEY_FILE: &str = include_str!("../../../testdata/service-account.json");

fn vertex() -> Provider {
    Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    }
}

fn bedrock() -> Provider {
    Provider::Bedrock {
        region: "us-east-1".to_owned(),
    }
}

/// The key file of an account whose tokens this provider hands out.
pub(super) fn account(provider: &ScriptedProvider) -> Credential {
    let token_uri = provider.base_url().replace("/v1", "/token");
    let file = KEY_FILE.replace("TOKEN_URI", &token_uri);
    Credential::ServiceAccount {
        service_account: SecretString::new(file),
    }
}

/// All of them, with what lets the gateway in.
async fn each(script: Vec<Scripted>) -> Vec<(Harness, ScriptedProvider)> {
    let aws = Credential::Aws {
        access_key_id: SecretString::new("AKID".to_owned()),
        secret_access_key: SecretString::new("aws-secret".to_owned()),
        session_token: None,
        role: None,
    };
    let mut all = Vec::new();
    for (provider, api, credential) in [
        (bedrock(), Api::Bedrock, Some(aws)),
        (bedrock(), Api::Bedrock, Some(token(API_KEY))),
        (Provider::Gemini, Api::Gemini, Some(token(API_KEY))),
        (vertex(), Api::Vertex, None),
        (Provider::Ollama, Api::Ollama, Some(token(API_KEY))),
    ] {
        let scripted = ScriptedProvider::start(api, script.clone()).await;
        let credential = credential.unwrap_or_else(|| account(&scripted));
        let target = Target {
            credential: Some(credential),
            ..target("t", provider, &scripted)
        };
        all.push((start(vec![target]).await, scripted));
    }
    all
}

#[tokio::test]
async fn a_chat_is_answered_by_each() {
    for (harness, provider) in each(vec![Scripted::Text("hello there"), Scripted::Call]).await {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        let last = provider.received().pop().unwrap();
        assert_eq!(answer.status, 200, "{} {}", last.path, answer.text_body());
        assert_eq!(answer.text(), "hello there");
        let usage = &answer.json()["usage"];
        assert_eq!(
            (&usage["prompt_tokens"], &usage["completion_tokens"]),
            (&json!(PROMPT_TOKENS), &json!(2)),
            "{}",
            last.path
        );
        let message =
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]});
        let (status, answer) = ask(&harness, MESSAGES, &[], &message).await;
        let call = &answer["content"][0];
        assert_eq!(
            (status, &call["name"], &call["input"]),
            (200, &json!("weather"), &json!({"city": "Oslo"}))
        );
    }
}

#[tokio::test]
async fn a_stream_comes_from_each() {
    for (harness, provider) in each(vec![Scripted::Text("one two three")]).await {
        let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
        completes(&mut stream, "one two three").await;
        let path = provider.received().pop().unwrap().path;
        assert_eq!(
            harness.rows().await,
            [("complete".to_owned(), 200, PROMPT_TOKENS, 3)],
            "{path}"
        );
    }
}

#[tokio::test]
async fn errors_of_each_are_in_the_clients_words() {
    let script = vec![Scripted::Error(400, "too hot"), Scripted::ErrorEvent];
    for (harness, provider) in each(script).await {
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
        let error = answer.json()["error"].clone();
        assert_eq!(
            (answer.status, &error["message"], &error["type"]),
            (400, &json!("too hot"), &json!("invalid_request_error"))
        );
        let answer = harness.post(CHAT, Some("qd-a"), &chat("m", true)).await;
        let path = provider.received().pop().unwrap().path;
        assert!(400 < answer.status, "{path}: {}", answer.text_body());
        assert!(answer.json()["error"]["message"].is_string());
    }
}

#[tokio::test]
async fn a_model_of_anthropics_is_asked_at_vertex() {
    let provider = ScriptedProvider::start(Api::Vertex, vec![Scripted::Text("hello there")]).await;
    let claude = Target {
        credential: Some(account(&provider)),
        model: "claude-sonnet-4-5@20250929".to_owned(),
        ..target("t", vertex(), &provider)
    };
    let harness = start(vec![claude]).await;
    let message = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "x": 1});
    let (status, answer) = ask(&harness, MESSAGES, &[], &message).await;
    assert_eq!(
        (status, &answer["content"][0]["text"]),
        (200, &json!("hello there")),
        "{answer}"
    );
    let received = provider.received().pop().unwrap();
    assert!(
        received
            .path
            .ends_with("/publishers/anthropic/models/claude-sonnet-4-5%4020250929:rawPredict")
    );
    assert_eq!(received.body["x"], 1);
    let mut stream = harness.stream(CHAT, Some("qd-a"), &chat("m", true)).await;
    completes(&mut stream, "hello there").await;
}

#[tokio::test]
async fn one_access_token_serves_all_requests_and_the_next_table() {
    let provider = ScriptedProvider::start(Api::Vertex, vec![Scripted::Text("hello")]).await;
    let target = Target {
        credential: Some(account(&provider)),
        ..target("t", vertex(), &provider)
    };
    let harness = start(vec![target.clone()]).await;
    let body = chat("m", false);
    let both = futures::join!(
        harness.post(CHAT, Some("qd-a"), &body),
        harness.post(CHAT, Some("qd-a"), &body)
    );
    assert_eq!((both.0.status, both.1.status), (200, 200));
    let (routes, keys) = (
        vec![crate::tests::harness::route("m", vec![target])],
        vec![crate::tests::harness::key("a")],
    );
    harness.apply(routes, keys);
    assert_eq!(harness.post(CHAT, Some("qd-a"), &body).await.status, 200);
    let received = provider.received();
    let exchanges = received.iter().filter(|request| request.path == "/token");
    assert_eq!((exchanges.count(), received.len()), (1, 4));
}

#[tokio::test]
async fn the_claim_for_a_token_is_signed_by_the_accounts_key() {
    let provider = ScriptedProvider::start(Api::Vertex, vec![Scripted::Text("hello")]).await;
    let target = Target {
        credential: Some(account(&provider)),
        ..target("t", vertex(), &provider)
    };
    let harness = start(vec![target]).await;
    harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    let form = provider.received()[0].body.as_str().unwrap().to_owned();
    let pairs: Vec<(String, String)> = url::form_urlencoded::parse(form.as_bytes())
        .into_owned()
        .collect();
    let claim = &pairs
        .iter()
        .find(|(name, _)| name == "assertion")
        .unwrap()
        .1;
    let (signed, signature) = claim.rsplit_once('.').unwrap();
    let file: Value = serde_json::from_str(KEY_FILE).unwrap();
    let pem: String = file["private_key"]
        .as_str()
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('-'))
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(pem)
        .unwrap();
    let key = RsaKeyPair::from_pkcs8(&der).unwrap();
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public())
        .verify(
            signed.as_bytes(),
            &URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    let (_, claims) = signed.split_once('.').unwrap();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(
        (&claims["iss"], &claims["scope"]),
        (
            &json!("gateway@p.example"),
            &json!("https://www.googleapis.com/auth/cloud-platform")
        )
    );
    let lasts = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!(lasts, 3600);
}

#[tokio::test]
async fn an_account_that_is_refused_is_told_like_a_key_that_is() {
    let provider = ScriptedProvider::start(Api::OpenAi, Vec::new()).await;
    // A server that knows no tokens answers everybody with 401.
    let token_uri = provider.base_url();
    let file = KEY_FILE.replace("TOKEN_URI", &token_uri);
    let target = Target {
        credential: Some(Credential::ServiceAccount {
            service_account: SecretString::new(file),
        }),
        ..target("t", vertex(), &provider)
    };
    let harness = start(vec![target]).await;
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    assert_eq!(answer.fault(), (502, "upstream_error".to_owned()));
    assert!(
        answer
            .text_body()
            .contains("refused the gateway's credential")
    );
    assert!(
        provider
            .received()
            .iter()
            .all(|request| request.path == "/v1")
    );
}
