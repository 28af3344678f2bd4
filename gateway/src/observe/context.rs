//! The context of a trace, as it comes from clients and goes to upstreams (W3C Trace Context).

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that names a trace and a span.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header with what vendors add to it.
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of it that are passed on.
const STATE_BYTES_MAX: usize = 512;

/// A request's place in a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The trace.
    pub(crate) id: [u8; 16],
    /// The client's span, if it named one.
    pub(crate) parent: Option<[u8; 8]>,
    /// The request's own span.
    pub(crate) span: [u8; 8],
    /// Whether spans of it are told.
    pub(crate) is_sampled: bool,
    state: Option<HeaderValue>,
}

impl Trace {
    /// The trace that a client names, or a new one if spans are told; `None` if there is neither.
    ///
    /// A client's decision to sample holds; of new traces `ratio` are sampled.
    pub(crate) fn of(headers: &HeaderMap, ratio: Option<f64>) -> Option<Self> {
        if let Some((id, parent, flags)) = headers.get(&TRACEPARENT).and_then(parse) {
            let state = headers.get(&TRACESTATE);
            return Some(Self {
                id,
                parent: Some(parent),
                // Without spans of our own the client's span stays the parent of the upstream's.
                span: ratio.map_or(parent, |_| rand::random()),
                is_sampled: flags & 1 == 1,
                state: state
                    .filter(|state| state.len() <= STATE_BYTES_MAX)
                    .cloned(),
            });
        }
        ratio.map(|ratio| Self {
            id: rand::random(),
            parent: None,
            span: rand::random(),
            is_sampled: rand::random::<f64>() < ratio,
            state: None,
        })
    }

    /// Names the trace to an upstream.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let flags = u8::from(self.is_sampled);
        let text = format!("00-{}-{}-{flags:02x}", hex(&self.id), hex(&self.span));
        if let Ok(value) = HeaderValue::from_str(&text) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(state) = &self.state {
            headers.insert(TRACESTATE, state.clone());
        }
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

/// The trace, the span and the flags of a version that is known, or a later one that begins alike.
fn parse(value: &HeaderValue) -> Option<([u8; 16], [u8; 8], u8)> {
    let text = value.to_str().ok()?;
    let mut parts = text.split('-');
    let version = bytes::<1>(parts.next()?)?;
    let (id, span) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
    let flags = bytes::<1>(parts.next()?)?;
    let is_known = version == [0] && parts.next().is_none() || (1..=254).contains(&version[0]);
    (is_known && id != [0; 16] && span != [0; 8]).then_some((id, span, flags[0]))
}

fn bytes<const LENGTH: usize>(text: &str) -> Option<[u8; LENGTH]> {
    if text.len() != 2 * LENGTH
        || text
            .bytes()
            .any(|byte| !matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    {
        return None;
    }
    let mut bytes = [0; LENGTH];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{TRACEPARENT, TRACESTATE, Trace};

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(parent: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(parent));
        headers.insert(TRACESTATE, HeaderValue::from_static("a=b"));
        headers
    }

    #[test]
    fn a_trace_goes_on_through_the_gateway() {
        let trace = Trace::of(&headers(PARENT), None).unwrap();
        let mut written = HeaderMap::new();
        trace.write(&mut written);
        assert_eq!(written, headers(PARENT));
        let trace = Trace::of(&headers(PARENT), Some(0.0)).unwrap();
        assert!(trace.is_sampled);
        assert_ne!(Some(trace.span), trace.parent);
    }

    #[test]
    fn what_is_no_context_begins_a_trace_or_none() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        ] {
            assert_eq!(Trace::of(&headers(bad), None), None, "{bad}");
            assert_eq!(Trace::of(&headers(bad), Some(1.0)).unwrap().parent, None);
        }
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert!(Trace::of(&headers(later), None).is_some());
        assert!(!Trace::of(&HeaderMap::new(), Some(0.0)).unwrap().is_sampled);
    }
}
