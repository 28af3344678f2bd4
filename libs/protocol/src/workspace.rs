//! The workspace daemon's API: programs and files of one workspace.
//!
//! All requests carry `Authorization: Bearer TOKEN`; `GET /healthz` needs none.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/info` | [`Info`] |
//! | `POST /v1/exec` with [`ExecRequest`] | a stream of JSON lines, each an [`ExecEvent`]; the last is `exit` |
//! | `GET /v1/files?path=P` | the file's bytes, with `ETag`; `Range` is honoured |
//! | `PUT /v1/files?path=P` | 204; written atomically, parents created; `If-Match` is honoured |
//! | `DELETE /v1/files?path=P` | 204 |
//! | `GET /v1/files/list?path=P` | [`FileList`] |
//!
//! Paths are relative to the workspace's home; absolute ones must lie in it. Errors are [`Fault`]s.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExecRequest {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Environment on top of the workspace's own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where to run; the home if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Standard input, base64; closed at its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Seconds after which the program and all its children are killed (default 60, at most 3600).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
    /// An id that makes a repeat of this request answer the first one's result instead of running it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum ExecEvent {
    /// It runs.
    Started {
        /// Its process id inside the workspace.
        pid: u32,
    },
    /// It wrote to standard output.
    Stdout {
        /// Base64.
        data: String,
    },
    /// It wrote to standard error.
    Stderr {
        /// Base64.
        data: String,
    },
    /// It ended; nothing follows.
    Exit(Exit),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// The exit code; 128 + signal if a signal ended it.
    pub code: i32,
    /// Whether the time was over.
    #[serde(default)]
    pub timed_out: bool,
    /// Whether output was cut at the limit.
    #[serde(default)]
    pub truncated: bool,
}

/// What a workspace is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Info {
    /// The home directory as programs see it.
    pub home: String,
    /// What is enforced on programs, as `landlock:abi-7`, `seccomp`, `no-new-privs`.
    pub enforced: Vec<String>,
    /// What is not, and why.
    pub missing: Vec<String>,
}

/// A directory's entries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    /// By name, at most 10,000.
    pub entries: Vec<FileEntry>,
    /// Whether there were more.
    pub truncated: bool,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// The name in its directory.
    pub name: String,
    /// `file`, `directory`, `symlink` or `other`.
    pub kind: String,
    /// Bytes.
    pub size: u64,
    /// Unix seconds of the last change.
    pub modified: i64,
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A word for programs: `unauthorized`, `invalid`, `not_found`, `conflict`, `too_large`, `denied`, `no_space`, `internal`.
    pub code: String,
    /// A sentence that says what to do.
    pub message: String,
}
