//! Amazon's `application/vnd.amazon.eventstream`: frames of a length, headers, a payload and checksums.
//!
//! ```text
//! length of all (4) | length of headers (4) | CRC of these (4) | headers | payload | CRC of all before (4)
//! header: length of name (1) | name | type (1) | value
//! ```

use bytes::{Buf, BytesMut};
use protocol::sse::Event;

use crate::wire::InvalidReply;

/// Bytes before the headers.
const PRELUDE: usize = 12;
/// Bytes of the last checksum.
const CHECKSUM: usize = 4;
/// The type of headers that hold a text, the only ones that say something here.
const TEXT: u8 = 7;

/// Cuts bytes into frames.
#[derive(Debug)]
pub(in crate::wire) struct Frames {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Frames {
    /// Frames of at most so many bytes.
    pub(in crate::wire) fn new(frame_bytes_max: usize) -> Self {
        Self {
            buffer: BytesMut::new(),
            frame_bytes_max,
        }
    }

    /// Takes bytes and adds the frames that they complete, those before an error too, as events: the type and the
    /// payload.
    ///
    /// # Errors
    /// [`InvalidReply::Frame`]; the stream cannot be used after that.
    pub(in crate::wire) fn push(
        &mut self,
        bytes: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), InvalidReply> {
        self.buffer.extend_from_slice(bytes);
        while let Some(length) = self.length()? {
            if self.buffer.len() < length {
                break;
            }
            let frame = self.buffer.split_to(length);
            events.push(read(&frame)?);
        }
        Ok(())
    }

    /// The length of the first frame, once its prelude is there.
    fn length(&self) -> Result<Option<usize>, InvalidReply> {
        let Some(prelude) = self.buffer.first_chunk::<PRELUDE>() else {
            return Ok(None);
        };
        let mut reader = &prelude[..];
        let (length, _headers, checksum) = (reader.get_u32(), reader.get_u32(), reader.get_u32());
        let (checked, _) = prelude.split_at(PRELUDE - CHECKSUM);
        if crc32fast::hash(checked) != checksum {
            return Err(InvalidReply::Frame("its prelude has another checksum"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length < PRELUDE + CHECKSUM || self.frame_bytes_max < length {
            return Err(InvalidReply::Frame("its length cannot be"));
        }
        Ok(Some(length))
    }
}

/// Reads one whole frame.
fn read(frame: &[u8]) -> Result<Event, InvalidReply> {
    let (content, mut checksum) = frame.split_at(frame.len().saturating_sub(CHECKSUM));
    if checksum.try_get_u32() != Ok(crc32fast::hash(content)) {
        return Err(InvalidReply::Frame("it has another checksum"));
    }
    let body = content.get(PRELUDE..).unwrap_or_default();
    let mut prelude = content.get(4..8).unwrap_or_default();
    let headers = prelude.try_get_u32().unwrap_or(u32::MAX);
    let headers = usize::try_from(headers).unwrap_or(usize::MAX);
    let Some((headers, payload)) = body.split_at_checked(headers) else {
        return Err(InvalidReply::Frame("its headers are longer than itself"));
    };
    let event = event_type(headers).ok_or(InvalidReply::Frame("its headers are malformed"))?;
    let data = std::str::from_utf8(payload)
        .map_err(|_| InvalidReply::Frame("its payload is not UTF-8"))?;
    Ok(Event {
        event,
        ..Event::data(data)
    })
}

/// What a frame says it is: an event, an exception, or an error; empty if nothing. `None` for malformed headers.
fn event_type(mut headers: &[u8]) -> Option<String> {
    let mut found = String::new();
    while !headers.is_empty() {
        let length = headers.try_get_u8().ok()?;
        let name = take(&mut headers, length.into())?;
        let kind = headers.try_get_u8().ok()?;
        let length = match kind {
            // True and false are in the type.
            0 | 1 => 0,
            2 => 1,
            3 => 2,
            4 => 4,
            5 | 8 => 8,
            6 | TEXT => headers.try_get_u16().ok()?.into(),
            9 => 16,
            _ => return None,
        };
        let value = take(&mut headers, length)?;
        let names = [&b":event-type"[..], b":exception-type", b":error-code"];
        if kind == TEXT && names.contains(&name) {
            found = std::str::from_utf8(value).ok()?.to_owned();
        }
    }
    Some(found)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A frame as Bedrock sends it.
#[cfg(any(test, fuzzing))]
pub(in crate::wire) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    use bytes::BufMut;

    let mut encoded = Vec::new();
    for (name, value) in headers {
        encoded.put_u8(u8::try_from(name.len()).unwrap_or(u8::MAX));
        encoded.put_slice(name.as_bytes());
        encoded.put_u8(TEXT);
        encoded.put_u16(u16::try_from(value.len()).unwrap_or(u16::MAX));
        encoded.put_slice(value.as_bytes());
    }
    let length_of = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let length = PRELUDE + encoded.len() + payload.len() + CHECKSUM;
    let mut frame = Vec::new();
    frame.put_u32(length_of(length));
    frame.put_u32(length_of(encoded.len()));
    frame.put_u32(crc32fast::hash(&frame));
    frame.put_slice(&encoded);
    frame.put_slice(payload);
    frame.put_u32(crc32fast::hash(&frame));
    frame
}

#[cfg(test)]
mod tests {
    use protocol::sse::Event;

    use super::{Frames, frame};

    const HEADERS: [(&str, &str); 3] = [
        (":event-type", "messageStop"),
        (":content-type", "application/json"),
        (":message-type", "event"),
    ];

    fn stop() -> Event {
        Event {
            event: "messageStop".to_owned(),
            ..Event::data("{\"stopReason\":\"end_turn\"}")
        }
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let one = frame(&HEADERS, stop().data.as_bytes());
        let stream = [one.as_slice(), &one].concat();
        for size in 1..=stream.len() {
            let mut frames = Frames::new(4096);
            let mut events = Vec::new();
            for chunk in stream.chunks(size) {
                frames.push(chunk, &mut events).unwrap();
            }
            assert_eq!(events, [stop(), stop()], "cut by {size}");
        }
    }

    #[test]
    fn a_frame_with_any_byte_changed_is_refused() {
        let whole = frame(&HEADERS, stop().data.as_bytes());
        for place in 0..whole.len() {
            let mut broken = whole.clone();
            broken[place] ^= 1;
            let seen = Frames::new(4096).push(&broken, &mut Vec::new());
            assert!(seen.is_err(), "byte {place}: {seen:?}");
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused() {
        let whole = frame(&HEADERS, b"{}");
        let push = |max| Frames::new(max).push(&whole, &mut Vec::new());
        assert!(push(whole.len()).is_ok());
        assert!(push(whole.len() - 1).is_err());
    }

    #[test]
    fn a_recorded_frame_of_amazons_documentation_is_read() {
        // The example of a message with a payload and no headers: every SDK tests it.
        let bytes = [
            0x00, 0x00, 0x00, 0x1d, 0x00, 0x00, 0x00, 0x00, 0xfd, 0x52, 0x8c, 0x5a, 0x7b, 0x27,
            0x66, 0x6f, 0x6f, 0x27, 0x3a, 0x27, 0x62, 0x61, 0x72, 0x27, 0x7d, 0xc3, 0x65, 0x39,
            0x36,
        ];
        let mut events = Vec::new();
        Frames::new(4096).push(&bytes, &mut events).unwrap();
        assert_eq!(events, [Event::data("{'foo':'bar'}")]);
    }
}
