//! Lines of JSON, however the bytes are cut.

use bytes::BytesMut;
use memchr::memchr;
use protocol::sse::{Event, InvalidStream};

use crate::wire::InvalidReply;

/// Cuts bytes into lines.
#[derive(Debug)]
pub(in crate::wire) struct Lines {
    buffer: BytesMut,
    /// How far the buffer was searched for the end of a line.
    searched: usize,
    line_bytes_max: usize,
}

impl Lines {
    /// Lines of at most so many bytes.
    pub(in crate::wire) fn new(line_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            searched: 0,
            line_bytes_max,
        }
    }

    /// Takes bytes and adds the lines that they complete, those before an error too, as events; empty lines say nothing.
    ///
    /// # Errors
    /// [`InvalidReply::Stream`]; the stream cannot be used after that.
    pub(in crate::wire) fn push(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), InvalidReply> {
        self.buffer.extend_from_slice(bytes);
        while let Some(offset) = self
            .buffer
            .get(self.searched..)
            .and_then(|rest| memchr(b'\n', rest))
        {
            let line = self.buffer.split_to(self.searched + offset + 1);
            self.searched = 0;
            events.extend(event(&line)?);
        }
        self.searched = self.buffer.len();
        if self.line_bytes_max < self.buffer.len() {
            let limit = self.line_bytes_max;
            return Err(InvalidStream::EventTooLong { limit }.into());
        }
        Ok(())
    }

    /// The last line, if its end is the end of the bytes.
    ///
    /// # Errors
    /// [`InvalidReply::Stream`].
    pub(in crate::wire) fn finish(&mut self) -> Result<Option<Event>, InvalidReply> {
        let line = self.buffer.split();
        self.searched = 0;
        event(&line)
    }
}

fn event(line: &[u8]) -> Result<Option<Event>, InvalidReply> {
    let text = std::str::from_utf8(line).map_err(|_| InvalidStream::NotUtf8)?;
    let text = text.trim_ascii();
    Ok((!text.is_empty()).then(|| Event::data(text)))
}

#[cfg(test)]
mod tests {
    use protocol::sse::Event;

    use super::Lines;

    #[test]
    fn lines_are_found_however_they_are_cut_and_the_last_needs_no_end() {
        let stream = "{\"a\":\"ü\"}\r\n\n{}\n[1]".as_bytes();
        for size in 1..=stream.len() {
            let mut lines = Lines::new(64);
            let mut seen = Vec::new();
            for chunk in stream.chunks(size) {
                lines.push(chunk, &mut seen).unwrap();
            }
            seen.extend(lines.finish().unwrap());
            let expected = ["{\"a\":\"ü\"}", "{}", "[1]"].map(Event::data);
            assert_eq!(seen, expected, "cut by {size}");
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut lines = Lines::new(4);
        assert!(lines.push(b"1234", &mut Vec::new()).is_ok());
        assert!(lines.push(b"5", &mut Vec::new()).is_err());
    }
}
