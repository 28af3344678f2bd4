//! The answers of a provider's batch: read line by line, accounted for, written to the batch's results.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use futures::future::try_join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use protocol::key::digest;
use serde::Deserialize;
use serde_json::{json, value::RawValue};
use uuid::Builder;

use super::super::{line::Answer, results::Finding};
use crate::{
    call::Operation,
    fault::Fault,
    gateway::{Gateway, Ran, Waiting},
    objects::Batch,
    table::Route,
};

/// Bytes of a line of answers.
const LINE_BYTES_MAX: usize = 64 << 20;
/// How long the provider may be silent.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Lines that are written at once.
pub(super) const AT_ONCE: usize = 256;

/// The lines of a file while it comes.
pub(super) struct Lines {
    body: Incoming,
    rest: BytesMut,
    has_ended: bool,
    /// Why there are no more lines, if those that came were given first.
    broken: Option<String>,
    /// Lines that were none.
    pub(super) garbled: u64,
}

/// An answer of the provider's to a line.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) custom_id: String,
    /// `None` if the provider had no time for it.
    pub(super) answer: Option<(u16, Bytes)>,
}

#[derive(Deserialize)]
struct Written<'a> {
    custom_id: String,
    #[serde(borrow)]
    response: Option<Response<'a>>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Response<'a> {
    status_code: u16,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Error {
    code: Option<String>,
    message: Option<String>,
}

impl Lines {
    pub(super) fn new(body: Incoming) -> Self {
        Self {
            body,
            rest: BytesMut::new(),
            has_ended: false,
            broken: None,
            garbled: 0,
        }
    }

    /// The next lines, some at once; `None` at the end.
    ///
    /// # Errors
    /// The file broke off, or has a line without end; in words.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Answered>>, String> {
        let mut ready = Vec::new();
        if let Some(reason) = self.broken.take() {
            return Err(reason);
        }
        loop {
            while let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let line = self.rest.split_to(end + 1);
                ready.extend(self.read(&line));
                if AT_ONCE <= ready.len() {
                    return Ok(Some(ready));
                }
            }
            if self.has_ended {
                let last = std::mem::take(&mut self.rest);
                ready.extend(self.read(&last));
                return Ok((!ready.is_empty()).then_some(ready));
            }
            if LINE_BYTES_MAX < self.rest.len() {
                return Err("a line of the answers has no end".to_owned());
            }
            let frame = tokio::time::timeout(IDLE_TIMEOUT, self.body.frame()).await;
            let reason = match frame {
                Ok(None) => {
                    self.has_ended = true;
                    continue;
                }
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                    continue;
                }
                Ok(Some(Err(_))) => "the answers broke off",
                Err(_) => "the answers stopped",
            };
            if ready.is_empty() {
                return Err(reason.to_owned());
            }
            // What came whole counts; the next try begins with less to do.
            self.broken = Some(reason.to_owned());
            return Ok(Some(ready));
        }
    }

    /// What a line says of a request.
    fn read(&mut self, line: &[u8]) -> Option<Answered> {
        if line.trim_ascii().is_empty() {
            return None;
        }
        match serde_json::from_slice(line) {
            Ok(written) => understood(written),
            Err(_) => {
                self.garbled += 1;
                None
            }
        }
    }
}

/// What was written of a request; of one of which nothing was, there is no answer in the end.
fn understood(written: Written<'_>) -> Option<Answered> {
    let answer = match (written.response, written.error) {
        (Some(response), _) => {
            let body = response.body.map_or("null", RawValue::get);
            let body = Bytes::copy_from_slice(body.as_bytes());
            Some((response.status_code, body))
        }
        (None, Some(error)) if error.code.as_deref() == Some("batch_expired") => None,
        // What the batch's end took is told by the batch.
        (None, Some(error)) if error.code.as_deref() == Some("batch_cancelled") => return None,
        (None, Some(error)) => Some(failed(502, &error.message.unwrap_or_default())),
        (None, None) => return None,
    };
    Some(Answered {
        custom_id: written.custom_id,
        answer,
    })
}

/// An error in the words of OpenAI's API.
pub(super) fn failed(status: u16, message: &str) -> (u16, Bytes) {
    let kind = match status {
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let error = json!({"message": message, "type": kind, "param": null, "code": "provider_batch"});
    (status, Bytes::from(json!({"error": error}).to_string()))
}

/// The id of a line's request: the same each time, so that the ledger counts it once.
pub(super) fn request_id(batch: &Batch, custom_id: &str) -> String {
    let hash = digest(&format!("{}\n{custom_id}", batch.id));
    let mut random = [0; 10];
    for (to, from) in random.iter_mut().zip(hash) {
        *to = from;
    }
    let millis = u64::try_from(batch.created_at).unwrap_or(0) * 1000;
    let id = Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    format!("req_{}", id.as_simple())
}

/// What answers are accounted for with.
pub(super) struct Account<'a> {
    pub(super) gateway: &'a Arc<Gateway>,
    pub(super) batch: &'a Batch,
    pub(super) operation: Operation,
    pub(super) route: &'a Route,
    pub(super) target: usize,
}

impl Account<'_> {
    /// Accounts for answers; what is to be written of them.
    ///
    /// # Errors
    /// The ledger takes no rows now; nothing is to be written then.
    pub(super) async fn settle(
        &self,
        answers: Vec<Answered>,
        waiting: &mut HashMap<String, Waiting>,
    ) -> Result<Vec<(String, Finding)>, Fault> {
        let known = answers.into_iter().filter_map(|answered| {
            // A line that nobody waits for was answered before, or never asked.
            let waiting = waiting.remove(&answered.custom_id)?;
            Some(self.settle_one(answered, waiting))
        });
        try_join_all(known).await
    }

    async fn settle_one(
        &self,
        answered: Answered,
        waiting: Waiting,
    ) -> Result<(String, Finding), Fault> {
        let Answered { custom_id, answer } = answered;
        let Some((status, body)) = answer else {
            return Ok((custom_id, Finding::Expired));
        };
        let request_id = request_id(self.batch, &custom_id);
        let ran = Ran {
            id: &request_id,
            operation: self.operation,
            route: self.route,
            target: self.target,
            status,
            body: &body,
        };
        self.gateway.settle(waiting, &ran).await?;
        let answer = Answer {
            status,
            request_id,
            body,
        };
        Ok((custom_id, Finding::Answered(answer)))
    }
}
