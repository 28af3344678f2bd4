//! Claims about object stores: signatures that hold, lists in pages, and keys that stay where they belong.

use std::fs;

use protocol::secret::SecretString;
use ring::hmac;

use super::host::{Ask, Host, Reply};
use super::{bytes, content, digest, fetch, listed};
use crate::source::{BucketOptions, FetchError, Fetched, SourceOptions};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fn options(host: &Host, secret: &str) -> SourceOptions {
    SourceOptions {
        bucket: BucketOptions {
            endpoint: Some(host.url("")),
            region: Some("eu-test-1".to_owned()),
            access_key_id: Some("AKIDEXAMPLE".to_owned()),
            secret_access_key: Some(SecretString::new(secret.to_owned())),
            session_token: Some(SecretString::new("session".to_owned())),
        },
        ..SourceOptions::default()
    }
}

/// Checks a signature as a store does: from what came over the wire, by the specification.
fn is_signed(ask: &Ask) -> bool {
    let authorization = ask.header("authorization");
    let part = |name: &str| {
        let (_, rest) = authorization
            .split_once(&format!("{name}="))
            .unwrap_or_default();
        rest.split(',').next().unwrap_or_default().to_owned()
    };
    let (names, stamp) = (part("SignedHeaders"), ask.header("x-amz-date"));
    let headers: String = names
        .split(';')
        .map(|name| format!("{name}:{}\n", ask.header(name)))
        .collect();
    let mut query: Vec<&str> = ask
        .query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .collect();
    query.sort_unstable();
    let request = format!(
        "GET\n{}\n{}\n{headers}\n{names}\n{}",
        ask.path,
        query.join("&"),
        ask.header("x-amz-content-sha256")
    );
    let scope = format!("{}/eu-test-1/s3/aws4_request", &stamp[..8]);
    let text = format!(
        "AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}",
        digest(request.as_bytes())
    );
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for step in scope.split('/').chain([text.as_str()]) {
        let signer = hmac::Key::new(hmac::HMAC_SHA256, &key);
        key = hmac::sign(&signer, step.as_bytes()).as_ref().to_vec();
    }
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    names.contains("x-amz-security-token")
        && part("Credential") == format!("AKIDEXAMPLE/{scope}")
        && part("Signature") == hex
}

fn object(key: &str, bytes: usize) -> String {
    format!("<Contents><Key>{key}</Key><ETag>&quot;1&quot;</ETag><Size>{bytes}</Size></Contents>")
}

/// A store with a model in two pages.
fn store(ask: &Ask) -> Reply {
    if !is_signed(ask) {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>";
        return Reply::body(body).with_status(403);
    }
    let list = |inner: String| Reply::body(format!("<ListBucketResult>{inner}</ListBucketResult>"));
    match ask.path.as_str() {
        "/models" if ask.query.contains("continuation-token=next%2F1") => {
            list(object("a b/model.safetensors", content().len()))
        }
        "/models" => {
            assert!(ask.query.contains("prefix=a%20b%2F"), "{}", ask.query);
            let more = "<IsTruncated>true</IsTruncated><NextContinuationToken>next/1</NextContinuationToken>";
            list(format!(
                "{more}{}{}",
                object("a b/", 0),
                object("a b/config.json", 2)
            ))
        }
        "/models/a%20b/config.json" => Reply::file(ask, b"{}", "\"1\""),
        "/models/a%20b/model.safetensors" | "/models/m.gguf" => {
            Reply::file(ask, &content(), "\"1\"").cut_after(700_000)
        }
        _ => Reply::status(404),
    }
}

#[tokio::test]
async fn a_folder_is_listed_in_pages_and_fetched_with_signatures() {
    let (host, cache) = (
        Host::start(|ask, _| store(ask)).await,
        tempfile::tempdir().unwrap(),
    );
    let fetched = fetch("s3://models/a b", cache.path(), &options(&host, SECRET))
        .await
        .unwrap();
    let Fetched::Folder(folder) = fetched else {
        panic!("{fetched:?}")
    };
    assert_eq!(listed(&folder), ["config.json", "model.safetensors"]);
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        content()
    );
    let asks = host.asks();
    let last = asks.last().unwrap();
    assert!(0 < last.start() && last.header("if-match") == "\"1\"");
}

#[tokio::test]
async fn an_object_needs_no_right_to_list() {
    let (host, cache) = (
        Host::start(|ask, _| store(ask)).await,
        tempfile::tempdir().unwrap(),
    );
    let got = bytes("s3://models/m.gguf", cache.path(), &options(&host, SECRET)).await;
    assert_eq!(got.unwrap(), content());
    assert!(host.paths().iter().all(|path| path == "/models/m.gguf"));
}

#[tokio::test]
async fn a_wrong_key_is_said_in_the_words_of_the_store() {
    let (host, cache) = (
        Host::start(|ask, _| store(ask)).await,
        tempfile::tempdir().unwrap(),
    );
    let error = fetch("s3://models/m.gguf", cache.path(), &options(&host, "wrong"))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { .. }), "{error}");
    assert!(
        error.to_string().contains("SignatureDoesNotMatch: no"),
        "{error}"
    );
    let mut half = options(&host, SECRET);
    half.bucket.access_key_id = None;
    let error = fetch("s3://models/m.gguf", cache.path(), &half)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("AWS_ACCESS_KEY_ID"), "{error}");
}

#[tokio::test]
async fn a_signed_request_is_not_redirected() {
    let cache = tempfile::tempdir().unwrap();
    let other = Host::with(content()).await;
    let place = other.url("m.gguf");
    let host = Host::start(move |_, _| {
        let reply = Reply::status(301).with("location", &place);
        reply.with("x-amz-bucket-region", "eu-other-1")
    })
    .await;
    let error = fetch("s3://models/m.gguf", cache.path(), &options(&host, SECRET))
        .await
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("x-amz-bucket-region: eu-other-1"),
        "{error}"
    );
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_hostile_list_is_refused() {
    for key in ["a b/../../x.gguf", "a b//etc/x.gguf", "a b/x&#10;.gguf"] {
        let cache = tempfile::tempdir().unwrap();
        let body = format!("<ListBucketResult>{}</ListBucketResult>", object(key, 1));
        let host = Host::start(move |_, _| Reply::body(body.clone())).await;
        let error = fetch("s3://models/a b", cache.path(), &options(&host, SECRET))
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::Broken(_)), "{error}");
    }
}

#[tokio::test]
async fn an_object_of_another_length_than_listed_is_refused() {
    for wrong in [content().len() - 1, content().len() + 1] {
        let cache = tempfile::tempdir().unwrap();
        let host = Host::start(move |ask, _| {
            let objects = object("a b/config.json", 2) + &object("a b/model.safetensors", wrong);
            match ask.path.as_str() {
                "/models" => Reply::body(format!("<ListBucketResult>{objects}</ListBucketResult>")),
                "/models/a%20b/config.json" => Reply::file(ask, b"{}", "\"1\""),
                _ => Reply::file(ask, &content(), "\"1\""),
            }
        })
        .await;
        let error = fetch("s3://models/a b", cache.path(), &options(&host, SECRET))
            .await
            .unwrap_err();
        assert!(matches!(error, FetchError::Broken(_)), "{error}");
        assert!(error.to_string().contains("were announced"), "{error}");
        assert!(listed(cache.path()).is_empty());
    }
}
