//! The client of a workspace's daemon: programs and files.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use futures::StreamExt;
use protocol::{
    secret::SecretString,
    workspace::{ExecEvent, ExecRequest, Exit, Fault},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    outbound::{Outbound, broken, retry_after},
};

/// Longest line of a program's events, in bytes.
const LINE_BYTES_MAX: usize = 4 << 20;
/// Most of an error's body that is read.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// A workspace and how to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Workspace<'a> {
    pub(crate) url: &'a str,
    pub(crate) token: &'a SecretString,
    /// Programs that may be run; empty allows all.
    pub(crate) commands: &'a [String],
}

/// What a program did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProgramResult {
    pub(crate) exit: Exit,
    stdout: Capture,
    stderr: Capture,
}

impl ProgramResult {
    /// The result as steps write it and models read it.
    pub(crate) fn to_json(&self) -> Value {
        let mut json = json!({
            "exitCode": self.exit.code,
            "stdout": self.stdout.text(),
            "stderr": self.stderr.text(),
        });
        if self.exit.timed_out {
            json["timedOut"] = Value::Bool(true);
        }
        if self.exit.truncated || self.stdout.is_cut || self.stderr.is_cut {
            json["truncated"] = Value::Bool(true);
        }
        json
    }
}

/// The start of an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Capture {
    bytes: Vec<u8>,
    is_cut: bool,
}

impl Capture {
    fn push(&mut self, data: &str, bytes_max: usize) -> Result<(), Failure> {
        let bytes = STANDARD
            .decode(data)
            .map_err(|_| Failure::transient("the workspace sent output that is not base64"))?;
        let room = bytes_max.saturating_sub(self.bytes.len());
        self.is_cut |= room < bytes.len();
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
        Ok(())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Workspace<'_> {
    /// Refuses programs that are not on the list.
    pub(crate) fn check_command(&self, command: &[String]) -> Result<(), Failure> {
        let Some(program) = command.first() else {
            return Err(Failure::permanent("the command is empty"));
        };
        if self.commands.is_empty() || self.commands.contains(program) {
            return Ok(());
        }
        let allowed = self.commands.join("`, `");
        Err(Failure::permanent(format!(
            "`{program}` may not be run here; allowed are `{allowed}`"
        )))
    }

    /// Runs a program and gathers up to `output_bytes_max` of each output.
    pub(crate) async fn exec(
        &self,
        outbound: &Outbound,
        request: &ExecRequest,
        output_bytes_max: usize,
    ) -> Result<ProgramResult, Failure> {
        self.check_command(&request.command)?;
        let response = self
            .send(
                self.request(outbound, Method::POST, "/v1/exec")
                    .json(request),
            )
            .await?;
        let mut result = ProgramResult::default();
        let mut buffer = BytesMut::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            buffer.extend_from_slice(&chunk.map_err(|error| interrupted(&error))?);
            while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
                let line = buffer.split_to(end + 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                let event = serde_json::from_slice(&line).map_err(|error| {
                    Failure::transient(format!("the workspace's answer cannot be read: {error}"))
                })?;
                match event {
                    ExecEvent::Started { .. } => {}
                    ExecEvent::Stdout { data } => result.stdout.push(&data, output_bytes_max)?,
                    ExecEvent::Stderr { data } => result.stderr.push(&data, output_bytes_max)?,
                    ExecEvent::Exit(exit) => {
                        result.exit = exit;
                        return Ok(result);
                    }
                }
            }
            if LINE_BYTES_MAX < buffer.len() {
                return Err(Failure::permanent(
                    "the workspace sent a line that is too long",
                ));
            }
        }
        Err(Failure::unavailable("the workspace's answer broke off"))
    }

    /// Reads a file, at most `bytes_max` of it; the flag says whether there is more.
    pub(crate) async fn read_file(
        &self,
        outbound: &Outbound,
        path: &str,
        bytes_max: usize,
    ) -> Result<(Vec<u8>, bool), Failure> {
        let request = self
            .request(outbound, Method::GET, "/v1/files")
            .query(&[("path", path)]);
        let response = self.send(request).await?;
        let mut content = Vec::new();
        let mut chunks = response.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|error| interrupted(&error))?;
            let room = bytes_max - content.len();
            if room < chunk.len() {
                content.extend_from_slice(&chunk[..room]);
                return Ok((content, true));
            }
            content.extend_from_slice(&chunk);
        }
        Ok((content, false))
    }

    /// Writes a file; writing the same again changes nothing.
    pub(crate) async fn write_file(
        &self,
        outbound: &Outbound,
        path: &str,
        content: String,
    ) -> Result<(), Failure> {
        let request = self
            .request(outbound, Method::PUT, "/v1/files")
            .query(&[("path", path)])
            .body(content);
        self.send(request).await.map(drop)
    }

    fn request(&self, outbound: &Outbound, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        outbound
            .inside()
            .request(method, &url)
            .bearer_auth(self.token.expose())
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let response = request.send().await.map_err(|error| interrupted(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        Err(refused(response).await)
    }
}

/// Requests carry an id or are idempotent, so what broke off is asked again.
fn interrupted(error: &reqwest::Error) -> Failure {
    match broken("asking the workspace", error) {
        Failure::Transient { message } => Failure::Unavailable {
            message,
            retry_after: None,
        },
        other => other,
    }
}

async fn refused(response: Response) -> Failure {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let mut body = response.bytes().await.unwrap_or_default();
    body.truncate(ERROR_BYTES_MAX);
    let detail = match serde_json::from_slice::<Fault>(&body) {
        Ok(fault) => format!("{} ({})", fault.message, fault.code),
        Err(_) => status.to_string(),
    };
    let message = format!("the workspace refused: {detail}");
    match status {
        // A conflict is a workspace that runs as many programs as it can.
        StatusCode::CONFLICT
        | StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE => Failure::Unavailable {
            message,
            retry_after,
        },
        StatusCode::UNAUTHORIZED => Failure::Unsettled { message },
        _ if status.is_server_error() => Failure::Transient { message },
        _ => Failure::Permanent { message },
    }
}
