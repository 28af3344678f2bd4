//! Tokens of Google's: of external accounts, of persons, and of the machine.

use jiff::{Timestamp, ToSpan};
use protocol::provider::{Credential, Provider, Workload};
use serde_json::{Value, json};
use testkit::scripted_server::{Reply, ScriptedServer};

use super::{
    LASTS, ask, fields, granted, lent, own_identity, pairs, secret, start, start_as, target,
    token_file,
};
use crate::{
    identity::{IdentityArgs, Own},
    tests::harness::route,
};

const SPEAK: &str =
    "/v1/projects/-/serviceAccounts/models%40p.iam.gserviceaccount.com:generateAccessToken";
const METADATA: &str = "/computeMetadata/v1/instance/service-accounts/default/token?scopes=https://www.googleapis.com/auth/cloud-platform";
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

fn vertex() -> Provider {
    Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    }
}

/// Vertex, and all that gives tokens for it.
async fn google() -> ScriptedServer {
    ScriptedServer::start(|asked| {
        if asked.path == METADATA && asked.header("metadata-flavor") == "Google" {
            return granted("of-the-machine", LASTS);
        }
        if asked.path == "/sts" || asked.path == "/oauth" {
            return granted("first", LASTS);
        }
        if asked.path.ends_with(":generateAccessToken") {
            let end = Timestamp::now().checked_add(1.hour()).unwrap();
            let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            return Reply::json(200, &json!({"accessToken": "spoken", "expireTime": end}));
        }
        let is_let_in = asked.path.contains("/publishers/google/models/real:generateContent");
        let body = json!({
            "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
            "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 1, "totalTokenCount": 4},
        });
        match is_let_in {
            true => Reply::json(200, &body),
            false => Reply::text(404, ""),
        }
    })
    .await
}

/// What Vertex was shown last.
fn shown(server: &ScriptedServer) -> String {
    let last = server.asked().pop().unwrap();
    assert!(last.path.contains("/publishers/"), "{}", last.path);
    last.header("authorization").to_owned()
}

fn speaking_for(email: &str) -> Workload {
    Workload {
        service_account: Some(email.to_owned()),
        ..Workload::default()
    }
}

#[tokio::test]
async fn a_person_who_agreed_is_shown_for_a_token() {
    let server = google().await;
    let file = json!({
        "type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r",
        "token_uri": server.url("/oauth"),
    });
    let credential = Credential::ServiceAccount {
        service_account: secret(&file.to_string()),
    };
    let harness = start(
        IdentityArgs::default(),
        target(&server, vertex(), credential),
    )
    .await;
    let (status, text) = ask(&harness).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(
        fields(&server.asked_for("/oauth")[0]),
        pairs(&[
            ("grant_type", "refresh_token"),
            ("client_id", "c"),
            ("client_secret", "s"),
            ("refresh_token", "r"),
        ])
    );
    assert_eq!(shown(&server), "Bearer first");
}

#[tokio::test]
async fn the_metadata_service_says_what_the_machine_is() {
    let server = google().await;
    let args = IdentityArgs {
        gce_metadata_host: Some(server.host()),
        ..lent()
    };
    let plain = target(&server, vertex(), own_identity(Workload::default()));
    let harness = start(args.clone(), plain).await;
    let (status, text) = ask(&harness).await;
    assert_eq!(status, 200, "{text}");
    assert_eq!(shown(&server), "Bearer of-the-machine");

    let mut own = Own::of(args);
    own.google.accounts = server.url("");
    let other = speaking_for("models@p.iam.gserviceaccount.com");
    let target = target(&server, vertex(), own_identity(other));
    let harness = start_as(own, vec![route("m", vec![target])]).await;
    assert_eq!(ask(&harness).await.0, 200);
    assert_eq!(shown(&server), "Bearer spoken");
    let asked = server.asked_for(SPEAK).pop().unwrap();
    assert_eq!(asked.header("authorization"), "Bearer of-the-machine");
    assert_eq!(asked.json(), json!({"scope": [SCOPE], "lifetime": "3600s"}));
}

/// The form that is exchanged for an external account with this source, and what Vertex is shown then.
async fn exchange(
    source: impl Fn(&str) -> Value,
    token: &str,
    impersonates: bool,
) -> (Vec<(String, String)>, String) {
    let server = google().await;
    let folder = tempfile::tempdir().unwrap();
    let path = token_file(&folder, token).unwrap();
    let mut file = json!({
        "type": "external_account", "audience": "//iam.googleapis.com/a",
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "token_url": server.url("/sts"), "credential_source": source(path.to_str().unwrap()),
    });
    if impersonates {
        let url = server.url("/v1/projects/-/serviceAccounts/x@y:generateAccessToken");
        file["service_account_impersonation_url"] = json!(url);
    }
    let credentials = folder.path().join("credentials.json");
    std::fs::write(&credentials, file.to_string()).unwrap();
    let args = IdentityArgs {
        google_application_credentials: Some(credentials),
        ..lent()
    };
    let target = target(&server, vertex(), own_identity(Workload::default()));
    let harness = start(args, target).await;
    let (status, text) = ask(&harness).await;
    assert_eq!(status, 200, "{text}");
    (fields(&server.asked_for("/sts")[0]), shown(&server))
}

#[tokio::test]
async fn an_external_account_exchanges_the_token_of_its_file() {
    let expected = pairs(&[
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("audience", "//iam.googleapis.com/a"),
        ("scope", SCOPE),
        (
            "requested_token_type",
            "urn:ietf:params:oauth:token-type:access_token",
        ),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("subject_token", "pod-token"),
    ]);
    let text = |path: &str| json!({"file": path});
    let found = exchange(text, "pod-token\n", false).await;
    assert_eq!(found, (expected.clone(), "Bearer first".to_owned()));
    let format = json!({"type": "json", "subject_token_field_name": "t"});
    let fields = move |path: &str| json!({"file": path, "format": format});
    let found = exchange(fields, r#"{"t": "pod-token"}"#, true).await;
    assert_eq!(found, (expected, "Bearer spoken".to_owned()));
}

#[tokio::test]
async fn a_tenants_external_account_reads_no_file_of_the_gateways() {
    let server = google().await;
    let folder = tempfile::tempdir().unwrap();
    let path = token_file(&folder, "pod-token").unwrap();
    let file = json!({
        "type": "external_account", "audience": "a", "subject_token_type": "t",
        "token_url": server.url("/sts"), "credential_source": {"file": path},
    });
    let credential = Credential::ServiceAccount {
        service_account: secret(&file.to_string()),
    };
    let harness = start(lent(), target(&server, vertex(), credential)).await;
    assert_eq!(ask(&harness).await.0, 502);
    assert!(server.asked().is_empty());
}
