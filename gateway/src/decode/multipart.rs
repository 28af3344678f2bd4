//! Multipart forms, read as their bytes come: where parts begin and end, what they are called, and what is in them.
//!
//! Source: RFC 7578 and RFC 2046. A form is read more strictly than by most servers: what two readers could understand
//! differently is refused, since the gateway decides by its reading what the upstream's may do.

mod head;

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use thiserror::Error;

pub(crate) use self::head::{PartHead, boundary};

/// Bytes of the lines before a part's content.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Parts of a form.
const PARTS_MAX: usize = 256;
/// Spaces and tabs that may follow a boundary.
const PADDING_MAX: usize = 64;

/// Why a form cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidForm {
    /// No `multipart/form-data` with one sound boundary.
    #[error("the content type names no boundary that parts could be told apart by")]
    Boundary,
    /// Bytes before the first boundary, after the last one, or beside one.
    #[error("there are bytes outside of its parts")]
    Outside,
    /// A part whose head cannot be read in one way only.
    #[error("the head of a part is malformed: {0}")]
    Head(&'static str),
    /// More parts than are read.
    #[error("it has more than {PARTS_MAX} parts")]
    TooManyParts,
    /// The end came before the last boundary.
    #[error("it ended before its last boundary")]
    Cut,
}

/// What was found; positions count from the first byte of the form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins, and its content at this position.
    Begin(PartHead, u64),
    /// Bytes of its content.
    Content(Bytes),
    /// Its content ended at this position.
    End(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary.
    Start,
    /// Right behind a boundary.
    Behind,
    /// In the lines before a part's content.
    Head,
    /// At the line's end before a part's content.
    Blank,
    /// In a part's content.
    Content,
    /// Behind the last boundary.
    Done,
}

/// A form of which bytes come one by one.
#[derive(Debug)]
pub(crate) struct Scanner {
    /// A line's end, two dashes and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    /// The position of the buffer's first byte.
    position: u64,
    /// How far the buffer was searched in vain.
    searched: usize,
    state: State,
    parts: usize,
    pieces: VecDeque<Piece>,
}

impl Scanner {
    /// A form whose parts are told apart by this boundary.
    pub(crate) fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            buffer: BytesMut::new(),
            position: 0,
            searched: 0,
            state: State::Start,
            parts: 0,
            pieces: VecDeque::new(),
        }
    }

    /// Takes bytes; what they complete is handed out by [`Scanner::next`].
    ///
    /// # Errors
    /// [`InvalidForm`]; the form cannot be read on then.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), InvalidForm> {
        self.buffer.extend_from_slice(bytes);
        while self.step()? {}
        Ok(())
    }

    /// What was found next.
    pub(crate) fn next(&mut self) -> Option<Piece> {
        self.pieces.pop_front()
    }

    /// Whether the form may end here.
    ///
    /// # Errors
    /// [`InvalidForm::Cut`].
    pub(crate) fn finish(&self) -> Result<(), InvalidForm> {
        match self.state {
            State::Done => Ok(()),
            _ => Err(InvalidForm::Cut),
        }
    }

    /// Whether the buffer may hold more than was read of it.
    fn step(&mut self) -> Result<bool, InvalidForm> {
        match self.state {
            State::Start => self.start(),
            State::Behind => self.behind(),
            State::Head => self.head(),
            State::Blank => self.blank(),
            State::Content => self.content(),
            State::Done => self.done(),
        }
    }

    /// A form begins with its boundary; the line's end before it may be missing.
    fn start(&mut self) -> Result<bool, InvalidForm> {
        let whole = self.delimiter.as_slice();
        let bare = whole.get(2..).unwrap_or_default();
        let delimiter = match self.buffer.first() {
            None => return Ok(false),
            Some(b'\r') => whole,
            Some(_) => bare,
        };
        let length = delimiter.len().min(self.buffer.len());
        if self.buffer.get(..length) != delimiter.get(..length) {
            return Err(InvalidForm::Outside);
        }
        let is_whole = length == delimiter.len();
        if is_whole {
            self.consume(length);
            self.state = State::Behind;
        }
        Ok(is_whole)
    }

    /// Two dashes end the form; a line's end, perhaps after spaces, begins a part.
    fn behind(&mut self) -> Result<bool, InvalidForm> {
        if self.buffer.starts_with(b"--") {
            self.consume(2);
            self.state = State::Done;
            return Ok(true);
        }
        let spaces = self.buffer.iter().take_while(|byte| is_space(**byte));
        let padding = spaces.count();
        let rest = self.buffer.get(padding..).unwrap_or_default();
        if rest.starts_with(b"\r\n") && padding <= PADDING_MAX {
            self.consume(padding + 2);
            self.state = State::Head;
            return Ok(true);
        }
        let may_come =
            rest.is_empty() || rest == b"\r" || (padding == 0 && self.buffer.as_ref() == b"-");
        if !may_come || PADDING_MAX < padding {
            return Err(InvalidForm::Outside);
        }
        Ok(false)
    }

    fn head(&mut self) -> Result<bool, InvalidForm> {
        let Some(found) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            // The last bytes may be a part of the lines' end.
            return match HEAD_BYTES_MAX + 3 < self.buffer.len() {
                true => Err(InvalidForm::Head("it is too long")),
                false => Ok(false),
            };
        };
        if HEAD_BYTES_MAX < found {
            return Err(InvalidForm::Head("it is too long"));
        }
        self.parts += 1;
        if PARTS_MAX < self.parts {
            return Err(InvalidForm::TooManyParts);
        }
        let lines = self.buffer.get(..found).unwrap_or_default();
        let head = PartHead::parse(lines)?;
        self.consume(found + 2);
        let begin = self.position.saturating_add(2);
        self.pieces.push_back(Piece::Begin(head, begin));
        self.state = State::Blank;
        Ok(true)
    }

    /// A boundary right behind the head's last line would end a part that has no content, or be its content.
    fn blank(&mut self) -> Result<bool, InvalidForm> {
        let length = self.delimiter.len().min(self.buffer.len());
        if self.buffer.get(..length) == self.delimiter.get(..length) {
            return match length == self.delimiter.len() {
                true => Err(InvalidForm::Head("a boundary follows at once")),
                false => Ok(false),
            };
        }
        self.consume(2);
        self.state = State::Content;
        Ok(true)
    }

    fn content(&mut self) -> Result<bool, InvalidForm> {
        // Some readers take a bare line feed for a line's end: what is a boundary to them must be one.
        let needle = self.delimiter.get(1..).unwrap_or_default();
        let searched_in_vain = needle.len().saturating_sub(1);
        let rest = self.buffer.get(self.searched..).unwrap_or_default();
        let Some(found) = memmem::find(rest, needle) else {
            let tail = self.delimiter.len() - 1;
            let length = self.buffer.len().saturating_sub(tail);
            self.hand_out(length);
            self.searched = self.buffer.len().saturating_sub(searched_in_vain);
            return Ok(false);
        };
        let newline = self.searched + found;
        let length = newline.checked_sub(1);
        let Some(length) = length.filter(|at| self.buffer.get(*at) == Some(&b'\r')) else {
            return Err(InvalidForm::Outside);
        };
        self.hand_out(length);
        self.pieces.push_back(Piece::End(self.position));
        self.consume(self.delimiter.len());
        self.state = State::Behind;
        Ok(true)
    }

    fn hand_out(&mut self, length: usize) {
        if 0 < length {
            let content = self.buffer.split_to(length).freeze();
            self.position += length as u64;
            self.searched = 0;
            self.pieces.push_back(Piece::Content(content));
        }
    }

    /// Nothing but line ends may follow the last boundary.
    fn done(&mut self) -> Result<bool, InvalidForm> {
        if self.buffer.iter().any(|byte| !byte.is_ascii_whitespace()) {
            return Err(InvalidForm::Outside);
        }
        self.consume(self.buffer.len());
        Ok(false)
    }

    fn consume(&mut self, length: usize) {
        self.buffer.advance(length);
        self.position += length as u64;
        self.searched = 0;
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

#[cfg(test)]
mod tests;
