//! Providers: each is asked at its own address with its own credential, and nobody else sees that.

mod clouds;
mod embeddings;
mod native;
mod ollama;
mod secrets;
mod translated;

use http::Request;
use http_body_util::{BodyExt, Full};
use protocol::{
    provider::{Credential, Provider},
    secret::SecretString,
    snapshot::Target,
};
use serde_json::Value;
use testkit::scripted_provider::{API_KEY, ScriptedProvider};

use super::harness::{Harness, key, route};
use crate::upstream;

/// A target at a provider, which knows the model as `real`.
fn target(name: &str, provider: Provider, at: &ScriptedProvider) -> Target {
    Target {
        name: name.to_owned(),
        model: "real".to_owned(),
        endpoints: vec![at.base_url()],
        weight: 1,
        provider,
        credential: Some(token(API_KEY)),
        ..Target::default()
    }
}

fn token(text: &str) -> Credential {
    Credential::Token(SecretString::new(text.to_owned()))
}

/// A gateway whose model `m` is at these targets, in the order of failover.
async fn start(targets: Vec<Target>) -> Harness {
    Harness::start(vec![route("m", targets)], vec![key("a")]).await
}

/// What a client gets that sends these headers beside its key.
async fn ask(
    harness: &Harness,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> (u16, Value) {
    let mut request = Request::post(harness.url(path)).header("authorization", "Bearer qd-a");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.to_string().into())).unwrap();
    let answer = upstream::client().request(request).await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or_default())
}
