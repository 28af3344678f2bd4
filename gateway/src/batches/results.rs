//! The results of a batch: two files that are only appended to, and synced before a line counts as done.

use std::{
    collections::HashSet,
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::line::Answer;

/// Where results are written, and what is there.
#[derive(Debug)]
pub(super) struct Results {
    output: Part,
    errors: Part,
    /// The lines that are done.
    pub(super) done: HashSet<String>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    file: File,
    lines: u64,
}

/// What is written of a line.
#[derive(Debug)]
pub(super) enum Finding {
    /// It was answered, or refused.
    Answered(Answer),
    /// The batch's time was over before.
    Expired,
}

#[derive(Serialize)]
struct Written<'a> {
    id: String,
    custom_id: &'a str,
    response: Option<WrittenResponse<'a>>,
    error: Option<WrittenError>,
}

#[derive(Serialize)]
struct WrittenResponse<'a> {
    status_code: u16,
    request_id: &'a str,
    body: Box<RawValue>,
}

#[derive(Serialize)]
struct WrittenError {
    code: &'static str,
    message: &'static str,
}

#[derive(Deserialize)]
struct Known {
    custom_id: String,
}

impl Results {
    /// Opens the results of a batch; a line that a crash has cut is taken away. Blocks.
    ///
    /// # Errors
    /// The files cannot be used.
    pub(super) fn open(output: &Path, errors: &Path) -> io::Result<Self> {
        let mut done = HashSet::new();
        Ok(Self {
            output: Part::open(output, &mut done)?,
            errors: Part::open(errors, &mut done)?,
            done,
        })
    }

    /// Lines with an answer, and lines with an error.
    pub(super) const fn counts(&self) -> (u64, u64) {
        (self.output.lines, self.errors.lines)
    }

    /// Appends what was found out about lines, and syncs it once for all of them. Blocks.
    ///
    /// # Errors
    /// The disk does not take it; the lines are not done then.
    pub(super) fn append(&mut self, lines: Vec<(String, Finding)>) -> io::Result<()> {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        for (custom_id, finding) in &lines {
            let is_answer = matches!(finding, Finding::Answered(answer) if answer.status < 400);
            let text = if is_answer { &mut output } else { &mut errors };
            serde_json::to_writer(&mut *text, &written(custom_id, finding))?;
            text.push(b'\n');
        }
        self.output.append(&output)?;
        self.errors.append(&errors)?;
        for (custom_id, _) in lines {
            self.done.insert(custom_id);
        }
        Ok(())
    }

    /// Bytes of the answers and of the errors.
    ///
    /// # Errors
    /// The files cannot be read.
    pub(super) fn bytes(&self) -> io::Result<(u64, u64)> {
        let bytes = |part: &Part| part.file.metadata().map(|metadata| metadata.len());
        Ok((bytes(&self.output)?, bytes(&self.errors)?))
    }
}

impl Part {
    fn open(path: &Path, done: &mut HashSet<String>) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.create(true).append(true).read(true).open(path)?;
        let mut reader = BufReader::new(&file);
        let (mut length, mut lines) = (0, 0);
        let mut line = Vec::new();
        while 0 < reader.read_until(b'\n', &mut line)? {
            let known = line.ends_with(b"\n");
            let known = known.then(|| serde_json::from_slice::<Known>(&line));
            let Some(Ok(known)) = known else { break };
            done.insert(known.custom_id);
            length += line.len() as u64;
            lines += 1;
            line.clear();
        }
        file.set_len(length)?;
        file.sync_all()?;
        if let Some(folder) = path.parent() {
            File::open(folder)?.sync_all()?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            lines,
        })
    }

    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let before = self.file.metadata()?.len();
        let written = (&self.file)
            .write_all(text)
            .and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line must not stay before the next one.
            self.file.set_len(before)?;
            return Err(error);
        }
        self.lines += text.iter().filter(|byte| **byte == b'\n').count() as u64;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.lines == 0 {
            // Nobody is shown an empty file; it is made again if the batch goes on.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn written<'a>(custom_id: &'a str, finding: &'a Finding) -> Written<'a> {
    let id = format!("batch_req_{}", Uuid::now_v7().simple());
    match finding {
        Finding::Answered(answer) => Written {
            id,
            custom_id,
            response: Some(WrittenResponse {
                status_code: answer.status,
                request_id: &answer.request_id,
                body: one_line(&answer.body),
            }),
            error: None,
        },
        Finding::Expired => Written {
            id,
            custom_id,
            response: None,
            error: Some(WrittenError {
                code: "batch_expired",
                message: "This request could not be executed before the completion window expired.",
            }),
        },
    }
}

/// A body of JSON on one line; of anything else, a string.
fn one_line(body: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(body);
    // In JSON a line's end can only stand between values.
    let line = text.replace(['\r', '\n'], " ");
    if let Ok(value) = RawValue::from_string(line) {
        return value;
    }
    let string = serde_json::Value::from(text.as_ref()).to_string();
    RawValue::from_string(string).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use bytes::Bytes;
    use serde_json::{Value, json};

    use super::{Answer, Finding, Results};

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status,
            request_id: "req_1".to_owned(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn results_are_there_after_a_crash_but_for_a_line_that_it_has_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (output, errors) = (folder.path().join("o"), folder.path().join("e"));
        let mut results = Results::open(&output, &errors).unwrap();
        let (sound, broken) = (answer(200, "{\n \"a\": 1}"), answer(400, "<no json>"));
        let lines = vec![
            ("a".to_owned(), Finding::Answered(sound)),
            ("b".to_owned(), Finding::Answered(broken)),
            ("c".to_owned(), Finding::Expired),
        ];
        results.append(lines).unwrap();
        drop(results);
        let read = |path: &std::path::Path| -> Vec<Value> {
            let text = fs::read_to_string(path).unwrap();
            let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
            let mut values: Vec<Value> = values.collect();
            values
                .iter_mut()
                .for_each(|value| value["id"] = Value::Null);
            values
        };
        let response = |status: u16, body: Value| json!({"status_code": status, "request_id": "req_1", "body": body});
        assert_eq!(
            read(&output),
            [
                json!({"id": null, "custom_id": "a", "response": response(200, json!({"a": 1})), "error": null})
            ]
        );
        let expired = read(&errors)[1]["error"]["code"].clone();
        assert_eq!(expired, "batch_expired");
        assert_eq!(
            read(&errors)[0]["response"],
            response(400, json!("<no json>"))
        );

        let whole = fs::read(&output).unwrap();
        for cut in 0..whole.len() {
            fs::write(&output, [&whole[..], &whole[..cut]].concat()).unwrap();
            let results = Results::open(&output, &errors).unwrap();
            assert_eq!(results.counts(), (1, 2), "cut after {cut} bytes");
            assert_eq!(results.done.len(), 3);
            drop(results);
            assert_eq!(fs::read(&output).unwrap(), whole);
        }
    }
}
