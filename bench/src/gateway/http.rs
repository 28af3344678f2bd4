//! As much of HTTP/1.1 as a benchmark needs to speak on both sides of a gateway.

use anyhow::{Context, Result, bail, ensure};

/// Bytes of a head that are accepted.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The head of a request or an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// Its first line.
    pub(super) start: String,
    /// Its length with the empty line.
    pub(super) bytes: usize,
    /// How the body ends.
    pub(super) framing: Framing,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With an empty chunk.
    Chunked,
}

impl Head {
    /// Reads a head; `None` while it is not complete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            ensure!(bytes.len() <= HEAD_BYTES_MAX, "a head that does not end");
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).context("a head that is no text")?;
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut framing = Framing::Length(0);
        for line in lines {
            let Some((name, value)) = line.split_once(':') else {
                bail!("the header line `{line}`");
            };
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.parse().context("reading a length")?;
                framing = Framing::Length(length);
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                ensure!(value == "chunked", "the transfer encoding `{value}`");
                framing = Framing::Chunked;
            }
        }
        Ok(Some(Self {
            start,
            bytes: end + 4,
            framing,
        }))
    }

    /// The status of an answer.
    pub(super) fn status(&self) -> Option<u16> {
        self.start.split(' ').nth(1)?.parse().ok()
    }

    /// The path of a request.
    pub(super) fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// A chunked body, out of pieces that are cut anywhere.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    state: State,
    /// The bytes of a line that has no end yet.
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    Data(usize),
    DataEnd,
    Trailer,
    Done,
}

impl Chunks {
    /// Takes a piece and appends what is content to the body.
    pub(super) fn push(&mut self, mut piece: &[u8], body: &mut Vec<u8>) -> Result<()> {
        while !piece.is_empty() {
            if let State::Data(left) = self.state {
                let take = left.min(piece.len());
                body.extend_from_slice(&piece[..take]);
                piece = &piece[take..];
                self.state = match left - take {
                    0 => State::DataEnd,
                    left => State::Data(left),
                };
                continue;
            }
            ensure!(self.state != State::Done, "bytes behind the last chunk");
            let Some(end) = piece.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(piece);
                return Ok(());
            };
            self.line.extend_from_slice(&piece[..end]);
            piece = &piece[end + 1..];
            self.end_line()?;
        }
        Ok(())
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn end_line(&mut self) -> Result<()> {
        let line = self.line.trim_ascii_end();
        self.state = match self.state {
            State::Size => {
                let text = std::str::from_utf8(line).context("reading a chunk's size")?;
                let size = usize::from_str_radix(text, 16).context("reading a chunk's size")?;
                if size == 0 {
                    State::Trailer
                } else {
                    State::Data(size)
                }
            }
            State::Trailer if line.is_empty() => State::Done,
            State::DataEnd => State::Size,
            other => other,
        };
        self.line.clear();
        Ok(())
    }
}

/// Bytes as one chunk.
pub(super) fn chunk(bytes: &str) -> String {
    format!("{:x}\r\n{bytes}\r\n", bytes.len())
}

#[cfg(test)]
mod tests {
    use super::{Chunks, Framing, Head, chunk};

    #[track_caller]
    fn check(text: &str, expected: Option<(&str, usize, Framing)>) {
        let head = Head::parse(text.as_bytes()).unwrap();
        let head = head
            .as_ref()
            .map(|head| (head.start.as_str(), head.bytes, head.framing));
        assert_eq!(head, expected, "{text:?}");
    }

    #[test]
    fn a_head_says_how_its_body_ends() {
        check("GET / HTTP/1.1\r\nHost: a\r\n", None);
        check(
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Some(("GET / HTTP/1.1", 27, Framing::Length(0))),
        );
        check(
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n{",
            Some(("HTTP/1.1 200 OK", 39, Framing::Length(12))),
        );
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n",
            Some(("HTTP/1.1 200 OK", 46, Framing::Chunked)),
        );
        assert!(Head::parse(b"A\r\ncontent-length: many\r\n\r\n").is_err());
    }

    #[test]
    fn chunks_survive_any_cut() {
        let text = format!(
            "{}{}0\r\n\r\n",
            chunk("first\r\n"),
            chunk("the second, longer one")
        );
        for cut in 0..text.len() {
            let (mut chunks, mut body) = (Chunks::default(), Vec::new());
            chunks.push(&text.as_bytes()[..cut], &mut body).unwrap();
            assert!(!chunks.is_done());
            chunks.push(&text.as_bytes()[cut..], &mut body).unwrap();
            assert!(chunks.is_done());
            assert_eq!(body, b"first\r\nthe second, longer one");
        }
    }
}
