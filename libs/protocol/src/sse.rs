//! Server-sent events: an encoder, an incremental parser that survives any split of the bytes, and the same reading of
//! events that are passed on as they are.
//!
//! Source: WHATWG HTML, section 9.2 "Server-sent events".

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;
use thiserror::Error;

/// The content type of an event stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The data that ends an OpenAI stream.
pub const DONE: &str = "[DONE]";

/// A byte order mark, which may stand before the first line of a stream.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// One event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Event {
    /// The event's type; empty means `message`.
    pub event: String,
    /// The data, lines joined by a line feed.
    pub data: String,
    /// The id, if the event carried one.
    pub id: Option<String>,
}

impl Event {
    /// An event of the default type.
    pub fn data(data: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// Writes the event as it goes over the wire, ending in an empty line.
    pub fn encode(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 16);
        if let Some(id) = &self.id {
            text.push_str("id: ");
            text.push_str(id);
            text.push('\n');
        }
        if !self.event.is_empty() {
            text.push_str("event: ");
            text.push_str(&self.event);
            text.push('\n');
        }
        for line in self.data.split('\n') {
            text.push_str("data: ");
            text.push_str(line);
            text.push('\n');
        }
        text.push('\n');
        Bytes::from(text)
    }
}

/// Why a stream cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidStream {
    /// One event is longer than the limit.
    #[error("an event is longer than {limit} bytes")]
    EventTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A line is not UTF-8.
    #[error("a line of the stream is not UTF-8")]
    NotUtf8,
}

/// Turns bytes, however they are split, into events.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    is_begun: bool,
    pending: Event,
    has_data: bool,
    event_bytes: usize,
    event_bytes_max: usize,
}

impl Parser {
    /// A parser that refuses events over `event_bytes_max` bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            is_begun: false,
            pending: Event::default(),
            has_data: false,
            event_bytes: 0,
            event_bytes_max,
        }
    }

    /// Takes bytes and returns the events that they complete.
    ///
    /// # Errors
    /// [`InvalidStream`]; the stream cannot be used after that.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Event>, InvalidStream> {
        let mut events = Vec::new();
        self.push_into(bytes, &mut events)?;
        Ok(events)
    }

    /// Takes bytes and adds the events that they complete, those before an error too.
    ///
    /// # Errors
    /// [`InvalidStream`]; the stream cannot be used after that.
    pub fn push_into(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), InvalidStream> {
        self.buffer.extend_from_slice(bytes);
        while let Ok(Some((line_length, end_length))) = find_line(&self.buffer, self.searched) {
            self.searched = 0;
            let line = self.buffer.split_to(line_length + end_length);
            self.event_bytes += line.len();
            let line = &line[..line_length];
            let marked = line
                .strip_prefix(BYTE_ORDER_MARK)
                .filter(|_| !self.is_begun);
            self.is_begun = true;
            let text = std::str::from_utf8(marked.unwrap_or(line));
            let text = text.map_err(|_| InvalidStream::NotUtf8)?;
            if let Some(event) = self.line(text) {
                events.push(event);
            }
            self.check_length()?;
        }
        // The last byte may be half of a line's end.
        self.searched = self.buffer.len().saturating_sub(1);
        self.check_length()
    }

    fn check_length(&self) -> Result<(), InvalidStream> {
        if self.event_bytes_max < self.event_bytes.saturating_add(self.buffer.len()) {
            return Err(InvalidStream::EventTooLong {
                limit: self.event_bytes_max,
            });
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            self.event_bytes = 0;
            let event = std::mem::take(&mut self.pending);
            return std::mem::take(&mut self.has_data).then_some(event);
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if self.has_data {
                    self.pending.data.push('\n');
                }
                self.pending.data.push_str(value);
                self.has_data = true;
            }
            "event" => value.clone_into(&mut self.pending.event),
            "id" => self.pending.id = Some(value.to_owned()),
            // A comment (empty field name), `retry`, or a field from the future: the specification ignores it.
            _ => {}
        }
        None
    }
}

/// The length of the first event, its empty line included; or how many bytes need not be searched again when more have
/// come. A carriage return at the very end may be half of a line's end, so that it ends nothing yet.
///
/// # Errors
/// There is no end of an event.
pub fn find_event(bytes: &[u8], searched: usize) -> Result<usize, usize> {
    let mut at = searched;
    while let Some((end, length)) = find_line(bytes, at)? {
        let is_empty = end
            .checked_sub(1)
            .is_none_or(|before| matches!(bytes[before], b'\n' | b'\r'));
        at = end + length;
        if is_empty {
            return Ok(at);
        }
    }
    Err(bytes.len())
}

/// Where the data of an event lies, line by line; nothing for comments.
pub fn data_of(event: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < event.len() {
            let begin = at;
            let (end, length) = find_line(event, at)
                .ok()
                .flatten()
                .unwrap_or((event.len(), 0));
            at = end + length;
            let line = event[begin..end]
                .strip_suffix(b"\r")
                .unwrap_or(&event[begin..end]);
            let marked = if begin == 0 {
                line.strip_prefix(BYTE_ORDER_MARK)
            } else {
                None
            };
            let Some(value) = marked.unwrap_or(line).strip_prefix(b"data") else {
                continue;
            };
            let end = begin + line.len();
            match value {
                [] => return Some(end..end),
                [b':', b' ', rest @ ..] | [b':', rest @ ..] => return Some(end - rest.len()..end),
                _ => {}
            }
        }
        None
    })
}

/// Where the line that goes on at `from` ends, and the length of its end: `\n`, `\r\n`, or `\r` that more bytes follow.
///
/// # Errors
/// The place of a carriage return at the very end, which may be half of a line's end.
fn find_line(bytes: &[u8], from: usize) -> Result<Option<(usize, usize)>, usize> {
    let Some(offset) = memchr2(b'\n', b'\r', &bytes[from..]) else {
        return Ok(None);
    };
    let end = from + offset;
    match bytes[end..] {
        [b'\r', b'\n', ..] => Ok(Some((end, 2))),
        [b'\r'] => Err(end),
        _ => Ok(Some((end, 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, InvalidStream, Parser, data_of, find_event};

    #[track_caller]
    fn check(stream: &str, expected: &[Event]) {
        for size in 1..=stream.len() {
            let mut parser = Parser::new(1024);
            let events: Vec<Event> = stream
                .as_bytes()
                .chunks(size)
                .flat_map(|chunk| parser.push(chunk).unwrap())
                .collect();
            assert_eq!(events, expected, "split into chunks of {size}");
        }
    }

    #[test]
    fn any_split_of_the_bytes_gives_the_same_events() {
        check(
            "data: a\n\ndata: b\n\n",
            &[Event::data("a"), Event::data("b")],
        );
        check(
            "data: a\r\n\r\n: comment\r\ndata:b\r\n\r\n",
            &[Event::data("a"), Event::data("b")],
        );
        check("data: one\ndata: two\n\n", &[Event::data("one\ntwo")]);
        check("data: grüße 🙂\n\n", &[Event::data("grüße 🙂")]);
        check("event: ping\n\n", &[]);
        check(
            "data: a\r\rdata\rdata: b\r\r\n",
            &[Event::data("a"), Event::data("\nb")],
        );
        check(
            "\u{feff}data: a\n\n\u{feff}data: b\n\n",
            &[Event::data("a")],
        );
        let named = Event {
            event: "delta".to_owned(),
            data: "{}".to_owned(),
            id: Some("7".to_owned()),
        };
        check("id: 7\nevent: delta\ndata: {}\n\n", &[named]);
    }

    #[test]
    fn an_encoded_event_parses_to_itself() {
        let event = Event {
            event: "x".to_owned(),
            data: "a\n\nb".to_owned(),
            id: Some("1".to_owned()),
        };
        let mut parser = Parser::new(1024);
        assert_eq!(parser.push(&event.encode()).unwrap(), [event]);
    }

    #[track_caller]
    fn check_data(stream: &str, expected: &[&[&str]]) {
        let bytes = stream.as_bytes();
        let (mut at, mut found) = (0, Vec::new());
        while let Ok(length) = find_event(&bytes[at..], 0) {
            let event = &bytes[at..at + length];
            let lines = data_of(event).map(|range| std::str::from_utf8(&event[range]).unwrap());
            found.push(lines.collect::<Vec<_>>());
            at += length;
        }
        assert_eq!(found, expected, "{stream:?}");
        for cut in 0..bytes.len() {
            let searched = find_event(&bytes[..cut], 0);
            let whole = find_event(bytes, 0);
            let resumed = searched.or_else(|searched| find_event(bytes, searched));
            assert_eq!(resumed, whole, "{stream:?} cut at {cut}");
        }
    }

    #[test]
    fn the_data_of_events_is_found_where_it_lies() {
        check_data("data: a\n\n: x\ndata:b\r\n\r\n", &[&["a"], &["b"]]);
        check_data(": x\rdata: a\r\rdata:  b\ndata\n\n", &[&["a"], &[" b", ""]]);
        check_data("database: a\nevent: data\n\n", &[&[]]);
        check_data("\n\u{feff}data: a\n\n\n", &[&[], &["a"], &[]]);
        check_data("data: a\n\r\ndata: b", &[&["a"]]);
    }

    #[test]
    fn an_event_over_the_limit_is_refused() {
        let mut parser = Parser::new(16);
        assert_eq!(parser.push(b"data: 0123456789"), Ok(Vec::new()));
        assert_eq!(
            parser.push(b"0"),
            Err(InvalidStream::EventTooLong { limit: 16 })
        );
    }
}
