//! Claims about sources: what is fetched, what is kept, and what happens when something breaks.

mod addresses;
mod archive;
mod bucket;
mod host;
mod hub;
mod registry;

use std::fs;
use std::path::Path;

use parking_lot::Mutex;
use protocol::load::LoadFailure;

use super::cache::Entry;
use super::digest::of_bytes as digest;
use super::{FetchError, Fetched, Phase, SourceOptions, fetch_source};
use host::{Host, Reply};

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn pinned(sha256: &str) -> SourceOptions {
    SourceOptions {
        sha256: Some(sha256.to_owned()),
        ..SourceOptions::default()
    }
}

/// Fetches without caring for progress.
async fn fetch(uri: &str, cache: &Path, options: &SourceOptions) -> Result<Fetched, FetchError> {
    fetch_source(uri, cache, options, &|_, _, _| {}).await
}

/// As [`fetch`], a file's content.
async fn bytes(uri: &str, cache: &Path, options: &SourceOptions) -> Result<Vec<u8>, FetchError> {
    let fetched = fetch(uri, cache, options).await?;
    Ok(fs::read(fetched.path()).unwrap())
}

/// The files of a folder of the cache, without the manifest.
fn listed(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    names
}

#[test]
fn a_fetch_may_run_on_any_thread() {
    fn check<T: Send>(_: T) {}
    check(async {
        let none = SourceOptions::default();
        fetch_source("", Path::new(""), &none, &|_, _, _| {}).await
    });
}

#[tokio::test]
async fn a_file_is_fetched_once_and_progress_is_told() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let told = Mutex::new(Vec::new());
    let progress = |phase, bytes, total| told.lock().push((phase, bytes, total));
    let (url, options) = (host.url("m.gguf"), pinned(&digest(&content())));
    let fetched = fetch_source(&url, cache.path(), &options, &progress)
        .await
        .unwrap();
    assert_eq!(fs::read(fetched.path()).unwrap(), content());
    assert!(fetched.path().ends_with("m.gguf"));
    let (length, total) = (content().len() as u64, Some(content().len() as u64));
    assert!(told.lock().contains(&(Phase::Downloading, length, total)));
    assert!(told.lock().contains(&(Phase::Verifying, length, total)));
    bytes(&url, cache.path(), &options).await.unwrap();
    bytes(&url, cache.path(), &SourceOptions::default())
        .await
        .unwrap();
    assert_eq!(
        host.requests(),
        1,
        "the cache answers the second and the third time"
    );
}

#[tokio::test]
async fn a_digest_in_the_address_counts() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let none = SourceOptions::default();
    let good = format!("{}#sha256={}", host.url("m.gguf"), digest(&content()));
    assert_eq!(bytes(&good, cache.path(), &none).await.unwrap(), content());
    let bad = format!("{}#sha256={}", host.url("m.gguf"), digest(b"other"));
    let error = fetch(&bad, cache.path(), &none).await.unwrap_err();
    assert!(
        matches!(error, FetchError::DigestMismatch { .. }),
        "{error}"
    );
    let error = fetch(&good, cache.path(), &pinned(&digest(b"other")))
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::InvalidUri { .. }), "{error}");
}

#[tokio::test]
async fn a_lost_connection_is_continued_where_it_broke() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, _| Reply::file(ask, &content(), "\"1\"").cut_after(400_000)).await;
    let got = bytes(&host.url("m.gguf"), cache.path(), &SourceOptions::default()).await;
    assert_eq!(got.unwrap(), content());
    let starts: Vec<usize> = host.asks().iter().map(host::Ask::start).collect();
    assert_eq!(starts[0], 0);
    assert!(starts[1..].iter().all(|start| 0 < *start), "{starts:?}");
    assert!(
        2 < starts.len() && starts.is_sorted_by(|left, right| left < right),
        "{starts:?}"
    );
}

#[tokio::test]
async fn a_fetch_that_was_given_up_is_continued_by_the_next() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, before| match before {
        0 => Reply::file(ask, &content(), "\"1\"").cut_after(500_000),
        // It ends the first fetch and leaves what it has.
        1 => Reply::status(401),
        _ => Reply::file(ask, &content(), "\"1\""),
    })
    .await;
    let none = SourceOptions::default();
    let error = bytes(&host.url("m.gguf"), cache.path(), &none)
        .await
        .unwrap_err();
    assert_eq!(error.load_failure(), LoadFailure::SourceUnauthorized);
    assert_eq!(
        bytes(&host.url("m.gguf"), cache.path(), &none)
            .await
            .unwrap(),
        content()
    );
    let asks = host.asks();
    assert_eq!(asks.len(), 3);
    assert!(0 < asks[2].start() && asks[2].header("if-range") == "\"1\"");
}

#[tokio::test]
async fn a_file_that_changes_meanwhile_is_fetched_anew() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, before| {
        let reply = Reply::file(ask, &content(), &format!("\"{before}\""));
        if before == 0 {
            reply.cut_after(700_000)
        } else {
            reply
        }
    })
    .await;
    let got = bytes(&host.url("m.gguf"), cache.path(), &SourceOptions::default()).await;
    assert_eq!(got.unwrap(), content());
}

#[tokio::test]
async fn a_wrong_digest_keeps_the_file_out_of_the_cache() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let (url, wrong) = (host.url("m.gguf"), pinned(&digest(b"something else")));
    for attempt in 1..=2 {
        let error = bytes(&url, cache.path(), &wrong).await.unwrap_err();
        assert!(
            matches!(error, FetchError::DigestMismatch { .. }),
            "{error}"
        );
        assert_eq!(error.load_failure(), LoadFailure::VerifyFailed);
        assert_eq!(host.requests(), attempt, "each attempt fetches anew");
    }
    bytes(&url, cache.path(), &pinned(&digest(&content())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_damaged_cache_entry_is_fetched_again() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let options = pinned(&digest(&content()));
    let fetched = fetch(&host.url("m.gguf"), cache.path(), &options)
        .await
        .unwrap();
    fs::write(fetched.path(), b"half").unwrap();
    let got = bytes(&host.url("m.gguf"), cache.path(), &options).await;
    assert_eq!(got.unwrap(), content());
    assert_eq!(host.requests(), 2);
}

#[tokio::test]
async fn what_was_complete_before_a_crash_is_only_renamed() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let (url, none) = (host.url("m.gguf"), SourceOptions::default());
    let fetched = fetch(&url, cache.path(), &none).await.unwrap();
    // Back to the moment before the rename.
    let entry = Entry::new(cache.path(), &url);
    fs::create_dir_all(entry.partial()).unwrap();
    fs::rename(fetched.path().parent().unwrap(), entry.files()).unwrap();
    assert_eq!(bytes(&url, cache.path(), &none).await.unwrap(), content());
    // Back to the moment before the manifest was written: the bytes are there, and nothing says so any more.
    fs::create_dir_all(entry.partial()).unwrap();
    fs::rename(fetched.path().parent().unwrap(), entry.files()).unwrap();
    fs::write(entry.files().join(".quarterdeck.json"), "{\"sou").unwrap();
    assert_eq!(bytes(&url, cache.path(), &none).await.unwrap(), content());
    assert_eq!(host.requests(), 2);
}

#[tokio::test]
async fn engines_that_share_a_cache_fetch_once() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let (url, none) = (host.url("m.gguf"), SourceOptions::default());
    let fetches = (0..4).map(|_| bytes(&url, cache.path(), &none));
    for fetched in futures::future::join_all(fetches).await {
        assert_eq!(fetched.unwrap(), content());
    }
    assert_eq!(host.requests(), 1);
}

#[tokio::test]
async fn refusals_say_what_to_do() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, _| match ask.path.as_str() {
        "/missing" => Reply::status(404),
        "/secret" => Reply::status(401),
        "/forbidden" => Reply::status(403).with("x-error-message", "ask the owner"),
        "/odd" => Reply::status(418),
        "/later" => Reply::status(429).with("retry-after", "3600"),
        _ => Reply::file(ask, &content(), "\"1\""),
    })
    .await;
    let none = SourceOptions::default();
    for (name, expected, words) in [
        ("missing", LoadFailure::SourceNotFound, "was not found"),
        (
            "secret",
            LoadFailure::SourceUnauthorized,
            "needs credentials",
        ),
        (
            "forbidden",
            LoadFailure::SourceUnauthorized,
            "ask the owner",
        ),
        ("odd", LoadFailure::SourceUnreachable, "418"),
        ("later", LoadFailure::SourceUnreachable, "asks to wait"),
    ] {
        let error = fetch(&host.url(name), cache.path(), &none)
            .await
            .unwrap_err();
        assert_eq!(error.load_failure(), expected, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(host.requests(), 5, "none of them is asked twice");
    for (uri, words) in [
        ("file:///nowhere/m.gguf", "/nowhere/m.gguf"),
        ("hf://o/r/m.gguf", "HF_ENDPOINT"),
        ("s3://b/m.gguf", "AWS_ENDPOINT_URL"),
    ] {
        let error = fetch(uri, cache.path(), &none).await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    let error = fetch(&host.url("m.gguf"), Path::new("/proc/nothing"), &none)
        .await
        .unwrap_err();
    assert_eq!(error.load_failure(), LoadFailure::InsufficientResources);
    let error = fetch(&host.url("m.gguf"), cache.path(), &pinned("abc"))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("64 hexadecimal digits"),
        "{error}"
    );
}

#[tokio::test]
async fn a_busy_server_is_asked_again_after_the_time_it_names() {
    let cache = tempfile::tempdir().unwrap();
    let host = Host::start(|ask, before| match before {
        0 => Reply::status(503).with("retry-after", "1"),
        _ => Reply::file(ask, &content(), "\"1\""),
    })
    .await;
    let got = bytes(&host.url("m.gguf"), cache.path(), &SourceOptions::default()).await;
    assert_eq!(got.unwrap(), content());
}

#[tokio::test]
async fn a_full_disk_is_said_and_nothing_half_is_kept() {
    let (host, cache) = (Host::with(content()).await, tempfile::tempdir().unwrap());
    let (uri, none) = (host.url("m.gguf"), SourceOptions::default());
    // `/dev/full` answers each write like a full disk.
    let entry = Entry::new(cache.path(), &uri);
    let part = entry.part(&entry.files().join("m.gguf"));
    fs::create_dir_all(part.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink("/dev/full", &part).unwrap();
    let error = fetch(&uri, cache.path(), &none).await.unwrap_err();
    assert!(matches!(error, FetchError::DiskFull { .. }), "{error}");
    assert_eq!(error.load_failure(), LoadFailure::InsufficientResources);
    fs::remove_file(&part).unwrap();
    assert_eq!(bytes(&uri, cache.path(), &none).await.unwrap(), content());
}

#[tokio::test]
async fn a_body_without_length_ends_somewhere() {
    use super::access::Access;
    use super::client::Client;
    use super::download::{Download, Remote};
    let folder = tempfile::tempdir().unwrap();
    let host = Host::start(|_, _| Reply::body(content()).endless()).await;
    let remote = Remote::plain(host.url("m").parse().unwrap(), Access::Open);
    let client = Client::new().unwrap();
    let path = folder.path().join("m");
    let mut download = Download::new(&client, &remote, path.clone(), &|_, _| {});
    download.run().await.unwrap();
    assert_eq!(fs::read(&path).unwrap(), content());
    download.undeclared_bytes_max = content().len() as u64 - 1;
    let error = download.run().await.unwrap_err();
    assert!(matches!(error, FetchError::Broken(_)), "{error}");
    assert!(!path.exists());
}

#[tokio::test]
async fn a_folder_of_this_machine_stays_where_it_is() {
    let (cache, model) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let uri = format!("file://{}", model.path().display());
    let none = SourceOptions::default();
    let error = fetch(&uri, cache.path(), &none).await.unwrap_err();
    assert_eq!(error.load_failure(), LoadFailure::SourceNotFound);
    fs::write(model.path().join("config.json"), "{}").unwrap();
    fs::write(model.path().join("model.safetensors"), "w").unwrap();
    let fetched = fetch(&uri, cache.path(), &none).await.unwrap();
    assert_eq!(fetched, Fetched::Folder(model.path().to_owned()));
    let line = |bytes: &str, name: &str| format!("{}  {name}\n", digest(bytes.as_bytes()));
    let lines = line("{}", "config.json") + &line("w", "model.safetensors");
    fetch(&uri, cache.path(), &pinned(&digest(lines.as_bytes())))
        .await
        .unwrap();
    let error = fetch(&uri, cache.path(), &pinned(&digest(b"x")))
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::DigestMismatch { .. }),
        "{error}"
    );
}
