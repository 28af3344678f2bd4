//! What must hold of every parser of outside data, whatever the bytes: fuzz targets and tests make the same claims.
//!
//! The claims stand beside their parsers. A claim that does not hold panics.

use http::{HeaderMap, HeaderValue};

pub use crate::{
    decode::claims::{form, json},
    encode::claims::events,
    guard::claims::guards,
    rpc::claims::messages,
    wire::claims::translation,
};
use crate::{decode::multipart::boundary, observe::Trace, paths, realtime};

/// A claim about any bytes.
pub type Claim = fn(&[u8]);

/// All claims, by the names of their fuzz targets.
pub const CLAIMS: [(&str, Claim); 7] = [
    ("events", events),
    ("form", form),
    ("guards", guards),
    ("heads", heads),
    ("json", json),
    ("messages", messages),
    ("translation", translation),
];

/// Paths and headers are read without fail, and what is taken from them is sound.
pub fn heads(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(paths::place(text));
        if let Some(decoded) = paths::decode_percent(text) {
            assert!(decoded.len() <= text.len(), "{text:?} has grown");
        }
    }
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    if let Ok(boundary) = boundary(Some(&value)) {
        assert!((1..=70).contains(&boundary.len()), "{boundary:?}");
        assert!(!boundary.contains(['\r', '\n', '"']), "{boundary:?}");
    }
    let mut headers = HeaderMap::new();
    for name in ["traceparent", "tracestate", "sec-websocket-protocol"] {
        headers.insert(name, value.clone());
    }
    if let Some(trace) = Trace::of(&headers, Some(1.0)) {
        let mut told = HeaderMap::new();
        trace.write(&mut told);
        assert!(Trace::of(&told, None).is_some(), "{told:?}");
    }
    drop(realtime::opening(&headers, &mut HeaderMap::new()));
}

/// What a text in chunks is made of: sizes of chunks that take turns, and the bytes.
#[derive(Debug)]
pub(crate) struct Cut<'a> {
    sizes: &'a [u8],
    /// All bytes.
    pub(crate) whole: &'a [u8],
}

impl<'a> Cut<'a> {
    /// The first byte tells how many sizes follow it.
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        let (count, rest) = byte(bytes);
        let (sizes, whole) = rest.split_at(usize::from(count % 8).min(rest.len()));
        Self { sizes, whole }
    }

    /// The chunks.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut sizes = self.sizes.iter().cycle();
        let mut rest = self.whole;
        std::iter::from_fn(move || {
            let size = sizes.next().map_or(1, |size| usize::from(*size).max(1));
            let (chunk, behind) = rest.split_at(size.min(rest.len()));
            rest = behind;
            (!chunk.is_empty()).then_some(chunk)
        })
    }
}

/// The first byte, which chooses what is claimed, and the rest.
pub(crate) fn byte(bytes: &[u8]) -> (u8, &[u8]) {
    bytes
        .split_first()
        .map_or((0, bytes), |(first, rest)| (*first, rest))
}

#[cfg(test)]
mod tests;
