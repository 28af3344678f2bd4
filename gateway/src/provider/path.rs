//! Segments of paths: a model's name must not become another path.

use std::fmt::Write;

/// A text as one segment of a path: all but letters, digits, `-`, `.`, `_` and `~` as percent and two digits.
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::segment;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("gpt-4.1_x~"), "gpt-4.1_x~");
        assert_eq!(segment("a/../b?c#d:0 é"), "a%2F..%2Fb%3Fc%23d%3A0%20%C3%A9");
    }
}
