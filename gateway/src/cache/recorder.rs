//! Records an answer on its way to the client, and keeps it if it is complete.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use serde::{Deserialize, de::IgnoredAny};

use super::{Form, Kept, Lead, convert};
use crate::{call::Operation, encode::Tally, provider::Tokens};

/// The record of one answer; dropping it means that the answer was not complete.
#[derive(Debug)]
pub(crate) struct Recorder {
    /// `None` once the answer is too long to be kept.
    lead: Option<Lead>,
    target: String,
    operation: Operation,
    events: BytesMut,
}

impl Recorder {
    /// Records an answer of a target's.
    pub(crate) fn new(lead: Lead, target: &str, operation: Operation) -> Self {
        Self {
            lead: Some(lead),
            target: target.to_owned(),
            operation,
            events: BytesMut::new(),
        }
    }

    /// Keeps a whole answer if it can be given again.
    pub(crate) fn keep_whole(mut self, status: StatusCode, body: &Bytes, tokens: Option<Tokens>) {
        let is_complete = status == StatusCode::OK && is_success(self.operation, body);
        self.keep(Form::Whole, is_complete, body.clone(), tokens);
    }

    /// Takes bytes of a stream.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let Some(lead) = &self.lead else { return };
        if lead.bytes_max() < self.events.len().saturating_add(bytes.len()) {
            self.events = BytesMut::new();
            self.give_up();
            return;
        }
        self.events.extend_from_slice(bytes);
    }

    /// Keeps a stream that has ended.
    pub(crate) fn keep_stream(mut self, tally: Tally) {
        let body = std::mem::take(&mut self.events).freeze();
        let is_complete = tally.is_done
            && !tally.is_error
            && (self.operation != Operation::Response || convert::response(&body).is_some());
        self.keep(Form::Stream, is_complete, body, tally.tokens);
    }

    fn keep(&mut self, form: Form, is_complete: bool, body: Bytes, tokens: Option<Tokens>) {
        let Some(lead) = self.lead.take() else { return };
        if !is_complete || lead.bytes_max() < body.len() {
            lead.give_up();
            return;
        }
        lead.keep(Kept {
            form,
            body,
            target: std::mem::take(&mut self.target),
            tokens,
            kept_at: Instant::now(),
        });
    }

    fn give_up(&mut self) {
        if let Some(lead) = self.lead.take() {
            lead.give_up();
        }
    }
}

/// What tells a success from an error that came with a good status.
#[derive(Deserialize)]
struct Head<'a> {
    error: Option<IgnoredAny>,
    #[serde(borrow)]
    status: Option<std::borrow::Cow<'a, str>>,
}

fn is_success(operation: Operation, body: &[u8]) -> bool {
    let Ok(head) = serde_json::from_slice::<Head<'_>>(body) else {
        return false;
    };
    let is_complete =
        operation != Operation::Response || head.status.as_deref() == Some("completed");
    head.error.is_none() && is_complete
}

#[cfg(test)]
mod tests {
    use super::is_success;
    use crate::call::Operation;

    #[track_caller]
    fn check(operation: Operation, body: &str, expected: bool) {
        assert_eq!(is_success(operation, body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn errors_with_a_good_status_are_no_success() {
        check(Operation::Chat, r#"{"choices":[]}"#, true);
        check(Operation::Chat, r#"{"error":{"message":"x"}}"#, false);
        check(Operation::Chat, "<html>", false);
        check(
            Operation::Response,
            r#"{"status":"completed","error":null}"#,
            true,
        );
        check(Operation::Response, r#"{"status":"incomplete"}"#, false);
    }
}
