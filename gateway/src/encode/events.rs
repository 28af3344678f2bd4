//! Cuts a stream into events without changing a byte, counts what they say, and leaves out what nobody asked for.

use std::{borrow::Cow, ops::Range};

use bytes::{Bytes, BytesMut};
use protocol::sse::{InvalidStream, data_of, find_event};

use super::unasked::null_usage;
use crate::{
    call::Operation,
    provider::{Tokens, openai},
};

/// Bytes of one event that are accepted.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Bytes of one event that holds an image.
const IMAGE_BYTES_MAX: usize = 64 << 20;

const fn event_bytes_max(operation: Operation) -> usize {
    match operation {
        Operation::ImageGeneration | Operation::ImageEdit => IMAGE_BYTES_MAX,
        _ => EVENT_BYTES_MAX,
    }
}

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Events {
    buffer: BytesMut,
    /// How far the buffer was searched for the end of an event.
    searched: usize,
    shows_usage: bool,
    operation: Operation,
    tally: Tally,
}

/// What was seen of a stream so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Events that carry a piece of the answer: an estimate of its tokens while no usage came.
    pub(crate) pieces: u64,
    /// The usage, once it came.
    pub(crate) tokens: Option<Tokens>,
    /// Whether the stream said that it ended.
    pub(crate) is_done: bool,
    /// Whether a part of the answer is complete, and the stream may end or go on with another part.
    pub(crate) may_end: bool,
    /// Whether the stream carried an error.
    pub(crate) is_error: bool,
}

impl Events {
    /// A stream whose client sees the usage event or not.
    pub(crate) fn new(operation: Operation, shows_usage: bool) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            shows_usage,
            operation,
            tally: Tally::default(),
        }
    }

    /// What was seen so far.
    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }

    /// Takes bytes and returns the complete events that the client sees, byte for byte but for what the gateway asked for.
    ///
    /// # Errors
    /// [`InvalidStream::EventTooLong`]; the stream cannot be used after that.
    pub(crate) fn push(&mut self, bytes: Bytes) -> Result<Bytes, InvalidStream> {
        if self.buffer.is_empty() && self.read_whole(&bytes) {
            return Ok(bytes);
        }
        self.buffer.extend_from_slice(&bytes);
        let mut shown = BytesMut::new();
        self.searched = loop {
            let length = match find_event(&self.buffer, self.searched) {
                Ok(length) => length,
                Err(searched) => break searched,
            };
            let mut event = self.buffer.split_to(length);
            self.searched = 0;
            if let Some(unasked) = self.unasked(&event) {
                event.copy_within(unasked.end.., unasked.start);
                event.truncate(event.len() - unasked.len());
            }
            if self.read(&event) {
                shown.extend_from_slice(&event);
            }
        };
        let limit = event_bytes_max(self.operation);
        if limit < self.buffer.len() {
            return Err(InvalidStream::EventTooLong { limit });
        }
        Ok(shown.freeze())
    }

    /// Reads bytes that are whole events of which the client sees all: the common case, in which nothing is copied.
    /// Otherwise nothing is read.
    fn read_whole(&mut self, bytes: &[u8]) -> bool {
        let before = self.tally;
        let mut rest = bytes;
        while !rest.is_empty() {
            let is_shown = find_event(rest, 0).is_ok_and(|length| {
                let (event, behind) = rest.split_at(length);
                rest = behind;
                self.unasked(event).is_none() && self.read(event)
            });
            if !is_shown {
                self.tally = before;
                return false;
            }
        }
        true
    }

    /// Where an event says what is said only because the gateway asked for the usage and the client did not.
    fn unasked(&self, event: &[u8]) -> Option<Range<usize>> {
        let is_asked = matches!(self.operation, Operation::Chat | Operation::Completion);
        if self.shows_usage || !is_asked {
            return None;
        }
        null_usage(event)
    }

    /// Reads an event; whether the client sees it.
    fn read(&mut self, event: &[u8]) -> bool {
        let Some(data) = data_in(event) else {
            return true;
        };
        let facts = openai::decode_event(&data, self.operation);
        self.tally.is_done |= facts.is_done;
        self.tally.may_end |= facts.may_end;
        self.tally.is_error |= facts.is_error;
        if let Some(tokens) = facts.tokens {
            self.tally.tokens = Some(self.tally.tokens.unwrap_or_default().merge(tokens));
        }
        self.tally.pieces += u64::from(facts.is_piece);
        self.shows_usage || !facts.is_usage_only
    }
}

/// The data of an event, lines joined by a line feed; `None` for comments.
fn data_in(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut lines = data_of(event);
    let first = &event[lines.next()?];
    let Some(second) = lines.next() else {
        return Some(Cow::Borrowed(first));
    };
    let mut whole = first.to_vec();
    for line in std::iter::once(second).chain(lines) {
        whole.push(b'\n');
        whole.extend_from_slice(&event[line]);
    }
    Some(Cow::Owned(whole))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{EVENT_BYTES_MAX, Events, Tally};
    use crate::{call::Operation, provider::Tokens};

    const USAGE: &str = r#"data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}"#;

    #[track_caller]
    fn check(stream: &str, shows_usage: bool, shown: &str, tally: Tally) {
        for size in 1..=stream.len() {
            let mut events = Events::new(Operation::Chat, shows_usage);
            let seen: Vec<u8> = stream
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| events.push(Bytes::copy_from_slice(chunk)).unwrap())
                .collect();
            assert_eq!(
                String::from_utf8_lossy(&seen),
                shown,
                "split into chunks of {size}"
            );
            assert_eq!(events.tally(), tally, "split into chunks of {size}");
        }
    }

    #[test]
    fn events_pass_byte_for_byte_but_for_usage_that_nobody_asked_for() {
        let tokens = Some(Tokens {
            prompt: 1,
            completion: 2,
            cached: None,
        });
        let whole = Tally {
            pieces: 2,
            tokens,
            is_done: true,
            ..Tally::default()
        };
        let pieces = "data: {\"choices\":[{}]}\n\n: ping\n\ndata:{\"grüße\":1}\n\n";
        let done = "data: [DONE]\n\n";
        let stream = format!("{pieces}{USAGE}\n\n{done}");
        check(&stream, true, &stream, whole);
        check(&stream, false, &format!("{pieces}{done}"), whole);
        for line_end in ["\r\n", "\r"] {
            // A carriage return at the very end may be half of a line's end: something must follow.
            let [stream, rest] =
                [&stream, &format!("{pieces}{done}")].map(|stream| stream.replace('\n', line_end));
            check(&format!("{stream}data"), true, &stream, whole);
            check(&format!("{stream}data"), false, &rest, whole);
        }
    }

    #[test]
    fn events_say_nothing_of_usage_that_nobody_asked_for() {
        let pieces =
            "data: {\"choices\":[{}],\"usage\":null}\n\ndata: {\"choices\":[{\"usage\":null}]}\n\n";
        let tally = Tally {
            pieces: 2,
            ..Tally::default()
        };
        check(pieces, true, pieces, tally);
        check(
            pieces,
            false,
            &pieces.replacen(",\"usage\":null", "", 1),
            tally,
        );
    }

    #[test]
    fn an_event_that_is_not_complete_is_not_passed_on() {
        let tally = Tally {
            pieces: 1,
            ..Tally::default()
        };
        check("data: 1\n\ndata: 2\n", false, "data: 1\n\n", tally);
        let error = "event: x\ndata: {\"error\":\ndata: {}}\n\n";
        check(
            error,
            false,
            error,
            Tally {
                is_error: true,
                ..Tally::default()
            },
        );
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut events = Events::new(Operation::Chat, true);
        assert!(events.push(vec![b'x'; EVENT_BYTES_MAX].into()).is_ok());
        assert!(events.push(Bytes::from_static(b"x")).is_err());
    }
}
