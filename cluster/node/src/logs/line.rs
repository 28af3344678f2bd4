//! One line of a log in the CRI format: `time stream F|P message`.

use jiff::Timestamp;

/// The longest message of one line; a longer one is written in parts.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024;

/// Which stream a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A parsed line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    pub(crate) time: Timestamp,
    /// The time as written, for `timestamps=true`.
    pub(crate) stamp: &'a str,
    pub(crate) stream: Stream,
    /// The last part of its message.
    pub(crate) is_full: bool,
    pub(crate) message: &'a [u8],
}

/// Reads a line without its line feed; `None` for what is not in the format.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let stamp = std::str::from_utf8(fields.next()?).ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let is_full = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Line {
        time: stamp.parse().ok()?,
        stamp,
        stream,
        is_full,
        message: fields.next().unwrap_or_default(),
    })
}

/// Writes a line with its line feed.
pub(crate) fn format(time: Timestamp, stream: Stream, is_full: bool, message: &[u8]) -> Vec<u8> {
    let tag = if is_full { 'F' } else { 'P' };
    let mut line = format!("{time:.9} {} {tag} ", stream.name()).into_bytes();
    line.extend_from_slice(message);
    line.push(b'\n');
    line
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    pending: Vec<u8>,
}

impl Splitter {
    /// Takes bytes and gives every message that they complete, with whether it is the last part of its line.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<(Vec<u8>, bool)> {
        let mut messages = Vec::new();
        while !bytes.is_empty() {
            let room = MESSAGE_BYTES_MAX - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            if let Some(end) = window.iter().position(|byte| *byte == b'\n') {
                self.pending.extend_from_slice(&window[..end]);
                messages.push((std::mem::take(&mut self.pending), true));
                bytes = &bytes[end + 1..];
            } else {
                self.pending.extend_from_slice(window);
                bytes = &bytes[window.len()..];
                let line_ends = bytes.first() == Some(&b'\n');
                if self.pending.len() == MESSAGE_BYTES_MAX && !line_ends {
                    messages.push((std::mem::take(&mut self.pending), false));
                } else if line_ends {
                    messages.push((std::mem::take(&mut self.pending), true));
                    bytes = &bytes[1..];
                }
            }
        }
        messages
    }

    /// What is left when the stream ends.
    pub(crate) fn finish(&mut self) -> Option<Vec<u8>> {
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }
}
