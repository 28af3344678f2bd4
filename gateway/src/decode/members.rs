//! The members of a JSON object, found in one pass: strict about what separates values, quick over what is in strings.
//!
//! Most of a request is strings. What is inside of them (escapes, encoding) is left to the upstream; where they end is the
//! same to every parser. Everything else is checked by the grammar of RFC 8259, so that no two parsers can see different
//! members.

use std::{borrow::Cow, ops::Range};

use memchr::memrchr;
use thiserror::Error;

use crate::scan::Scanner;

/// Why a body is no JSON object.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum InvalidObject {
    /// The bytes that the grammar asks for are not there.
    #[error("expected {expected} at byte {at}")]
    Unexpected {
        /// What is missing.
        expected: &'static str,
        /// Where.
        at: usize,
    },
    /// A key that is no text.
    #[error("the key at byte {at} is not a valid string")]
    Key {
        /// Where it begins.
        at: usize,
    },
}

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member<'a> {
    /// Its name, without escapes.
    pub(super) name: Cow<'a, str>,
    /// Where its value lies in the text.
    pub(super) range: Range<usize>,
}

/// Goes from member to member.
#[derive(Debug)]
pub(super) struct Members<'a> {
    text: &'a [u8],
    begin: Scanner<'a>,
    scanner: Scanner<'a>,
    is_first: bool,
}

/// What is open around a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Object,
    Array,
}

impl<'a> Members<'a> {
    /// Enters the object that a text consists of.
    ///
    /// # Errors
    /// The text begins with something else.
    pub(super) fn of(text: &'a [u8]) -> Result<Self, InvalidObject> {
        let begin = Scanner::new(text);
        let mut members = Self {
            text,
            begin,
            scanner: begin,
            is_first: true,
        };
        members.pass(b'{', "a JSON object")?;
        Ok(members)
    }

    /// Where the first member begins: right after the brace.
    pub(super) fn at(&self) -> usize {
        self.scanner.since(self.begin).len()
    }

    /// The next member; `None` after the last one, if the text ends there.
    ///
    /// # Errors
    /// What is next is not JSON.
    pub(super) fn next(&mut self) -> Result<Option<Member<'a>>, InvalidObject> {
        let is_first = std::mem::replace(&mut self.is_first, false);
        if self.scanner.pass_if(b'}') {
            return match self.scanner.peek() {
                None => Ok(None),
                Some(_) => Err(self.unexpected("the end of the body")),
            };
        }
        if !is_first {
            self.pass(b',', "`,` or `}`")?;
        }
        let key_at = self.next_at();
        let key = self.string("a key")?;
        let name = text_of(key).ok_or(InvalidObject::Key { at: key_at })?;
        self.pass(b':', "`:`")?;
        let at = self.next_at();
        self.value()?;
        Ok(Some(Member {
            name,
            range: at..self.at(),
        }))
    }

    /// Passes a value with all that is in it, without recursion.
    fn value(&mut self) -> Result<(), InvalidObject> {
        let mut open = Vec::new();
        loop {
            match self.scanner.peek() {
                Some(b'{') => {
                    self.scanner.pass();
                    if !self.scanner.pass_if(b'}') {
                        open.push(Open::Object);
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.scanner.pass();
                    if !self.scanner.pass_if(b']') {
                        open.push(Open::Array);
                        continue;
                    }
                }
                Some(b'"') => drop(self.string("a string")?),
                _ => self.scalar()?,
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// Passes what is between a value and the next one; whether there is no next one.
    fn close(&mut self, open: &mut Vec<Open>) -> Result<bool, InvalidObject> {
        while let Some(innermost) = open.last() {
            let (end, expected) = match innermost {
                Open::Object => (b'}', "`,` or `}`"),
                Open::Array => (b']', "`,` or `]`"),
            };
            if self.scanner.pass_if(end) {
                open.pop();
                continue;
            }
            let is_object = *innermost == Open::Object;
            self.pass(b',', expected)?;
            if is_object {
                self.key()?;
            }
            return Ok(false);
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(), InvalidObject> {
        self.string("a key")?;
        self.pass(b':', "`:`")
    }

    fn string(&mut self, expected: &'static str) -> Result<&'a [u8], InvalidObject> {
        if self.scanner.peek() != Some(b'"') {
            return Err(self.unexpected(expected));
        }
        let string = self.scanner.string();
        if is_closed(string) {
            Ok(string)
        } else {
            Err(self.unexpected("the end of a string"))
        }
    }

    fn scalar(&mut self) -> Result<(), InvalidObject> {
        let before = self.scanner;
        let scalar = self.scanner.value();
        if matches!(scalar, b"true" | b"false" | b"null") || is_number(scalar) {
            return Ok(());
        }
        self.scanner = before;
        Err(self.unexpected("a value"))
    }

    fn pass(&mut self, byte: u8, expected: &'static str) -> Result<(), InvalidObject> {
        if self.scanner.pass_if(byte) {
            Ok(())
        } else {
            Err(self.unexpected(expected))
        }
    }

    /// Where the next byte is that is not white space.
    fn next_at(&mut self) -> usize {
        self.scanner.peek();
        self.at()
    }

    fn unexpected(&mut self, expected: &'static str) -> InvalidObject {
        let at = self.next_at().min(self.text.len());
        InvalidObject::Unexpected { expected, at }
    }
}

/// Whether the quote at the end closes the string: an even number of backslashes is before it.
fn is_closed(string: &[u8]) -> bool {
    let Some((b'"', inner)) = string.split_last() else {
        return false;
    };
    let backslashes = inner.iter().rev().take_while(|byte| **byte == b'\\');
    !inner.is_empty() && backslashes.count().is_multiple_of(2)
}

/// The text that a string stands for.
fn text_of(string: &[u8]) -> Option<Cow<'_, str>> {
    if memrchr(b'\\', string).is_some() {
        return serde_json::from_slice::<String>(string)
            .ok()
            .map(Cow::Owned);
    }
    let inner = string.get(1..string.len().checked_sub(1)?)?;
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// Whether it is a number by the grammar of RFC 8259, section 6.
fn is_number(scalar: &[u8]) -> bool {
    let rest = scalar.strip_prefix(b"-").unwrap_or(scalar);
    let (whole, rest) = digits(rest);
    if whole.is_empty() || (1 < whole.len() && whole.first() == Some(&b'0')) {
        return false;
    }
    let rest = match rest.strip_prefix(b".") {
        Some(rest) => match digits(rest) {
            ([], _) => return false,
            (_, rest) => rest,
        },
        None => rest,
    };
    let Some(rest) = rest.strip_prefix(b"e").or(rest.strip_prefix(b"E")) else {
        return rest.is_empty();
    };
    let rest = rest
        .strip_prefix(b"+")
        .or(rest.strip_prefix(b"-"))
        .unwrap_or(rest);
    let (exponent, rest) = digits(rest);
    !exponent.is_empty() && rest.is_empty()
}

fn digits(text: &[u8]) -> (&[u8], &[u8]) {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at(count)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};
    use proptest::sample::select;
    use serde_json::{Map, Value};

    use super::{InvalidObject, Members};

    fn walk(text: &[u8]) -> Result<Vec<(String, &[u8])>, InvalidObject> {
        let mut members = Members::of(text)?;
        let mut found = Vec::new();
        while let Some(member) = members.next()? {
            found.push((member.name.into_owned(), &text[member.range]));
        }
        Ok(found)
    }

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = walk(text.as_bytes()).unwrap();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_bytes()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn members_lie_where_they_lie() {
        check(" {} ", &[]);
        check(r#"{"a" : 1 ,"b":[ ] }"#, &[("a", "1"), ("b", "[ ]")]);
        check(
            r#"{"\u0061":{"a":[{"]":"}"},-0.5e+7]},"":"\"" }"#,
            &[("a", r#"{"a":[{"]":"}"},-0.5e+7]}"#), ("", r#""\"""#)],
        );
    }

    #[track_caller]
    fn check_refused(text: &str, expected: &'static str, at: usize) {
        let expected = InvalidObject::Unexpected { expected, at };
        assert_eq!(walk(text.as_bytes()), Err(expected), "{text}");
    }

    #[test]
    fn what_is_no_object_is_refused_where_it_goes_wrong() {
        check_refused("", "a JSON object", 0);
        check_refused(" [1]", "a JSON object", 1);
        check_refused("{", "a key", 1);
        check_refused(r#"{"a"}"#, "`:`", 4);
        check_refused(r#"{"a":}"#, "a value", 5);
        check_refused(r#"{"a":1 "b":2}"#, "`,` or `}`", 7);
        check_refused(r#"{"a":1,}"#, "a key", 7);
        check_refused(r#"{"a":[1,]}"#, "a value", 8);
        check_refused(r#"{"a":[}]}"#, "a value", 6);
        check_refused(r#"{"a":[1}"#, "`,` or `]`", 7);
        check_refused(r#"{"a":{"b" 1}}"#, "`:`", 10);
        check_refused(r#"{"a":"b\"}"#, "the end of a string", 10);
        check_refused(r#"{"a":'b'}"#, "a value", 5);
        check_refused(r#"{"a":NaN}"#, "a value", 5);
        check_refused(r#"{"a":01}"#, "a value", 5);
        check_refused(r#"{"a":1.}"#, "a value", 5);
        check_refused("{\"a\":1} x", "the end of the body", 8);
        let key = InvalidObject::Key { at: 1 };
        assert_eq!(walk(b"{\"\xff\":1}"), Err(key));
    }

    proptest! {
        #[test]
        fn what_a_parser_takes_is_walked_as_it_parses(pieces in vec(select(vec![
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"b\\\"\"", "1", "-0.5", "1e9", "true", "null", " ", "\n", "0", ".",
        ]), 0..14)) {
            let text = format!("{{{}", pieces.concat());
            let walked = walk(text.as_bytes());
            match serde_json::from_str::<Map<String, Value>>(&text) {
                Ok(parsed) => {
                    let walked: Map<String, Value> = walked.unwrap().into_iter()
                        .map(|(name, value)| (name, serde_json::from_slice(value).unwrap()))
                        .collect();
                    assert_eq!(walked, parsed);
                }
                // All that may be wrong with what was walked is inside of its strings.
                Err(_) if walked.is_ok() => assert!(text.contains('\\') || text.contains('\n'), "{text}"),
                Err(_) => {}
            }
        }

        #[test]
        fn any_bytes_are_walked_to_an_end(bytes in vec(any::<u8>(), 0..64)) {
            let _ = walk(&bytes);
        }
    }
}
