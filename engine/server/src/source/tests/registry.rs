//! Claims about registries: tokens for one repository, layers as files and archives, and digests that hold.

use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::host::{Ask, Host, Reply};
use super::{content, digest, fetch, listed};
use crate::source::{FetchError, Fetched, SourceOptions};

const RAW: &str = "application/vnd.cncf.model.weight.v1.raw";
const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer: its type, its title and its bytes.
type Layer = (&'static str, Option<&'static str>, Vec<u8>);

fn manifest(layers: &[Layer]) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|(kind, title, bytes)| {
            let title = title.map_or_else(String::new, |title| {
                format!(r#", "annotations": {{"org.opencontainers.image.title": {title:?}}}"#)
            });
            let (digest, size) = (digest(bytes), bytes.len());
            format!(
                r#"{{"mediaType": "{kind}", "digest": "sha256:{digest}", "size": {size}{title}}}"#
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion": 2, "layers": [{}]}}"#,
        layers.join(", ")
    )
}

/// A registry with one artifact that wants a token of its own token service.
fn registry(ask: &Ask, layers: &[Layer]) -> Reply {
    let host = ask.header("host");
    if ask.path == "/token" {
        // `dTpw` is `u:p`.
        let is_ours = ask.header("authorization") == "Basic dTpw";
        let asks_to_pull = ask.query == "service=test&scope=repository%3Aa%2Fb%3Apull";
        return match is_ours && asks_to_pull {
            true => Reply::body(r#"{"token": "t"}"#),
            false => Reply::status(401),
        };
    }
    if ask.header("authorization") != "Bearer t" {
        let challenge =
            format!("Bearer realm=\"http://{host}/token\",service=\"test\",scope=\"x\"");
        return Reply::status(401).with("www-authenticate", &challenge);
    }
    if ask.path.starts_with("/v2/a/b/manifests/") {
        return Reply::body(manifest(layers));
    }
    let blob = layers
        .iter()
        .find(|(_, _, bytes)| ask.path == format!("/v2/a/b/blobs/sha256:{}", digest(bytes)));
    blob.map_or_else(
        || Reply::status(404),
        |(_, _, bytes)| Reply::file(ask, bytes, "\"1\"").cut_after(700_000),
    )
}

fn options(folder: &Path, host: &Host) -> SourceOptions {
    let path = folder.join("config.json");
    let config = format!(
        r#"{{"auths": {{"{}": {{"auth": "dTpw"}}}}}}"#,
        host.address()
    );
    fs::write(&path, config).unwrap();
    SourceOptions {
        registry_config: Some(path),
        ..SourceOptions::default()
    }
}

/// What becomes of an artifact with these layers.
async fn fetched(layers: Vec<Layer>) -> (Result<Fetched, FetchError>, tempfile::TempDir) {
    let (cache, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = Host::start(move |ask, _| registry(ask, &layers)).await;
    let uri = format!("oci://{}/a/b:v1", host.address());
    let fetched = fetch(&uri, cache.path(), &options(home.path(), &host)).await;
    (fetched, cache)
}

fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        // The library would refuse the names that hostile archives have.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap().finish().unwrap()
}

#[tokio::test]
async fn layers_with_titles_become_files() {
    let layers = vec![
        (
            "application/octet-stream",
            Some("config.json"),
            b"{}".to_vec(),
        ),
        (RAW, Some("model.safetensors"), content()),
        ("text/markdown", Some("README.md"), b"hello".to_vec()),
    ];
    let (fetched, _cache) = fetched(layers).await;
    let fetched = fetched.unwrap();
    assert!(matches!(fetched, Fetched::Folder(_)));
    assert_eq!(listed(fetched.path()), ["config.json", "model.safetensors"]);
    assert_eq!(
        fs::read(fetched.path().join("model.safetensors")).unwrap(),
        content()
    );
}

#[tokio::test]
async fn archives_are_unpacked_and_the_model_is_found_in_them() {
    let first = archive(&[
        ("bin/sh", b"x"),
        ("./models/config.json", b"old"),
        ("models/x.gguf", b"g"),
    ]);
    let second = archive(&[
        ("models/config.json", b"{}"),
        ("models/model.safetensors", &content()),
    ]);
    let layers = vec![(GZIP, None, first), (GZIP, Some("models"), second)];
    let (fetched, _cache) = fetched(layers).await;
    let fetched = fetched.unwrap();
    assert!(fetched.path().ends_with("models"));
    assert_eq!(listed(fetched.path()), ["config.json", "model.safetensors"]);
    assert_eq!(fs::read(fetched.path().join("config.json")).unwrap(), b"{}");
    assert_eq!(listed(fetched.path().parent().unwrap()), ["models"]);
}

#[tokio::test]
async fn what_is_hostile_in_an_artifact_is_refused() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    let mut header = tar::Header::new_ustar();
    header.set_path("model.gguf").unwrap();
    header.set_size(300 << 20);
    header.set_cksum();
    bomb.write_all(header.as_bytes()).unwrap();
    for _ in 0..300 {
        bomb.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let gguf = b"g".as_slice();
    for layer in [
        (RAW, Some("../m.gguf"), gguf.to_vec()),
        (RAW, Some("/m.gguf"), gguf.to_vec()),
        (RAW, Some("a\nb.gguf"), gguf.to_vec()),
        (GZIP, None, archive(&[("../m.gguf", gguf)])),
        (GZIP, None, archive(&[("/m.gguf", gguf)])),
        (GZIP, None, archive(&[("a/../../m.gguf", gguf)])),
        (
            GZIP,
            None,
            archive(&[("m.gguf", &content())])[..2000].to_vec(),
        ),
        (GZIP, None, b"no archive".to_vec()),
        (GZIP, None, bomb.finish().unwrap()),
    ] {
        let (kind, title) = (layer.0, layer.1);
        let (fetched, cache) = fetched(vec![layer]).await;
        let error = fetched.unwrap_err();
        assert!(
            matches!(error, FetchError::Broken(_)),
            "{kind} {title:?}: {error}"
        );
        assert!(listed(cache.path()).is_empty());
    }
}

#[tokio::test]
async fn a_manifest_that_is_not_the_one_asked_for_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let layers = vec![(RAW, Some("m.gguf"), content())];
    let good = digest(manifest(&layers).as_bytes());
    let host = Host::start(move |ask, _| registry(ask, &layers)).await;
    for (digest, is_good) in [(good, true), (digest(b"x"), false)] {
        let cache = tempfile::tempdir().unwrap();
        let uri = format!("oci://{}/a/b@sha256:{digest}", host.address());
        let got = fetch(&uri, cache.path(), &options(home.path(), &host)).await;
        assert_eq!(got.is_ok(), is_good, "{got:?}");
    }
}

#[tokio::test]
async fn without_a_user_the_registry_says_no() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, _| registry(ask, &[])).await;
    let uri = format!("oci://{}/a/b", host.address());
    let error = fetch(&uri, cache.path(), &SourceOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Unauthorized { .. }), "{error}");
}
