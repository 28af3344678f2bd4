//! Claims about packages.

use std::path::Path;

use super::super::error::FetchError;
use super::command::{explain, read_progress_line};

#[test]
fn raw_progress_is_read() {
    for (line, expected) in [
        ("Progress 1024 of 4096", Some((1024, Some(4096)))),
        ("Progress 1024", Some((1024, None))),
        ("  Downloading x.whl (92.9 MB)", None),
        ("Progress of 5", None),
    ] {
        assert_eq!(read_progress_line(line), expected, "{line}");
    }
}

#[test]
fn the_last_words_of_pip_are_understood() {
    let kind = |errors: &str| match explain("a==1", errors, Path::new("/cache")) {
        FetchError::DiskFull { .. } => "full",
        FetchError::NotFound { .. } => "not found",
        FetchError::Unauthorized { .. } => "unauthorized",
        FetchError::Unreachable { .. } => "unreachable",
        _ => "other",
    };
    let nothing = "ERROR: No matching distribution found for a==1";
    assert_eq!(kind(nothing), "not found");
    assert_eq!(
        kind(&format!(
            "WARNING: Retrying after connection broken by 'NewConnectionError'\n{nothing}"
        )),
        "unreachable"
    );
    assert_eq!(
        kind(
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
        ),
        "full"
    );
    assert_eq!(
        kind("ERROR: HTTP error 401 Client Error: Unauthorized"),
        "unauthorized"
    );
    assert_eq!(kind("ERROR: something else"), "unreachable");
}
