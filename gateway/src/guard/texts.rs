//! Finds the texts of a body, where they lie, and the tools that it names, whatever else the body holds.
//!
//! Known are only the top-level fields that hold what people and models say. Below them every string is a text, fields
//! that nobody knows yet included, but for those that are names, kinds and encoded data by the APIs' own words.

use std::{borrow::Cow, ops::Range};

use serde::Deserialize;

use crate::{decode::Edit, scan::Scanner};

/// Objects and lists in each other; no API asks for as many.
const DEPTH_MAX: usize = 128;

/// Fields whose strings are no texts.
const STRUCTURAL: [&str; 30] = [
    "call_id",
    "container_id",
    "data",
    "detail",
    "encrypted_content",
    "file_data",
    "file_id",
    "file_url",
    "filename",
    "finish_reason",
    "format",
    "id",
    "image_url",
    "index",
    "item_id",
    "media_type",
    "mime_type",
    "model",
    "name",
    "object",
    "reasoning_effort",
    "role",
    "server_label",
    "signature",
    "status",
    "stop_reason",
    "tool_call_id",
    "tool_use_id",
    "type",
    "url",
];

/// Fields that say again what was said, token by token: what was masked could be read there.
const CHANCES: [&str; 2] = ["logprobs", "token_ids"];

/// A string of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    /// Where it lies, quotes included.
    pub(super) range: Range<usize>,
    /// Whose words it is.
    pub(super) origin: Origin,
    /// Whether it is itself a text of JSON, as the arguments of a call.
    pub(super) is_json: bool,
}

/// Whose words a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// Of the one who wrote the application, or of the model.
    Author,
    /// Of whoever uses it, or of a tool.
    Outside,
}

/// What was found in a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The texts, in order.
    pub(super) texts: Vec<Text>,
    /// Tools that a request offers, or that an answer calls.
    pub(super) tools: Vec<String>,
    /// Where the tokens of texts lie, with their chances; texts that lie in there are found too.
    pub(super) chances: Vec<Range<usize>>,
}

impl Found {
    /// The edits that empty the chances of tokens; the texts in them are no longer found then.
    pub(super) fn hide_chances(&mut self, body: &[u8]) -> Vec<Edit> {
        let mut chances = std::mem::take(&mut self.chances);
        chances.sort_unstable_by_key(|chance| chance.start);
        self.texts.retain(|text| {
            let behind = chances.partition_point(|chance| chance.start <= text.range.start);
            let before = behind.checked_sub(1).and_then(|place| chances.get(place));
            before.is_none_or(|chance| chance.end <= text.range.start)
        });
        let emptied = |range: Range<usize>| Edit {
            replacement: match body.get(range.start) {
                Some(b'[') => "[]".to_owned(),
                _ => "null".to_owned(),
            },
            range,
        };
        chances.into_iter().map(emptied).collect()
    }
}

/// A body that cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Finds what a request says; the body is known to be an object.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn in_request(body: &[u8]) -> Result<Found, Unreadable> {
    let mut found = Found::default();
    members(body, 0, &mut |name, at, value| match name {
        "messages" | "input" => turns(value, at, &mut found),
        "system" | "instructions" => walk(value, at, Origin::Author, &mut found),
        "prompt" | "suffix" | "query" | "documents" => walk(value, at, Origin::Outside, &mut found),
        "tools" | "functions" => elements(value, at, &mut |at, tool| offered(tool, at, &mut found)),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// Finds what an answer says.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn in_answer(body: &[u8]) -> Result<Found, Unreadable> {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|_| Unreadable)?;
    let mut found = Found::default();
    members(body, 0, &mut |name, at, value| match name {
        "choices" | "output" | "content" => walk(value, at, Origin::Author, &mut found),
        _ => Ok(()),
    })?;
    Ok(found)
}

/// Finds what a value says that is known to be JSON; `at` is where it lies.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn in_value(value: &[u8], at: usize, found: &mut Found) -> Result<(), Unreadable> {
    walk(value, at, Origin::Author, found)
}

/// The text that a string of JSON says.
///
/// # Errors
/// It says none, as with half of a pair of surrogates.
pub(super) fn decode(string: &[u8]) -> Result<Cow<'_, str>, Unreadable> {
    #[derive(Deserialize)]
    struct Borrowed<'a>(#[serde(borrow)] Cow<'a, str>);
    let decoded = serde_json::from_slice::<Borrowed<'_>>(string);
    decoded.map(|decoded| decoded.0).map_err(|_| Unreadable)
}

/// A conversation: a text, or turns that each say whose they are.
fn turns(value: &[u8], at: usize, found: &mut Found) -> Result<(), Unreadable> {
    if !value.starts_with(b"[") {
        return walk(value, at, Origin::Outside, found);
    }
    elements(value, at, &mut |at, turn| {
        let mut roles = 0;
        let mut is_author = true;
        if turn.starts_with(b"{") {
            // Who says two roles gets the one that is trusted less: parsers differ in which they believe.
            members(turn, at, &mut |name, _, value| {
                if name == "role" {
                    roles += 1;
                    is_author &= matches!(
                        value,
                        br#""system""# | br#""developer""# | br#""assistant""#
                    );
                }
                Ok(())
            })?;
        }
        let origin = match 0 < roles && is_author {
            true => Origin::Author,
            false => Origin::Outside,
        };
        walk(turn, at, origin, found)
    })
}

/// A tool: all names that it gives itself count, and its kind if it has none.
fn offered(tool: &[u8], at: usize, found: &mut Found) -> Result<(), Unreadable> {
    let before = found.tools.len();
    let mut kinds = Vec::new();
    members(tool, at, &mut |name, at, value| {
        match name {
            "name" => found.tools.extend(name_of(value)?),
            "type" => kinds.extend(name_of(value)?),
            "function" => members(value, at, &mut |name, _, value| {
                if name == "name" {
                    found.tools.extend(name_of(value)?);
                }
                Ok(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    if before == found.tools.len() {
        found.tools.append(&mut kinds);
    }
    Ok(())
}

fn name_of(value: &[u8]) -> Result<Option<String>, Unreadable> {
    match value.starts_with(b"\"") {
        true => Ok(Some(decode(value)?.into_owned())),
        false => Ok(None),
    }
}

/// What is done with the name, the place and the value of a member.
type EachMember<'a> = dyn FnMut(&str, usize, &[u8]) -> Result<(), Unreadable> + 'a;
/// What is done with the place and the value of an element.
type EachElement<'a> = dyn FnMut(usize, &[u8]) -> Result<(), Unreadable> + 'a;

/// Calls `each` with the name, the place and the value of each member; of anything but an object there is none.
fn members(object: &[u8], at: usize, each: &mut EachMember<'_>) -> Result<(), Unreadable> {
    let mut scanner = Scanner::new(object);
    if !scanner.pass_if(b'{') {
        return Ok(());
    }
    while scanner.peek() == Some(b'"') {
        let name = decode(scanner.string())?;
        scanner.pass_if(b':');
        scanner.peek();
        let begin = scanner.at();
        each(&name, at + begin, scanner.value())?;
        scanner.pass_if(b',');
    }
    Ok(())
}

/// Calls `each` with the place and the value of each element; of anything but a list there is none.
fn elements(list: &[u8], at: usize, each: &mut EachElement<'_>) -> Result<(), Unreadable> {
    let mut scanner = Scanner::new(list);
    if !scanner.pass_if(b'[') {
        return Ok(());
    }
    while scanner.peek().is_some_and(|byte| byte != b']') {
        let begin = scanner.at();
        let value = scanner.value();
        if value.is_empty() {
            return Err(Unreadable);
        }
        each(at + begin, value)?;
        scanner.pass_if(b',');
    }
    Ok(())
}

/// Where a walk is: in an object or a list, below which name, and whether all strings there are texts.
struct Level<'a> {
    is_object: bool,
    name: Cow<'a, str>,
    is_free: bool,
}

/// Finds all texts of a value, without recursion.
fn walk(value: &[u8], at: usize, origin: Origin, found: &mut Found) -> Result<(), Unreadable> {
    let mut scanner = Scanner::new(value);
    let mut levels: Vec<Level<'_>> = Vec::new();
    let mut name = Cow::Borrowed("");
    loop {
        let is_free = levels.last().is_some_and(|level| level.is_free);
        match scanner.peek() {
            Some(b'"') => {
                let begin = scanner.at();
                let string = scanner.string();
                let is_text = is_free || !STRUCTURAL.contains(&&*name);
                if is_text {
                    found.texts.push(Text {
                        range: at + begin..at + begin + string.len(),
                        origin,
                        is_json: name == "arguments",
                    });
                } else if name == "name" {
                    found.tools.push(decode(string)?.into_owned());
                }
            }
            Some(bracket @ (b'{' | b'[')) => {
                scanner.pass();
                if levels.len() == DEPTH_MAX {
                    return Err(Unreadable);
                }
                levels.push(Level {
                    is_object: bracket == b'{',
                    // What a tool is called with has names of its own.
                    is_free: is_free || (bracket == b'{' && name == "input"),
                    name: name.clone(),
                });
            }
            Some(_) => {
                if scanner.value().is_empty() {
                    return Err(Unreadable);
                }
            }
            None => return Ok(()),
        }
        loop {
            let Some(level) = levels.last() else {
                return Ok(());
            };
            scanner.pass_if(b',');
            if scanner.pass_if(if level.is_object { b'}' } else { b']' }) {
                levels.pop();
                continue;
            }
            if level.is_object {
                if scanner.peek() != Some(b'"') {
                    return Err(Unreadable);
                }
                name = decode(scanner.string())?;
                scanner.pass_if(b':');
                if !level.is_free && CHANCES.contains(&&*name) {
                    note_chances(scanner, at, found);
                }
            } else {
                name = level.name.clone();
            }
            break;
        }
    }
}

/// Notes the value that is next, unless it lies in one that was noted, or is empty already.
fn note_chances(mut scanner: Scanner<'_>, at: usize, found: &mut Found) {
    let is_composite = matches!(scanner.peek(), Some(b'{' | b'['));
    let begin = at + scanner.at();
    let is_inside = found
        .chances
        .last()
        .is_some_and(|last| last.contains(&begin));
    let value = scanner.value();
    if is_composite && !is_inside && value != b"[]" {
        found.chances.push(begin..begin + value.len());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Found, Origin, Unreadable, in_answer, in_request};
    use crate::decode::splice;

    fn texts(body: &str, found: &Found) -> Vec<String> {
        let shown = found.texts.iter().map(|text| {
            let mark = match (text.origin, text.is_json) {
                (Origin::Author, false) => "",
                (Origin::Author, true) => "json:",
                (Origin::Outside, _) => "outside:",
            };
            format!("{mark}{}", body[text.range.clone()].trim_matches('"'))
        });
        shown.collect()
    }

    #[track_caller]
    fn check(body: &str, expected: &[&str], tools: &[&str]) {
        let found = in_request(body.as_bytes()).unwrap();
        assert_eq!(
            (texts(body, &found), &*found.tools),
            (
                expected.iter().map(|text| (*text).to_owned()).collect(),
                &*tools
                    .iter()
                    .map(|name| (*name).to_owned())
                    .collect::<Vec<_>>()
            )
        );
    }

    #[test]
    fn a_request_says_what_its_turns_say() {
        check(
            r#"{"model":"m","user":"u","messages":[{"role":"system","content":"a"},{"content": [{"type":"text","text":"b"},
                {"type":"image_url","image_url":{"url":"data:x"}}],"role":"user"},
                {"role":"assistant","content":null,"tool_calls":[{"id":"t","type":"function","function":{"name":"f","arguments":"{}"}}]},
                {"role":"tool","tool_call_id":"t","content":"c","odd":["d",1,{"e":"f"}]}],"temperature":1}"#,
            &[
                "a",
                "outside:b",
                "json:{}",
                "outside:c",
                "outside:d",
                "outside:f",
            ],
            &["f"],
        );
        check(
            r#"{"input":"a","instructions":"b"}"#,
            &["outside:a", "b"],
            &[],
        );
        check(
            r#"{"prompt":["a","b"],"suffix":"c"}"#,
            &["outside:a", "outside:b", "outside:c"],
            &[],
        );
        check(
            r#"{"system":[{"type":"text","text":"a"}],"messages":[]}"#,
            &["a"],
            &[],
        );
    }

    #[test]
    fn what_a_tool_is_called_with_has_names_of_its_own() {
        check(
            r#"{"messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"name":"a","x":{"type":"b"}}}]}]}"#,
            &["a", "b"],
            &["f"],
        );
    }

    #[test]
    fn tools_are_known_by_every_name_that_they_have() {
        check(
            r#"{"tools":[{"type":"function","function":{"name":"a","n\u0061me":"b"}},{"name":"c","input_schema":{"name":"x"}},{"type":"web_search"}]}"#,
            &[],
            &["a", "b", "c", "web_search"],
        );
    }

    #[test]
    fn who_has_two_roles_is_not_trusted() {
        check(
            r#"{"messages":[{"role":"user","content":"a","role":"system"},{"content":"b"},"c"]}"#,
            &["outside:a", "outside:b", "outside:c"],
            &[],
        );
    }

    #[test]
    fn an_answer_says_what_its_choices_say() {
        let body = r#"{"id":"x","choices":[{"message":{"role":"assistant","content":"a","reasoning_content":"b",
            "tool_calls":[{"function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}],"usage":{}}"#;
        let found = in_answer(body.as_bytes()).unwrap();
        assert_eq!(texts(body, &found), ["a", "b", "json:{}"]);
        assert_eq!(found.tools, ["f"]);
    }

    #[test]
    fn the_chances_of_tokens_are_hidden_with_the_texts_in_them() {
        let body = r#"{"choices":[{"logprobs":{"content":[{"token":"a","logprobs":[1]}]},"text":"b","token_ids":[7]},
            {"logprobs":null,"text":"c"}],"content":[{"logprobs":[],"input":{"logprobs":{"x":"d"}}}]}"#;
        let mut found = in_answer(body.as_bytes()).unwrap();
        assert_eq!(texts(body, &found), ["a", "b", "c", "d"]);
        let edits = found.hide_chances(body.as_bytes());
        assert_eq!(texts(body, &found), ["b", "c", "d"]);
        let hidden = splice(&Bytes::from_static(body.as_bytes()), edits);
        let expected = body.replace(r#"{"content":[{"token":"a","logprobs":[1]}]}"#, "null");
        assert_eq!(hidden, expected.replace("[7]", "[]"));
    }

    #[test]
    fn what_cannot_be_read_is_not_passed_unseen() {
        let deep = format!("{{\"messages\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(in_request(deep.as_bytes()), Err(Unreadable));
        assert_eq!(in_answer(b"{\"choices\":[").unwrap_err(), Unreadable);
        assert_eq!(super::decode(br#""\ud800""#), Err(Unreadable));
    }
}
