//! Reads the events of streams: which texts go on in them, which are whole, and which end.

use std::{borrow::Cow, collections::BTreeMap, ops::Range};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::texts::{self, Found, Unreadable};
use crate::call::Operation;

/// A text that goes on over several events: a choice or an item, a field of it, and a part of that.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Channel {
    pub(super) index: u64,
    pub(super) field: String,
    pub(super) part: u64,
}

/// A piece of a text that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) channel: Channel,
    /// Where it lies in the event's data, quotes included.
    pub(super) range: Range<usize>,
    /// Whether the text is one of JSON.
    pub(super) is_json: bool,
}

/// Which texts end with an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Ends {
    #[default]
    None,
    /// Those of these choices.
    Of(Vec<u64>),
    All,
}

/// What an event says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) pieces: Vec<Piece>,
    /// Texts that begin and end here, the tools that are called, and the chances of tokens.
    pub(super) found: Found,
    pub(super) ends: Ends,
}

/// Reads an event's data.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read(operation: Operation, data: &[u8]) -> Result<Reading, Unreadable> {
    if data == protocol::sse::DONE.as_bytes() {
        return Ok(Reading {
            ends: Ends::All,
            ..Reading::default()
        });
    }
    let mut reader = Reader {
        data,
        reading: Reading::default(),
    };
    match operation {
        Operation::Chat | Operation::Completion => reader.chat()?,
        Operation::Message => reader.message()?,
        Operation::Response => reader.response()?,
        // The others have no events with texts.
        _ => {}
    }
    Ok(reader.reading)
}

struct Reader<'a> {
    data: &'a [u8],
    reading: Reading,
}

#[derive(Deserialize)]
struct ChatEvent<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    delta: Option<Fields<'a>>,
    #[serde(borrow, default)]
    text: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
    #[serde(borrow, default)]
    token_ids: Option<&'a RawValue>,
    /// The whole answer so far, as some servers repeat it in each event.
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    finish_reason: Option<&'a RawValue>,
}

type Fields<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

#[derive(Deserialize)]
struct Call<'a> {
    #[serde(default)]
    index: u64,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow, default)]
    name: Option<&'a RawValue>,
    #[serde(borrow, default)]
    arguments: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct TypedEvent<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Cow<'a, str>,
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    output_index: Option<u64>,
    #[serde(default)]
    content_index: Option<u64>,
    #[serde(default)]
    summary_index: Option<u64>,
    #[serde(borrow, default)]
    delta: Option<&'a RawValue>,
    #[serde(borrow, default)]
    logprobs: Option<&'a RawValue>,
}

impl<'a> Reader<'a> {
    fn parse<T: Deserialize<'a>>(text: &'a [u8]) -> Result<T, Unreadable> {
        serde_json::from_slice(text).map_err(|_| Unreadable)
    }

    fn range(&self, raw: &RawValue) -> Range<usize> {
        let begin = raw.get().as_ptr().addr() - self.data.as_ptr().addr();
        begin..begin + raw.get().len()
    }

    /// A string that goes on; anything else is whole.
    fn piece(
        &mut self,
        index: u64,
        field: &str,
        part: u64,
        raw: &'a RawValue,
    ) -> Result<(), Unreadable> {
        if !raw.get().starts_with('"') {
            return self.whole(raw);
        }
        let channel = Channel {
            index,
            field: field.to_owned(),
            part,
        };
        self.reading.pieces.push(Piece {
            channel,
            range: self.range(raw),
            is_json: matches!(field, "arguments" | "partial_json"),
        });
        Ok(())
    }

    fn whole(&mut self, raw: &'a RawValue) -> Result<(), Unreadable> {
        let at = self.range(raw).start;
        texts::in_value(raw.get().as_bytes(), at, &mut self.reading.found)
    }

    fn tool(&mut self, name: Option<&'a RawValue>) -> Result<(), Unreadable> {
        if let Some(name) = name.filter(|name| name.get().starts_with('"')) {
            let name = texts::decode(name.get().as_bytes())?;
            self.reading.found.tools.push(name.into_owned());
        }
        Ok(())
    }

    fn chances(&mut self, raw: Option<&'a RawValue>) {
        if let Some(raw) = raw.filter(|raw| !matches!(raw.get(), "null" | "[]")) {
            let range = self.range(raw);
            self.reading.found.chances.push(range);
        }
    }

    fn chat(&mut self) -> Result<(), Unreadable> {
        let event: ChatEvent<'a> = Self::parse(self.data)?;
        let mut ended = Vec::new();
        for choice in event.choices {
            for repeated in [choice.logprobs, choice.token_ids, choice.message] {
                self.chances(repeated);
            }
            if let Some(text) = choice.text {
                self.piece(choice.index, "text", 0, text)?;
            }
            for (field, raw) in choice.delta.into_iter().flatten() {
                match field.as_ref() {
                    "role" => {}
                    "tool_calls" => self.calls(choice.index, raw)?,
                    "function_call" => {
                        let function: Function<'a> = Self::parse(raw.get().as_bytes())?;
                        self.function(choice.index, 0, Some(function))?;
                    }
                    field => self.piece(choice.index, field, 0, raw)?,
                }
            }
            if choice
                .finish_reason
                .is_some_and(|reason| reason.get() != "null")
            {
                ended.push(choice.index);
            }
        }
        if !ended.is_empty() {
            self.reading.ends = Ends::Of(ended);
        }
        Ok(())
    }

    fn calls(&mut self, choice: u64, raw: &'a RawValue) -> Result<(), Unreadable> {
        let calls: Option<Vec<Call<'a>>> = Self::parse(raw.get().as_bytes())?;
        for call in calls.into_iter().flatten() {
            self.function(choice, call.index, call.function)?;
        }
        Ok(())
    }

    fn function(
        &mut self,
        choice: u64,
        part: u64,
        function: Option<Function<'a>>,
    ) -> Result<(), Unreadable> {
        let Some(function) = function else {
            return Ok(());
        };
        self.tool(function.name)?;
        match function.arguments {
            Some(arguments) => self.piece(choice, "arguments", part, arguments),
            None => Ok(()),
        }
    }

    fn message(&mut self) -> Result<(), Unreadable> {
        let event: TypedEvent<'a> = Self::parse(self.data)?;
        match event.kind.as_ref() {
            "content_block_delta" => {
                let Some(delta) = event.delta else {
                    return Ok(());
                };
                let fields: Fields<'a> = Self::parse(delta.get().as_bytes())?;
                for (field, raw) in fields {
                    if !matches!(field.as_ref(), "type" | "signature") {
                        self.piece(event.index.unwrap_or(0), &field, 0, raw)?;
                    }
                }
            }
            "ping" => {}
            "content_block_start" | "message_start" => {
                self.reading.ends = Ends::All;
                self.wholes(&["content_block", "message"])?;
            }
            _ => self.reading.ends = Ends::All,
        }
        Ok(())
    }

    fn response(&mut self) -> Result<(), Unreadable> {
        let event: TypedEvent<'a> = Self::parse(self.data)?;
        let kind = event.kind.as_ref();
        if kind == "response.audio.delta" {
            return Ok(());
        }
        self.chances(event.logprobs);
        if let Some(delta) = event.delta {
            let field = match kind {
                "response.function_call_arguments.delta" | "response.mcp_call_arguments.delta" => {
                    "arguments"
                }
                other => other,
            };
            let part = event.content_index.or(event.summary_index).unwrap_or(0);
            return self.piece(event.output_index.unwrap_or(0), field, part, delta);
        }
        if kind.ends_with(".done") || !kind.contains("in_progress") {
            self.reading.ends = Ends::All;
        }
        self.wholes(&[
            "text",
            "arguments",
            "refusal",
            "input",
            "code",
            "transcript",
            "part",
            "item",
            "response",
        ])
    }

    /// The values of these fields, which are whole.
    fn wholes(&mut self, names: &[&str]) -> Result<(), Unreadable> {
        let fields: Fields<'a> = Self::parse(self.data)?;
        for (name, raw) in fields {
            if !names.contains(&name.as_ref()) {
                continue;
            }
            if name == "response" || name == "message" {
                // The answer so far repeats what the request said.
                let inner: Fields<'a> = Self::parse(raw.get().as_bytes())?;
                for name in ["output", "content"] {
                    if let Some(raw) = inner.get(name) {
                        self.whole(raw)?;
                    }
                }
            } else {
                self.whole(raw)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Ends, read};
    use crate::call::Operation;

    #[track_caller]
    fn check(
        operation: Operation,
        data: &str,
        pieces: &[(&str, &str)],
        wholes: &[&str],
        ends: &Ends,
    ) {
        let reading = read(operation, data.as_bytes()).unwrap();
        let found: Vec<(String, &str)> = reading
            .pieces
            .iter()
            .map(|piece| {
                let channel = &piece.channel;
                let name = format!("{}.{}.{}", channel.index, channel.field, channel.part);
                (name, &data[piece.range.clone()])
            })
            .collect();
        let found: Vec<(&str, &str)> = found
            .iter()
            .map(|(name, text)| (name.as_str(), *text))
            .collect();
        assert_eq!(found, pieces, "{data}");
        let texts = reading
            .found
            .texts
            .iter()
            .map(|text| &data[text.range.clone()]);
        assert_eq!(texts.collect::<Vec<_>>(), wholes, "{data}");
        assert_eq!(&reading.ends, ends, "{data}");
    }

    #[test]
    fn chats_go_on_by_choice_and_call() {
        let check =
            |data: &str, pieces: &[_], ends: &Ends| check(Operation::Chat, data, pieces, &[], ends);
        check(
            r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":"a","reasoning":"b"},"finish_reason":null}]}"#,
            &[("1.content.0", "\"a\""), ("1.reasoning.0", "\"b\"")],
            &Ends::None,
        );
        check(
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"index":2,"function":{"name":"f","arguments":"{"}}]}}]}"#,
            &[("0.arguments.2", "\"{\"")],
            &Ends::None,
        );
        check(
            r#"{"choices":[{"index":3,"delta":{},"finish_reason":"stop"}]}"#,
            &[],
            &Ends::Of(vec![3]),
        );
        check(r#"{"choices":[],"usage":{}}"#, &[], &Ends::None);
        check("[DONE]", &[], &Ends::All);
    }

    #[test]
    fn messages_go_on_by_block() {
        let check = |data: &str, pieces: &[_], wholes: &[_], ends: &Ends| {
            check(Operation::Message, data, pieces, wholes, ends);
        };
        check(
            r#"{"type":"content_block_delta","index":1,"delta":{"type":"text_delta","text":"a"}}"#,
            &[("1.text.0", "\"a\"")],
            &[],
            &Ends::None,
        );
        check(r#"{"type":"ping"}"#, &[], &[], &Ends::None);
        check(
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"x"}}"#,
            &[],
            &["\"x\""],
            &Ends::All,
        );
        check(
            r#"{"type":"content_block_stop","index":0}"#,
            &[],
            &[],
            &Ends::All,
        );
    }

    #[test]
    fn responses_go_on_by_item_and_are_repeated_whole() {
        let check = |data: &str, pieces: &[_], wholes: &[_], ends: &Ends| {
            check(Operation::Response, data, pieces, wholes, ends);
        };
        check(
            r#"{"type":"response.output_text.delta","output_index":1,"content_index":2,"delta":"a"}"#,
            &[("1.response.output_text.delta.2", "\"a\"")],
            &[],
            &Ends::None,
        );
        check(
            r#"{"type":"response.output_text.done","output_index":1,"text":"a"}"#,
            &[],
            &["\"a\""],
            &Ends::All,
        );
        check(
            r#"{"type":"response.completed","response":{"instructions":"i","output":[{"content":[{"text":"a"}]}]}}"#,
            &[],
            &["\"a\""],
            &Ends::All,
        );
    }

    #[test]
    fn tools_and_chances_are_found() {
        let data = r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f"}}]},"logprobs":{"content":[]}}]}"#;
        let reading = read(Operation::Chat, data.as_bytes()).unwrap();
        assert_eq!(reading.found.tools, ["f"]);
        assert_eq!(&data[reading.found.chances[0].clone()], r#"{"content":[]}"#);
        let data = r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"g","arguments":""}}"#;
        assert_eq!(
            read(Operation::Response, data.as_bytes())
                .unwrap()
                .found
                .tools,
            ["g"]
        );
    }
}
