//! Server-sent events: an encoder, and an incremental parser that survives any split of the bytes.
//!
//! Source: WHATWG HTML, section 9.2 "Server-sent events".

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// The content type of an event stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The data that ends an OpenAI stream.
pub const DONE: &str = "[DONE]";

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
        self.buffer.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some((line_length, end_length)) = find_line(&self.buffer) {
            let line = self.buffer.split_to(line_length + end_length);
            self.event_bytes += line.len();
            let text =
                std::str::from_utf8(&line[..line_length]).map_err(|_| InvalidStream::NotUtf8)?;
            if let Some(event) = self.line(text) {
                events.push(event);
            }
            self.check_length()?;
        }
        self.check_length()?;
        Ok(events)
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

/// The length of the first line and of its end: `\n`, `\r\n`, or `\r` that more bytes follow.
fn find_line(buffer: &[u8]) -> Option<(usize, usize)> {
    let position = buffer
        .iter()
        .position(|byte| matches!(byte, b'\n' | b'\r'))?;
    match (buffer[position], buffer.get(position + 1)) {
        (b'\n', _) => Some((position, 1)),
        (_, Some(b'\n')) => Some((position, 2)),
        (_, Some(_)) => Some((position, 1)),
        // A carriage return at the very end may be half of a CRLF.
        (_, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, InvalidStream, Parser};

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
