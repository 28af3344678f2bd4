//! The input of a batch: one request a line, checked before the first one is sent.

use std::{
    collections::HashSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
};

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::objects::BatchError;

/// Lines of a batch.
const LINES_MAX: u64 = 50_000;
/// Errors that are told.
const ERRORS_MAX: usize = 100;
/// Bytes of a `custom_id`.
const CUSTOM_ID_BYTES_MAX: usize = 512;
/// Lines that are read ahead.
const LINES_AHEAD: usize = 16;

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// What the client calls it.
    pub(super) custom_id: String,
    /// Its body, byte for byte.
    pub(super) body: Bytes,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    custom_id: String,
    method: String,
    url: String,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct RawBody {
    model: String,
    #[serde(default)]
    stream: Option<bool>,
}

/// What a batch's lines must be.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// The path that all of them name.
    pub(super) endpoint: String,
    /// Bytes of a line.
    pub(super) line_bytes_max: usize,
}

/// Checks all lines; how many there are, and what is wrong with them. Blocks.
///
/// # Errors
/// The file cannot be read.
pub(super) fn check(path: &Path, rules: &Rules) -> io::Result<(u64, Vec<BatchError>)> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut errors = Vec::new();
    let mut known = HashSet::new();
    let (mut number, mut total) = (0, 0);
    while let Some(text) = next(&mut reader, rules.line_bytes_max)? {
        number += 1;
        if text.trim_ascii().is_empty() {
            continue;
        }
        total += 1;
        let problem = if LINES_MAX < total {
            Some((
                "too_many_tasks",
                format!("A batch may have {LINES_MAX} lines."),
                None,
            ))
        } else {
            problem(&text, rules, &mut known)
        };
        if let Some((code, message, param)) = problem {
            errors.push(BatchError {
                code: code.to_owned(),
                message,
                param: param.map(str::to_owned),
                line: Some(number),
            });
        }
        if ERRORS_MAX <= errors.len() || LINES_MAX < total {
            break;
        }
    }
    if total == 0 {
        errors.push(BatchError {
            code: "empty_file".to_owned(),
            message: "The input file has no lines.".to_owned(),
            param: None,
            line: None,
        });
    }
    Ok((total, errors))
}

type Problem = (&'static str, String, Option<&'static str>);

fn problem(text: &[u8], rules: &Rules, known: &mut HashSet<String>) -> Option<Problem> {
    let say = |code, message: &str, param| Some((code, message.to_owned(), param));
    if rules.line_bytes_max < text.len() {
        let message = format!("The line is longer than {} bytes.", rules.line_bytes_max);
        return Some(("line_too_long", message, None));
    }
    let line: RawLine<'_> = match serde_json::from_slice(text) {
        Ok(line) => line,
        Err(error) => {
            let message = format!("The line is not a request: {error}.");
            return Some(("invalid_json_line", message, None));
        }
    };
    if line.method != "POST" {
        return say("invalid_method", "The method must be POST.", Some("method"));
    }
    if line.url != rules.endpoint {
        let message = "The URL differs from the batch's endpoint.";
        return say("mismatched_url", message, Some("url"));
    }
    if line.custom_id.is_empty() || CUSTOM_ID_BYTES_MAX < line.custom_id.len() {
        let message = "The custom_id must have 1 to 512 bytes.";
        return say("invalid_custom_id", message, Some("custom_id"));
    }
    let body: RawBody = match serde_json::from_str(line.body.get()) {
        Ok(body) => body,
        Err(error) => {
            let message = format!("The body is not a request with a model: {error}.");
            return Some(("invalid_body", message, Some("body")));
        }
    };
    if body.model.is_empty() || body.stream == Some(true) {
        let message = "The body must name a model and ask for no stream.";
        return say("invalid_body", message, Some("body"));
    }
    if !known.insert(line.custom_id) {
        let message = "The custom_id is that of another line.";
        return say("duplicate_custom_id", message, Some("custom_id"));
    }
    None
}

/// The next line without its end; one that is too long is cut after the limit.
fn next(reader: &mut impl BufRead, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let limit = u64::try_from(bytes_max)
        .unwrap_or(u64::MAX)
        .saturating_add(2);
    if reader.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
        return Ok(None);
    }
    if text.last() == Some(&b'\n') {
        text.pop();
    } else if bytes_max < text.len() {
        reader.skip_until(b'\n')?;
    }
    Ok(Some(text))
}

/// The lines of an input that was found to be right, read while they are asked.
pub(super) fn lines(path: &Path, rules: &Rules) -> mpsc::Receiver<io::Result<Line>> {
    let (sender, receiver) = mpsc::channel(LINES_AHEAD);
    let (path, bytes_max) = (path.to_owned(), rules.line_bytes_max);
    spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut reader = BufReader::new(File::open(&path)?);
            while let Some(text) = next(&mut reader, bytes_max)? {
                if text.trim_ascii().is_empty() {
                    continue;
                }
                let line: RawLine<'_> = serde_json::from_slice(&text)?;
                let line = Line {
                    custom_id: line.custom_id,
                    body: Bytes::copy_from_slice(line.body.get().as_bytes()),
                };
                if sender.blocking_send(Ok(line)).is_err() {
                    // Nobody asks any more.
                    break;
                }
            }
            Ok(())
        };
        if let Err(error) = read() {
            // The receiver may be gone, which is no failure.
            let _ = sender.blocking_send(Err(error));
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::{Rules, check};

    #[track_caller]
    fn check_input(lines: &[&str], total: u64, expected: &[(&str, Option<u64>)]) {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(lines.join("\n").as_bytes()).unwrap();
        let rules = Rules {
            endpoint: "/v1/embeddings".to_owned(),
            line_bytes_max: 200,
        };
        let (counted, errors) = check(file.path(), &rules).unwrap();
        let errors = errors.iter().map(|error| (error.code.as_str(), error.line));
        assert_eq!(
            (counted, errors.collect::<Vec<_>>()),
            (total, expected.to_vec())
        );
    }

    #[test]
    fn an_input_is_checked_before_it_is_sent() {
        let line = |id: &str, more: &str| {
            format!(r#"{{"custom_id":"{id}","method":"POST","url":"/v1/embeddings",{more}}}"#)
        };
        let body = r#""body":{"model":"m"}"#;
        let (a, b) = (line("a", body), line("b", body));
        check_input(&[&a, "", &b, ""], 2, &[]);
        check_input(&[], 0, &[("empty_file", None)]);
        check_input(&[&a, &a], 2, &[("duplicate_custom_id", Some(2))]);
        check_input(&["{", &a], 2, &[("invalid_json_line", Some(1))]);
        check_input(&[&line("", body)], 1, &[("invalid_custom_id", Some(1))]);
        check_input(
            &[&line("a", r#""body":{}"#)],
            1,
            &[("invalid_body", Some(1))],
        );
        let stream = line("a", r#""body":{"model":"m","stream":true}"#);
        check_input(&[&stream], 1, &[("invalid_body", Some(1))]);
        let other = a.replace("embeddings", "chat/completions");
        check_input(&[&other], 1, &[("mismatched_url", Some(1))]);
        check_input(
            &[&a.replace("POST", "GET")],
            1,
            &[("invalid_method", Some(1))],
        );
        let long = line("a", &format!(r#""body":{{"model":"{}"}}"#, "m".repeat(400)));
        check_input(&[&b, &long, &a], 3, &[("line_too_long", Some(2))]);
    }
}
