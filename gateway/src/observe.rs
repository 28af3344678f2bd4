//! Observe: what is told of requests beside metrics and the ledger: a line in the access log, a span, LiteLLM's metrics.
//!
//! Everything is built from the account of a request that has ended, and leaves by queues of a bounded length: who cannot
//! keep up loses lines and spans, which is counted, and never holds a request. Nothing of a prompt or an answer is told,
//! unless spans are asked to.

mod access;
mod content;
mod context;
mod litellm;
mod otlp;
mod span;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::HeaderMap;
use memchr::memmem;
use serde_json::Value;

use self::content::Content;
pub(crate) use self::{
    access::{AccessLog, Written},
    content::Masks,
    context::Trace,
    litellm::{Known, LiteLlm},
    otlp::{Collector, Exporter, LogExporter, push},
};
use crate::{decode::Decoded, endpoint::Endpoint, ledger::Entry};

/// Reasons why answers ended, of one request.
const REASONS_MAX: usize = 8;
/// Bytes of one reason.
const REASON_BYTES_MAX: usize = 32;

/// Who is told of requests.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    /// The access log.
    pub(crate) access: Option<AccessLog>,
    /// Where spans go.
    pub(crate) traces: Option<Exporter>,
    /// Where lines of the access log go besides.
    pub(crate) logs: Option<LogExporter>,
    /// LiteLLM's metrics.
    pub(crate) litellm: Option<LiteLlm>,
}

/// How long the parts of a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Phases {
    /// Until it was sent to the one that answered, failed tries included.
    pub(crate) queue: Option<Duration>,
    /// Until the first bytes of a stream were here.
    pub(crate) first_byte: Option<Duration>,
    /// All of it.
    pub(crate) total: Duration,
    /// Of it, the waiting for upstreams, up to the first bytes of a stream.
    pub(crate) waited: Option<Duration>,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended<'a> {
    /// Its row in the ledger.
    pub(crate) entry: &'a Entry,
    /// The model's name at the target.
    pub(crate) upstream_model: &'a str,
    /// The same as a label of metrics, of which there are only so many.
    pub(crate) model_label: &'a str,
    /// The target's provider; empty if no target has answered.
    pub(crate) provider: &'static str,
    /// How long it took.
    pub(crate) phases: Phases,
    /// What else is known of it.
    pub(crate) watch: &'a Watch,
}

/// What is remembered of a request for those who are told of it.
#[derive(Debug)]
pub(crate) struct Watch {
    observers: Arc<Observers>,
    /// The trace that it belongs to.
    pub(crate) trace: Option<Trace>,
    /// Who answered.
    pub(crate) endpoint: Option<Arc<Endpoint>>,
    /// When it was sent there, after it came, and how long upstreams were waited for.
    pub(crate) sent: Option<(Duration, Duration)>,
    /// Why its answers ended.
    pub(crate) reasons: Vec<String>,
    /// What was said, if spans tell it.
    content: Option<Box<Content>>,
}

impl Observers {
    /// Whether nobody is told of requests.
    pub(crate) fn is_empty(&self) -> bool {
        let Self {
            access,
            traces,
            logs,
            litellm,
        } = self;
        access.is_none() && traces.is_none() && logs.is_none() && litellm.is_none()
    }

    /// The trace that a request belongs to, if its client names one or spans are told.
    pub(crate) fn trace(&self, headers: &HeaderMap) -> Option<Box<Trace>> {
        let ratio = self.traces.as_ref().map(|traces| traces.ratio);
        Trace::of(headers, ratio).map(Box::new)
    }

    /// Whether a span tells what was said.
    fn tells_content(&self, trace: Option<&Trace>) -> bool {
        let is_told = self
            .traces
            .as_ref()
            .is_some_and(|traces| traces.tells_content);
        is_told && trace.is_some_and(|trace| trace.is_sampled)
    }

    /// What is remembered of a request that belongs to a trace or none; nothing if nobody is told.
    pub(crate) fn watch(self: &Arc<Self>, trace: Option<&Trace>) -> Option<Box<Watch>> {
        (!self.is_empty()).then(|| {
            Box::new(Watch {
                observers: Arc::clone(self),
                trace: trace.cloned(),
                endpoint: None,
                sent: None,
                reasons: Vec::new(),
                content: self.tells_content(trace).then(Box::default),
            })
        })
    }
}

impl Watch {
    /// Looks for why answers end, in a whole answer or in a piece of a stream; only spans tell it.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        if self.observers.traces.is_none() || REASONS_MAX <= self.reasons.len() {
            return;
        }
        // In a text of an answer the quotes would be escaped.
        for name in [&b"\"finish_reason\":"[..], b"\"stop_reason\":"] {
            for at in memmem::find_iter(bytes, name) {
                let value = bytes[at + name.len()..].trim_ascii_start();
                let Some(value) = value.strip_prefix(b"\"") else {
                    continue;
                };
                let end = value
                    .iter()
                    .take(REASON_BYTES_MAX)
                    .position(|byte| *byte == b'"');
                let reason = end.and_then(|end| std::str::from_utf8(&value[..end]).ok());
                if let Some(reason) = reason
                    && !self.reasons.iter().any(|known| known == reason)
                {
                    self.reasons.push(reason.to_owned());
                }
            }
        }
    }

    /// Notes a request that guards have let through; what they have masked in it is asked for only if it is told.
    pub(crate) fn note_request(&mut self, decoded: &Decoded, masks: impl FnOnce() -> Masks) {
        if let Some(content) = &mut self.content {
            content.note_request(decoded, masks());
        }
    }

    /// Notes a whole answer that the client gets.
    pub(crate) fn note_answer(&mut self, body: &Bytes) {
        if let Some(content) = &mut self.content {
            content.note_answer(body);
        }
    }

    /// Notes events of a stream that the client gets.
    pub(crate) fn note_events(&mut self, events: &[u8]) {
        if let Some(content) = &mut self.content {
            content.note_events(events);
        }
    }

    /// The attributes of what was said.
    fn content(&self) -> Vec<Value> {
        let content = self.content.as_ref();
        content.map_or_else(Vec::new, |content| content.attributes())
    }

    /// Tells everybody.
    pub(crate) fn tell(&self, ended: &Ended<'_>) {
        let Observers {
            access,
            traces,
            logs,
            litellm,
        } = &*self.observers;
        if let Some(access) = access {
            access.write(ended);
        }
        if let (Some(traces), Some(trace)) = (traces, &self.trace)
            && trace.is_sampled
        {
            traces.send(ended, trace);
        }
        if let Some(logs) = logs {
            logs.send(ended);
        }
        if let Some(litellm) = litellm {
            litellm.observe(ended);
        }
    }
}

impl Phases {
    /// What the gateway itself took: up to the first bytes of a stream, or of the whole request.
    pub(crate) fn overhead(&self) -> Option<Duration> {
        let shown = self.first_byte.unwrap_or(self.total);
        self.waited.map(|waited| shown.saturating_sub(waited))
    }
}

/// Milliseconds with three decimals.
pub(crate) fn millis(duration: Duration) -> f64 {
    let micros = u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
    f64::from(micros) / 1000.0
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{Exporter, Observers, Phases};

    #[track_caller]
    fn check(pieces: &[&str], expected: &[&str]) {
        let (exporter, _spans) = Exporter::new(1.0);
        let observers = Arc::new(Observers {
            traces: Some(exporter),
            ..Observers::default()
        });
        let mut watch = observers.watch(None).unwrap();
        for piece in pieces {
            watch.see(piece.as_bytes());
        }
        assert_eq!(watch.reasons, expected);
    }

    #[test]
    fn reasons_are_found_and_those_that_texts_tell_are_not() {
        check(
            &[r#"{"finish_reason":null}"#, r#"{"finish_reason": "stop"}"#],
            &["stop"],
        );
        check(
            &[r#"{"finish_reason":"stop"},{"finish_reason":"length"}"#],
            &["stop", "length"],
        );
        check(&[r#"{"stop_reason":"end_turn"}"#], &["end_turn"]);
        check(&[r#"{"content":"\"finish_reason\":\"x\""}"#], &[]);
        check(
            &[r#"{"finish_reason":"0123456789012345678901234567890123456789"}"#],
            &[],
        );
    }

    #[test]
    fn overhead_is_what_is_not_waiting() {
        let second = Duration::from_secs;
        let phases = Phases {
            queue: None,
            first_byte: None,
            total: second(5),
            waited: Some(second(3)),
        };
        assert_eq!(phases.overhead(), Some(second(2)));
        let stream = Phases {
            first_byte: Some(second(4)),
            ..phases
        };
        assert_eq!(stream.overhead(), Some(second(1)));
        assert_eq!(Phases::default().overhead(), None);
    }
}
