//! Secrets: what lets the gateway in is in no log, no metric, no error and no printed state.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use protocol::{
    provider::{Credential, Provider},
    secret::SecretString,
};
use testkit::scripted_provider::{API_KEY, Api, Scripted, ScriptedProvider};
use tracing::Level;

use super::{clouds::account, target, token};
use crate::tests::harness::{Harness, chat, key};

/// All that is logged, at every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn credentials_of_providers_and_keys_of_clients_are_shown_to_nobody() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let script = vec![
        Scripted::Error(500, "broken"),
        Scripted::Error(400, "wrong"),
        Scripted::Text("hello"),
    ];
    let good = ScriptedProvider::start(Api::Azure, script).await;
    let closed = ScriptedProvider::start(Api::Anthropic, Vec::new()).await;
    let azure = Provider::AzureOpenAI { api_version: None };
    let mut wrong = target("closed", Provider::Anthropic, &closed);
    wrong.credential = Some(token("other-secret"));
    wrong.apis = Vec::new();
    let bedrock = ScriptedProvider::start(Api::Bedrock, Vec::new()).await;
    let region = "elsewhere".to_owned();
    let mut signed = target("signed", Provider::Bedrock { region }, &bedrock);
    signed.credential = Some(Credential::Aws {
        access_key_id: SecretString::new("AKID-1".to_owned()),
        secret_access_key: SecretString::new("aws-secret".to_owned()),
        session_token: Some(SecretString::new("aws-session".to_owned())),
        role: None,
    });
    let google = ScriptedProvider::start(Api::Vertex, vec![Scripted::Error(500, "broken")]).await;
    let provider = Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    };
    let mut vertex = target("vertex", provider, &google);
    vertex.credential = Some(account(&google));
    let targets = vec![vertex, signed, target("open", azure, &good), wrong];
    let mut one = crate::tests::harness::route("m", targets);
    one.retries.attempts = 5;
    let harness = Harness::start(vec![one], vec![key("a")]).await;
    let mut seen = String::new();
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for stream in [false, true] {
            let answer = harness.post(path, Some("qd-a"), &chat("m", stream)).await;
            seen.push_str(&answer.text_body());
        }
    }
    seen.push_str(&harness.gateway.render_metrics());
    seen.push_str(&format!("{:?}", harness.gateway));
    let log = String::from_utf8(logged.0.lock().clone()).unwrap();
    assert!(log.contains("an upstream failed"), "{log}");
    for provider in [&good, &closed, &bedrock, &google] {
        assert!(!provider.received().is_empty());
    }
    // The middle of a line of the account's key, and the beginning of a claim.
    let private = "PRIVATE KEY";
    for secret in [
        API_KEY,
        "other-secret",
        "aws-secret",
        "aws-session",
        "AKID-1",
        private,
        "eyJhbGciOiJSUzI1NiI",
        "qd-a",
    ] {
        assert!(!seen.contains(secret), "{secret} is in {seen}");
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}
