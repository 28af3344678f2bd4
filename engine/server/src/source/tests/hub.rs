//! Claims about model hubs: one commit, the files that are needed, their digests, and a token that stays.

use std::fs;

use protocol::secret::SecretString;

use super::host::{Ask, Host, Reply};
use super::{bytes, content, digest, fetch, listed};
use crate::source::{FetchError, Fetched, SourceOptions};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &str = "{\"model_type\": \"llama\"}";

fn options(host: &Host) -> SourceOptions {
    SourceOptions {
        hub_endpoint: Some(host.url("")),
        hub_token: Some(SecretString::new("t\n".to_owned())),
        ..SourceOptions::default()
    }
}

fn git_digest(text: &str) -> String {
    let hashed = ring::digest::digest(
        &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
        format!("blob {}\0{text}", text.len()).as_bytes(),
    );
    hashed
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A line of the tree, and the rest of the tree.
fn line(path: &str, size: usize, oid: &str, lfs: Option<&str>) -> String {
    let lfs = lfs.map_or_else(String::new, |oid| {
        format!(r#", "lfs": {{"oid": "{oid}", "size": {size}, "pointerSize": 130}}"#)
    });
    format!(r#"{{"type": "file", "path": "{path}", "size": {size}, "oid": "{oid}"{lfs}}}"#)
}

/// A hub with one repository in two pages; weights lie on another host.
fn hub(ask: &Ask, elsewhere: &str, extra: &str) -> Reply {
    if ask.header("authorization") != "Bearer t" {
        return Reply::status(401);
    }
    let folder = format!("/o/r/resolve/{COMMIT}/");
    match ask.path.as_str() {
        "/api/models/o/r/revision/main" => Reply::body(format!(r#"{{"sha": "{COMMIT}"}}"#)),
        path if path == format!("/api/models/o/r/tree/{COMMIT}")
            && ask.query.contains("cursor") =>
        {
            let weights = line(
                "model.safetensors",
                content().len(),
                "",
                Some(&digest(&content())),
            );
            Reply::body(format!("[{weights}{extra}]"))
        }
        path if path == format!("/api/models/o/r/tree/{COMMIT}") => {
            let config = line("config.json", CONFIG.len(), &git_digest(CONFIG), None);
            let readme = line("README.md", 5, &git_digest("hello"), None);
            let next = format!("<{path}?cursor=2>; rel=\"next\"");
            Reply::body(format!("[{config}, {readme}]")).with("link", &next)
        }
        path if path == format!("{folder}config.json") => Reply::body(CONFIG),
        path if path.starts_with(&folder) => Reply::status(302).with("location", elsewhere),
        _ => Reply::status(404),
    }
}

#[tokio::test]
async fn a_repository_is_fetched_at_one_commit_and_the_token_stays_at_the_hub() {
    let cache = tempfile::tempdir().unwrap();
    let other = Host::start(|ask, before| {
        let reply = Reply::file(ask, &content(), "\"x\"");
        if before == 0 {
            reply.cut_after(600_000)
        } else {
            reply
        }
    })
    .await;
    let place = other.url("blob?signature=1");
    let host = Host::start(move |ask, _| hub(ask, &place, "")).await;
    let fetched = fetch("hf://o/r", cache.path(), &options(&host))
        .await
        .unwrap();
    let Fetched::Folder(folder) = &fetched else {
        panic!("{fetched:?}")
    };
    assert_eq!(listed(folder), ["config.json", "model.safetensors"]);
    assert_eq!(
        fs::read(folder.join("model.safetensors")).unwrap(),
        content()
    );
    let asks = other.asks();
    assert_eq!(asks.len(), 2);
    assert!(
        asks.iter()
            .all(|ask| ask.header("authorization").is_empty())
    );
    assert!(0 < asks[1].start(), "the rest only");
    // The cache answers without the hub.
    let gone = SourceOptions::default();
    assert_eq!(
        fetch("hf://o/r", cache.path(), &gone).await.unwrap(),
        fetched
    );
}

#[tokio::test]
async fn a_file_is_checked_against_the_digest_that_the_hub_names() {
    for (named, is_good) in [(digest(&content()), true), (digest(b"other"), false)] {
        let cache = tempfile::tempdir().unwrap();
        let other = Host::with(content()).await;
        let place = other.url("blob");
        let host = Host::start(move |ask, _| {
            assert_eq!(ask.header("authorization"), "Bearer t");
            let reply = Reply::status(302).with("location", &place);
            reply.with("x-linked-etag", &format!("\"{named}\""))
        })
        .await;
        let got = bytes("hf://o/r@v1/m.gguf", cache.path(), &options(&host)).await;
        assert_eq!(host.paths(), ["/o/r/resolve/v1/m.gguf"]);
        match got {
            Ok(got) => assert!(is_good && got == content()),
            Err(error) => assert!(!is_good && matches!(error, FetchError::DigestMismatch { .. })),
        }
    }
}

#[tokio::test]
async fn a_hostile_list_is_refused() {
    let hostile = [
        line("../../evil.safetensors", 1, "", None),
        line("/etc/evil.safetensors", 1, "", None),
        line("a\\\\b.safetensors", 1, "", None),
        line("x.safetensors", 1, "", Some("nonsense")),
        "7".to_owned(),
    ];
    for extra in hostile {
        let cache = tempfile::tempdir().unwrap();
        let extra = format!(", {extra}");
        let host = Host::start(move |ask, _| hub(ask, "http://127.0.0.1:9/", &extra)).await;
        let error = fetch("hf://o/r", cache.path(), &options(&host))
            .await
            .unwrap_err();
        let is_refused = matches!(error, FetchError::Broken(_) | FetchError::InvalidUri { .. });
        assert!(is_refused, "{error}");
    }
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|_, _| Reply::body(vec![b' '; 17 << 20])).await;
    let error = fetch("hf://o/r", cache.path(), &options(&host))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn a_list_does_not_lead_the_token_to_another_host() {
    let cache = tempfile::tempdir().unwrap();
    let other = Host::with(Vec::new()).await;
    let place = format!("<{}>; rel=\"next\"", other.url("tree"));
    let host = Host::start(move |ask, _| match ask.path.contains("/tree/") {
        true => Reply::body("[]").with("link", &place),
        false => Reply::body(format!(r#"{{"sha": "{COMMIT}"}}"#)),
    })
    .await;
    let error = fetch("hf://o/r", cache.path(), &options(&host))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Broken(_)), "{error}");
    assert_eq!(other.requests(), 0);
}

#[tokio::test]
async fn a_token_that_is_no_header_is_said() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::with(Vec::new()).await;
    let options = SourceOptions {
        hub_token: Some(SecretString::new("t\r\nX-Evil: 1".to_owned())),
        ..options(&host)
    };
    let error = fetch("hf://o/r", cache.path(), &options).await.unwrap_err();
    assert!(matches!(error, FetchError::Setup(_)), "{error}");
    assert_eq!(host.requests(), 0);
}
