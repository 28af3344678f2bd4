//! Secrets: what lets the gateway in is in no log, no metric, no error and no printed state.

use std::{
    io::{self, Write},
    sync::Arc,
};

use parking_lot::Mutex;
use protocol::provider::Provider;
use testkit::scripted_provider::{API_KEY, Api, Scripted, ScriptedProvider};
use tracing::Level;

use super::{start, target, token};
use crate::tests::harness::chat;

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
    let harness = start(vec![target("open", azure, &good), wrong]).await;
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
    for secret in [API_KEY, "other-secret", "qd-a"] {
        assert!(!seen.contains(secret), "{secret} is in {seen}");
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}
