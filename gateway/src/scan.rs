//! A scanner over the bytes of a JSON text: finds where values end, without a tree, without recursion.
//!
//! It believes nothing: any bytes are scanned to their end in linear time, and what is not JSON has ends somewhere. The
//! gateway's decoder refuses malformed bodies before.

use memchr::memchr;

/// Bytes that are looked at at once.
const WINDOW_BYTES: usize = 64;
/// Windows after an escaped quote in which the next one is expected.
const WINDOWS_MAX: usize = 16;

/// A place in a JSON text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    /// At the beginning of a text.
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were passed.
    pub(crate) fn at(&self) -> usize {
        self.at.min(self.text.len())
    }

    /// The next byte that is not white space, without passing it.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.text.get(self.at) {
            if !is_space(*byte) {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// What was passed since the scanner was at `begin`.
    pub(crate) fn since(&self, begin: Self) -> &'a [u8] {
        let end = self.at.min(self.text.len());
        self.text.get(begin.at..end).unwrap_or_default()
    }

    /// Passes one byte.
    pub(crate) fn pass(&mut self) {
        self.at += 1;
    }

    /// Passes the next byte that is not white space if it is this one.
    pub(crate) fn pass_if(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Passes a string, whose opening quote is next; as it is written, with its quotes.
    pub(crate) fn string(&mut self) -> &'a [u8] {
        let begin = self.at;
        self.at = string_end(self.text, begin);
        &self.text[begin..self.at]
    }

    /// Passes a run of what is neither white space nor a string.
    pub(crate) fn run(&mut self) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let ends = |byte: &u8| is_space(*byte) || *byte == b'"';
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Passes a value and the white space before it; empty if what is next begins none.
    pub(crate) fn value(&mut self) -> &'a [u8] {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{' | b'[') => self.composite(),
            Some(_) => self.scalar(),
            None => &[],
        }
    }

    fn scalar(&mut self) -> &'a [u8] {
        let rest = &self.text[self.at..];
        let ends = |byte: &u8| is_space(*byte) || matches!(*byte, b',' | b':' | b'}' | b']' | b'"');
        let length = rest.iter().position(ends).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    /// Counts brackets without asking which kind closes which: the ends of what is well formed are the same.
    fn composite(&mut self) -> &'a [u8] {
        let begin = self.at;
        let mut depth = 0_usize;
        while let Some(byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.at = string_end(self.text, self.at);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
        &self.text[begin..self.at]
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

/// Where the string that begins with the quote at `begin` ends, after its closing quote. A quote closes it if an even
/// number of backslashes stands before it; each run of backslashes is counted once, so the time is linear.
fn string_end(text: &[u8], begin: usize) -> usize {
    let first = begin + 1;
    let mut from = first;
    while let Some(found) = memchr(b'"', text.get(from..).unwrap_or_default()) {
        let quote = from + found;
        let before = text[first..quote].iter().rev();
        let backslashes = before.take_while(|byte| **byte == b'\\').count();
        if backslashes.is_multiple_of(2) {
            return quote + 1;
        }
        from = pass_escaped(text, quote + 1);
    }
    text.len()
}

/// Passes windows in which no quote can close a string. Escaped quotes come in crowds: to look at each costs more than
/// to look at all bytes at once. There are at least two bytes of the string before `from`.
fn pass_escaped(text: &[u8], mut from: usize) -> usize {
    for _ in 0..WINDOWS_MAX {
        let window = text.get(from - 2..).unwrap_or_default();
        match window.first_chunk() {
            Some(window) if !may_close(window) => from += WINDOW_BYTES,
            _ => break,
        }
    }
    from
}

/// Whether there is a quote behind the first two bytes that has not exactly one backslash before it. Written without
/// branches, so that the compiler compares many bytes with one instruction.
fn may_close(window: &[u8; WINDOW_BYTES + 2]) -> bool {
    let bytes = window[2..].iter().zip(&window[1..]).zip(window);
    let found = bytes.fold(0, |found, ((byte, before), second_before)| {
        let is_quote = u8::from(*byte == b'"');
        let is_escaped = u8::from(*before == b'\\') & u8::from(*second_before != b'\\');
        found | is_quote & !is_escaped
    });
    found != 0
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{Strategy, any, prop_oneof, proptest};
    use proptest::sample::select;
    use serde_json::Value;

    use super::Scanner;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let mut scanner = Scanner::new(text.as_bytes());
        assert_eq!(String::from_utf8_lossy(scanner.value()), expected);
    }

    #[test]
    fn values_end_where_they_end() {
        check(r#" "a" , 1"#, r#""a""#);
        check(r#""a\"b" "c""#, r#""a\"b""#);
        check(r#""a\\" "c""#, r#""a\\""#);
        check(r#""\\\"" ]"#, r#""\\\"""#);
        check("\t-1.5e3, 2", "-1.5e3");
        check("null}", "null");
        check(r#"{"a]": [1, {"}": 2}]} x"#, r#"{"a]": [1, {"}": 2}]}"#);
        check("[]]", "[]");
        check("", "");
        check("  ", "");
        check("}", "");
        check(r#""open"#, r#""open"#);
        check(r#""open\"#, r#""open\"#);
        check("[[[", "[[[");
        check("\"", "\"");
        for before in 0..200 {
            let string = format!("\"{}{}\"", "x".repeat(before), "\\\"".repeat(before));
            check(&format!("{string}\""), &string);
        }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            vec(select(vec!['\\', '"', '{', ']', 'a']), 0..8)
                .prop_map(|text| Value::from(text.into_iter().collect::<String>())),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                vec(inner.clone(), 0..4).prop_map(Value::from),
                vec((any::<String>(), inner), 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The end of the string that a text begins with, byte by byte.
    fn walked_end(text: &[u8]) -> usize {
        let mut is_escaped = false;
        for (index, byte) in text.iter().enumerate().skip(1) {
            match byte {
                b'"' if !is_escaped => return index + 1,
                b'\\' => is_escaped = !is_escaped,
                _ => is_escaped = false,
            }
        }
        text.len()
    }

    proptest! {
        #[test]
        fn a_string_ends_where_walking_ends_it(pieces in vec((select(vec!["a", "\\\"", "\\\\", "\\n", "\\\\\\\""]), 0..90_usize), 0..12), rest in "[\\\\\"a]{0,150}") {
            let content: String = pieces.into_iter().map(|(piece, times)| piece.repeat(times)).collect();
            for text in [format!("\"{content}\"{rest}"), format!("\"{content}{rest}")] {
                let string = Scanner::new(text.as_bytes()).string();
                assert_eq!(string.len(), walked_end(text.as_bytes()));
            }
        }

        #[test]
        fn a_value_ends_where_a_parser_ends_it(value in json(), rest in "[ ,}\\]].*") {
            for written in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let text = format!("{written}{rest}");
                assert_eq!(Scanner::new(text.as_bytes()).value(), written.as_bytes());
            }
        }
    }
}
