//! What a stream says only because the gateway asked for the usage: `"usage":null` in every event but the last. Pure.

use std::ops::Range;

use memchr::memmem;

use crate::scan::Scanner;

const KEY: &[u8] = b"\"usage\"";
const NULL: &[u8] = b"null";

/// Where an event says outside of everything else that there is no usage, with the comma that goes with it.
///
/// In a string the quotes of the key would be escaped, so that what is found is a key.
pub(super) fn null_usage(event: &[u8]) -> Option<Range<usize>> {
    let key = memmem::find(event, KEY)?;
    let (before, behind) = (event.get(..key)?, event.get(key + KEY.len()..)?);
    let mut value = Scanner::new(behind);
    if !value.pass_if(b':') || value.value() != NULL {
        return None;
    }
    let end = key + KEY.len() + value.at();
    let rest = event.get(end..)?;
    if !closes_whole(rest) {
        return None;
    }
    let blank = before
        .iter()
        .rev()
        .take_while(|byte| **byte == b' ')
        .count();
    let comma = before.len().checked_sub(blank + 1)?;
    if before.get(comma) == Some(&b',') {
        return Some(comma..end);
    }
    // The first member: the comma behind it goes.
    let mut behind = Scanner::new(rest);
    let is_first = before.get(comma) == Some(&b'{') && behind.pass_if(b',');
    is_first.then(|| key..end + behind.at())
}

/// Whether what follows a member are members, and the end of the whole.
fn closes_whole(rest: &[u8]) -> bool {
    let mut scanner = Scanner::new(rest);
    while scanner.pass_if(b',') {
        scanner.value();
        if !scanner.pass_if(b':') {
            return false;
        }
        scanner.value();
    }
    scanner.pass_if(b'}') && scanner.peek().is_none()
}

#[cfg(test)]
mod tests {
    use super::null_usage;

    #[track_caller]
    fn check(event: &str, expected: &str) {
        let mut left = event.to_owned();
        if let Some(range) = null_usage(event.as_bytes()) {
            left.replace_range(range, "");
        }
        assert_eq!(left, expected);
    }

    #[test]
    fn what_says_that_there_is_no_usage_is_found_wherever_it_stands() {
        for (event, expected) in [
            (
                "data: {\"id\":1,\"usage\":null}\n\n",
                "data: {\"id\":1}\n\n",
            ),
            (
                "data: {\"a\":[{}], \"usage\": null, \"b\":{\"c\":[1,\"}\"]}}\r\n\r\n",
                "data: {\"a\":[{}], \"b\":{\"c\":[1,\"}\"]}}\r\n\r\n",
            ),
            ("data:{\"usage\":null,\"id\":1}\n\n", "data:{\"id\":1}\n\n"),
        ] {
            check(event, expected);
        }
    }

    #[test]
    fn everything_else_stays() {
        for event in [
            "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
            "data: {\"usage\":null}\n\n",
            "data: {\"usage\":nullx,\"id\":1}\n\n",
            "data: {\"choices\":[{\"a\":1,\"usage\":null}]}\n\n",
            "data: {\"text\":\"a,\\\"usage\\\":null\"}\n\n",
            "data: {\"a\":\"usage\",\"usage\":null",
            "\"usage\"",
            ",\"usage\":null",
            "",
        ] {
            check(event, event);
        }
    }
}
