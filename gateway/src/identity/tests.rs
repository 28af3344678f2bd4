//! Identities against scripted token servers: what they are asked, what providers are shown, and who gets nothing.

mod amazon;
mod google;

use std::path::PathBuf;

use protocol::{
    provider::{Application, Credential, Provider, Workload},
    secret::SecretString,
    snapshot::{RouteEntry, Target},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::scripted_server::{Asked, Reply, ScriptedServer};
use url::form_urlencoded;

use super::{IdentityArgs, Own};
use crate::tests::harness::{Harness, chat, key, route};

const CHAT: &str = "/v1/chat/completions";
/// Seconds that tokens last, if a test does not say otherwise.
const LASTS: u64 = 3600;

fn secret(text: &str) -> SecretString {
    SecretString::new(text.to_owned())
}

/// The fields of a form, sorted.
fn fields(asked: &Asked) -> Vec<(String, String)> {
    let mut pairs: Vec<_> = form_urlencoded::parse(&asked.body).into_owned().collect();
    pairs.sort_unstable();
    pairs
}

/// Pairs as [`fields`] gives them.
fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = pairs.iter();
    let mut owned: Vec<_> = owned
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    owned.sort_unstable();
    owned
}

/// What a model of OpenAI's API answers.
fn hello() -> Value {
    json!({
        "id": "c", "object": "chat.completion", "created": 1, "model": "real",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hello"}}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
    })
}

/// A token as OAuth 2 answers with it.
fn granted(token: &str, seconds: u64) -> Reply {
    let body = json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds});
    Reply::json(200, &body)
}

/// Azure and its token server: the answer of the latter is given, the former lets nobody in who shows not `issued`.
async fn azure(token: impl Fn() -> Reply + Send + Sync + 'static) -> ScriptedServer {
    ScriptedServer::start(move |asked| match &*asked.path {
        "/tenant-1/oauth2/v2.0/token" => token(),
        "/openai/v1/chat/completions" if asked.header("authorization") == "Bearer issued" => {
            Reply::json(200, &hello())
        }
        _ => Reply::json(401, &json!({"error": {"message": "no"}})),
    })
    .await
}

fn target(at: &ScriptedServer, provider: Provider, credential: Credential) -> Target {
    Target {
        name: "t".to_owned(),
        model: "real".to_owned(),
        endpoints: vec![at.url("")],
        weight: 1,
        provider,
        credential: Some(credential),
        ..Target::default()
    }
}

fn application(at: &ScriptedServer) -> Credential {
    Credential::Entra(Application {
        tenant_id: "tenant-1".to_owned(),
        client_id: "client-1".to_owned(),
        client_secret: secret("hush"),
        authority: Some(at.url("/")),
    })
}

fn own_identity(workload_identity: Workload) -> Credential {
    Credential::Workload { workload_identity }
}

const AZURE: Provider = Provider::AzureOpenAI { api_version: None };

/// A gateway that is this at clouds, with one target for the model `m`.
async fn start(args: IdentityArgs, target: Target) -> Harness {
    start_as(Own::of(args), vec![route("m", vec![target])]).await
}

async fn start_as(own: Own, routes: Vec<RouteEntry>) -> Harness {
    let harness = Harness::empty().await;
    harness.gateway.lasting.identities.introduce(own);
    harness.apply(routes, vec![key("a")]);
    harness
}

/// An identity that Models of the tests' namespace may use, at the loopback interface.
fn lent() -> IdentityArgs {
    IdentityArgs {
        workload_identity_namespaces: vec!["other".to_owned(), "ns".to_owned()],
        workload_identity_hosts: vec!["127.0.0.1".to_owned()],
        ..IdentityArgs::default()
    }
}

/// A file with a token of the gateway's Pod.
fn token_file(folder: &TempDir, text: &str) -> Option<PathBuf> {
    let path = folder.path().join("token");
    std::fs::write(&path, text).unwrap();
    Some(path)
}

async fn ask(harness: &Harness) -> (u16, String) {
    let answer = harness.post(CHAT, Some("qd-a"), &chat("m", false)).await;
    (answer.status, answer.text_body())
}

#[tokio::test]
async fn an_application_of_entra_shows_its_secret_for_a_token() {
    let server = azure(|| granted("issued", LASTS)).await;
    let harness = start(
        IdentityArgs::default(),
        target(&server, AZURE, application(&server)),
    )
    .await;
    let (status, text) = ask(&harness).await;
    assert_eq!(status, 200, "{text}");
    let asked = server.asked_for("/tenant-1/oauth2/v2.0/token");
    assert_eq!(asked.len(), 1);
    assert_eq!(
        fields(&asked[0]),
        pairs(&[
            ("grant_type", "client_credentials"),
            ("client_id", "client-1"),
            ("client_secret", "hush"),
            ("scope", "https://cognitiveservices.azure.com/.default"),
        ])
    );
    let last = server.asked().pop().unwrap();
    assert_eq!(last.header("api-key"), "");
}

#[tokio::test]
async fn one_fetch_serves_all_who_wait_and_what_ends_within_two_minutes_is_fetched_anew() {
    for (seconds, expected) in [(3600, 1), (121, 1), (120, 4), (0, 4)] {
        let server = azure(move || granted("issued", seconds)).await;
        let target = target(&server, AZURE, application(&server));
        let harness = start(IdentityArgs::default(), target.clone()).await;
        let both = futures::join!(ask(&harness), ask(&harness), ask(&harness));
        assert_eq!((both.0.0, both.1.0, both.2.0), (200, 200, 200));
        let at_once = server.asked_for("/tenant-1/oauth2/v2.0/token").len();
        assert!((1..=3).contains(&at_once), "{at_once} for {seconds}");
        for _ in 0..3 {
            harness.apply(vec![route("m", vec![target.clone()])], vec![key("a")]);
            assert_eq!(ask(&harness).await.0, 200);
        }
        let fetches = server.asked_for("/tenant-1/oauth2/v2.0/token").len();
        assert_eq!(fetches - at_once + 1, expected, "for {seconds}");
    }
}

#[tokio::test]
async fn a_pod_shows_entra_the_token_that_its_file_holds_now() {
    let server = azure(|| granted("issued", 0)).await;
    let folder = tempfile::tempdir().unwrap();
    let args = IdentityArgs {
        azure_tenant_id: Some("tenant-1".to_owned()),
        azure_client_id: Some("of-the-pod".to_owned()),
        azure_federated_token_file: token_file(&folder, "first\n"),
        azure_authority_host: Some(server.url("")),
        ..lent()
    };
    let of_target = Workload {
        client_id: Some("client-2".to_owned()),
        ..Workload::default()
    };
    let harness = start(args, target(&server, AZURE, own_identity(of_target))).await;
    assert_eq!(ask(&harness).await.0, 200);
    token_file(&folder, "second\n");
    assert_eq!(ask(&harness).await.0, 200);
    let asked = server.asked_for("/tenant-1/oauth2/v2.0/token");
    let shown: Vec<_> = asked.iter().map(fields).collect();
    let expected = |token| {
        pairs(&[
            ("grant_type", "client_credentials"),
            ("client_id", "client-2"),
            ("client_assertion", token),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("scope", "https://cognitiveservices.azure.com/.default"),
        ])
    };
    assert_eq!(shown, [expected("first"), expected("second")]);
}

#[tokio::test]
async fn the_gateways_identity_is_lent_to_nobody_who_is_not_named() {
    let server = azure(|| granted("issued", LASTS)).await;
    let folder = tempfile::tempdir().unwrap();
    let full = || IdentityArgs {
        azure_tenant_id: Some("tenant-1".to_owned()),
        azure_client_id: Some("client-1".to_owned()),
        azure_federated_token_file: token_file(&folder, "pod"),
        azure_authority_host: Some(server.url("")),
        ..lent()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    for (namespaces, is_lent) in [
        (names(&[]), false),
        (names(&["n", "ns2"]), false),
        (names(&["ns"]), true),
        (names(&["*"]), true),
    ] {
        let shown = format!("{namespaces:?}");
        let args = IdentityArgs {
            workload_identity_namespaces: namespaces,
            ..full()
        };
        let before = server.asked().len();
        let target = target(&server, AZURE, own_identity(Workload::default()));
        let harness = start(args, target).await;
        let (status, text) = ask(&harness).await;
        assert_eq!(status == 200, is_lent, "{shown}: {text}");
        if !is_lent {
            assert_eq!(server.asked().len(), before, "{shown}");
            assert!(text.contains("refused the gateway's credential"), "{text}");
        }
    }
}

#[tokio::test]
async fn the_gateways_token_goes_to_hosts_of_its_cloud_only() {
    let own = Own::of(IdentityArgs {
        workload_identity_hosts: vec!["proxy.example".to_owned()],
        ..IdentityArgs::default()
    });
    let vertex = Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    };
    for (provider, url, expected) in [
        (&AZURE, "https://r.openai.azure.com", true),
        (&AZURE, "https://R.OpenAI.azure.com/openai/v1", true),
        (&AZURE, "https://r.services.ai.azure.com", true),
        (&AZURE, "http://r.openai.azure.com", false),
        (&AZURE, "https://openai.azure.com.example", false),
        (&AZURE, "https://example/.openai.azure.com", false),
        (&AZURE, "https://r.openai.azure.com@example", false),
        (&AZURE, "https://proxy.example/x", true),
        (&AZURE, "https://sub.proxy.example/x", false),
        (&AZURE, "https://aiplatform.googleapis.com/v1", false),
        (&vertex, "https://aiplatform.googleapis.com/v1", true),
        (
            &vertex,
            "https://europe-west1-aiplatform.googleapis.com/v1",
            true,
        ),
        (&vertex, "https://storage.googleapis.com/v1", false),
        (&vertex, "https://r.openai.azure.com", false),
    ] {
        let found = own.may_reach(provider, &[url.to_owned()]);
        assert_eq!(found.is_ok(), expected, "{url}: {found:?}");
    }
    let server = azure(|| granted("issued", LASTS)).await;
    let folder = tempfile::tempdir().unwrap();
    let args = IdentityArgs {
        azure_tenant_id: Some("tenant-1".to_owned()),
        azure_client_id: Some("client-1".to_owned()),
        azure_federated_token_file: token_file(&folder, "pod"),
        azure_authority_host: Some(server.url("")),
        workload_identity_hosts: Vec::new(),
        ..lent()
    };
    let harness = start(
        args,
        target(&server, AZURE, own_identity(Workload::default())),
    )
    .await;
    assert_eq!(ask(&harness).await.0, 502);
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_refusal_is_told_like_that_of_a_key_and_a_broken_server_like_that_of_a_model() {
    let refused = json!({
        "error": "invalid_client", "error_codes": [7_000_215],
        "error_description": "AADSTS7000215: Invalid client secret hush",
    });
    let cases = [
        (
            Reply::json(401, &refused),
            "refused the gateway's credential",
        ),
        (
            Reply::json(400, &refused),
            "refused the gateway's credential",
        ),
        (Reply::text(500, "hush"), "could not be reached"),
        (Reply::text(429, "hush"), "could not be reached"),
        (Reply::text(200, "<html>"), "could not be reached"),
        (
            Reply::json(200, &json!({"access_token": "a\nb", "expires_in": 9})),
            "could not be reached",
        ),
        (
            Reply::text(307, "").with("location", "http://127.0.0.1:1/"),
            "could not be reached",
        ),
        (
            Reply::text(200, &" ".repeat(65 << 10)),
            "could not be reached",
        ),
    ];
    for (reply, expected) in cases {
        let status = reply.status;
        let server = azure(move || reply.clone()).await;
        let target = target(&server, AZURE, application(&server));
        let harness = start(IdentityArgs::default(), target).await;
        let (found, text) = ask(&harness).await;
        assert_eq!(found, 502, "{status}: {text}");
        assert!(text.contains(expected), "{status}: {text}");
        assert!(!text.contains("hush"), "{text}");
        assert!(!format!("{:?}", harness.gateway).contains("hush"));
        assert!(server.asked_for("/openai/v1/chat/completions").is_empty());
    }
}

#[tokio::test]
async fn a_token_that_has_not_ended_serves_on_while_the_server_is_broken() {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let server = azure(
        move || match calls.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => granted("issued", 100),
            _ => Reply::text(500, ""),
        },
    )
    .await;
    let target = target(&server, AZURE, application(&server));
    let harness = start(IdentityArgs::default(), target).await;
    for _ in 0..4 {
        assert_eq!(ask(&harness).await.0, 200);
    }
    // The second request asked in vain, and nobody asks again for a while.
    assert_eq!(server.asked_for("/tenant-1/oauth2/v2.0/token").len(), 2);
}

#[tokio::test]
async fn one_targets_broken_credential_leaves_the_other_targets_alone() {
    let server = azure(|| granted("issued", LASTS)).await;
    let broken = Credential::ServiceAccount {
        service_account: secret(
            r#"{"private_key": "hush", "client_email": "e", "token_uri": "http://127.0.0.1/t"}"#,
        ),
    };
    let vertex = Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    };
    let good = target(&server, AZURE, application(&server));
    let bad = Target {
        name: "bad".to_owned(),
        ..target(&server, vertex, broken)
    };
    let routes = vec![route("m", vec![good]), route("n", vec![bad])];
    let harness = start_as(Own::default(), routes).await;
    assert_eq!(ask(&harness).await.0, 200);
    let answer = harness.post(CHAT, Some("qd-a"), &chat("n", false)).await;
    assert_eq!(answer.status, 502);
    assert!(!answer.text_body().contains("hush"));
}
