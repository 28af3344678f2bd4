//! The subset of SPDY/3.1 that port-forward clients speak: frames, and headers compressed with the protocol's dictionary.

mod dictionary;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use dictionary::dictionary;

const VERSION: u16 = 3;
const HEADER_BYTES: usize = 8;
/// Larger frames end the connection; clients send at most 32 KiB of data in one.
const FRAME_BYTES_MAX: usize = 1 << 20;
const HEADERS_BYTES_MAX: usize = 64 * 1024;
const HEADERS_MAX: u32 = 256;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;
const FLAG_FIN: u8 = 1;

/// Headers in order.
pub(super) type Headers = Vec<(String, String)>;

/// What a client sends that matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A new stream; `is_last` when the client sends nothing more on it.
    Open {
        stream: u32,
        headers: Headers,
        is_last: bool,
    },
    Data {
        stream: u32,
        bytes: Bytes,
        is_last: bool,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Settings, window updates and replies: nothing to do.
    Other,
}

/// Why a client's bytes are not SPDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpdyError {
    #[error("a frame is larger than {FRAME_BYTES_MAX} bytes")]
    TooLarge,
    #[error("a frame has version {0} of SPDY, not {VERSION}")]
    Version(u16),
    #[error("a frame is cut short")]
    Short,
    #[error("the headers cannot be decompressed")]
    Headers,
}

/// Cuts a stream of bytes into frames.
pub(super) struct Decoder {
    pending: BytesMut,
    headers: Decompress,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            pending: BytesMut::new(),
            headers: Decompress::new(true),
        }
    }
}

impl Decoder {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, SpdyError> {
        let Some(header) = self.pending.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let first = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        let flags = header[4];
        let length = usize::try_from(u32::from_be_bytes([0, header[5], header[6], header[7]]))
            .unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(SpdyError::TooLarge);
        }
        if self.pending.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        let body = self
            .pending
            .split_to(HEADER_BYTES + length)
            .freeze()
            .slice(HEADER_BYTES..);
        let is_last = flags & FLAG_FIN != 0;
        if first >> 31 == 0 {
            return Ok(Some(Frame::Data {
                stream: first,
                bytes: body,
                is_last,
            }));
        }
        let [high, low, ..] = first.to_be_bytes();
        let version = u16::from_be_bytes([high & 0x7f, low]);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        self.control(u16::try_from(first & 0xffff).unwrap_or(0), body, is_last)
            .map(Some)
    }

    fn control(&mut self, kind: u16, mut body: Bytes, is_last: bool) -> Result<Frame, SpdyError> {
        match kind {
            SYN_STREAM => {
                let stream = number(&mut body)?;
                // The associated stream, the priority and the slot mean nothing here.
                if body.len() < 6 {
                    return Err(SpdyError::Short);
                }
                body.advance(6);
                Ok(Frame::Open {
                    stream,
                    headers: self.decompress(&body)?,
                    is_last,
                })
            }
            SYN_REPLY | HEADERS => {
                let _stream = number(&mut body)?;
                // All headers of a session are one compressed stream, so none may be passed over.
                self.decompress(&body)?;
                Ok(Frame::Other)
            }
            RST_STREAM => Ok(Frame::Reset {
                stream: number(&mut body)?,
            }),
            PING => Ok(Frame::Ping {
                id: number(&mut body)?,
            }),
            GOAWAY => Ok(Frame::GoAway),
            _ => Ok(Frame::Other),
        }
    }

    fn decompress(&mut self, mut input: &[u8]) -> Result<Headers, SpdyError> {
        let mut block = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let (before_in, before_out) = (self.headers.total_in(), self.headers.total_out());
            let result = self
                .headers
                .decompress(input, &mut piece, FlushDecompress::Sync);
            let consumed = usize::try_from(self.headers.total_in() - before_in).unwrap_or(0);
            let produced = usize::try_from(self.headers.total_out() - before_out).unwrap_or(0);
            input = input.get(consumed..).unwrap_or_default();
            block.extend_from_slice(&piece[..produced]);
            match result {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.headers
                        .set_dictionary(&dictionary())
                        .map_err(|_| SpdyError::Headers)?;
                }
                Err(_) => return Err(SpdyError::Headers),
                Ok(Status::Ok | Status::BufError) if consumed == 0 && produced == 0 => break,
                Ok(_) => {}
            }
            if block.len() > HEADERS_BYTES_MAX {
                return Err(SpdyError::TooLarge);
            }
        }
        parse_headers(Bytes::from(block))
    }
}

fn number(body: &mut Bytes) -> Result<u32, SpdyError> {
    if body.len() < 4 {
        return Err(SpdyError::Short);
    }
    Ok(body.get_u32() & 0x7fff_ffff)
}

fn parse_headers(mut block: Bytes) -> Result<Headers, SpdyError> {
    let count = length(&mut block)?;
    if count > HEADERS_MAX {
        return Err(SpdyError::TooLarge);
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        headers.push((text(&mut block)?, text(&mut block)?));
    }
    Ok(headers)
}

fn length(block: &mut Bytes) -> Result<u32, SpdyError> {
    if block.len() < 4 {
        Err(SpdyError::Short)
    } else {
        Ok(block.get_u32())
    }
}

fn text(block: &mut Bytes) -> Result<String, SpdyError> {
    let length = usize::try_from(length(block)?).map_err(|_| SpdyError::Short)?;
    if block.len() < length {
        return Err(SpdyError::Short);
    }
    Ok(String::from_utf8_lossy(&block.split_to(length)).into_owned())
}

/// Writes frames to a client.
pub(super) struct Encoder {
    headers: Compress,
    is_begun: bool,
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            headers: Compress::new(Compression::fast(), true),
            is_begun: false,
        }
    }
}

impl Encoder {
    /// Accepts a stream.
    pub(super) fn reply(&mut self, stream: u32) -> Result<Bytes, SpdyError> {
        let headers = self.compress(&[])?;
        let mut body = BytesMut::with_capacity(headers.len() + 4);
        body.put_u32(stream);
        body.put_slice(&headers);
        Ok(control(SYN_REPLY, 0, &body))
    }

    /// A block of headers, the next part of the session's one compressed stream.
    pub(super) fn compress(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, SpdyError> {
        if !self.is_begun {
            self.headers
                .set_dictionary(&dictionary())
                .map_err(|_| SpdyError::Headers)?;
            self.is_begun = true;
        }
        let mut block = Vec::new();
        block.put_u32(u32::try_from(headers.len()).unwrap_or(0));
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            block.put_u32(u32::try_from(text.len()).unwrap_or(0));
            block.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(block.len() + 64);
        let before = self.headers.total_in();
        loop {
            let consumed = usize::try_from(self.headers.total_in() - before).unwrap_or(0);
            let rest = block.get(consumed..).unwrap_or_default();
            let length = out.len();
            self.headers
                .compress_vec(rest, &mut out, FlushCompress::Sync)
                .map_err(|_| SpdyError::Headers)?;
            if out.len() < out.capacity() || out.len() == length {
                return Ok(out);
            }
            out.reserve(256);
        }
    }
}

/// Data on a stream.
pub(super) fn data(stream: u32, bytes: &[u8], is_last: bool) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + bytes.len());
    frame.put_u32(stream & 0x7fff_ffff);
    put_length(&mut frame, if is_last { FLAG_FIN } else { 0 }, bytes.len());
    frame.put_slice(bytes);
    frame.freeze()
}

/// Refuses or breaks off a stream.
pub(super) fn reset(stream: u32) -> Bytes {
    /// The status REFUSED_STREAM.
    const REFUSED: u32 = 3;
    let mut body = BytesMut::new();
    body.put_u32(stream);
    body.put_u32(REFUSED);
    control(RST_STREAM, 0, &body)
}

/// Answers a ping.
pub(super) fn pong(id: u32) -> Bytes {
    control(PING, 0, &id.to_be_bytes())
}

fn control(kind: u16, flags: u8, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER_BYTES + body.len());
    frame.put_u16(0x8000 | VERSION);
    frame.put_u16(kind);
    put_length(&mut frame, flags, body.len());
    frame.put_slice(body);
    frame.freeze()
}

fn put_length(frame: &mut BytesMut, flags: u8, length: usize) {
    let [_, length @ ..] = u32::try_from(length).unwrap_or(0).to_be_bytes();
    frame.put_u8(flags);
    frame.put_slice(&length);
}

#[cfg(test)]
mod tests;
