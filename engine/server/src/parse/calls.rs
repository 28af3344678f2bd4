//! Finds tool calls in an answer as it comes, and gives back as text what only looked like one.

use super::Delta;
use super::format::{CallFormat, ToolFormat};
use super::mark::{may_become, overlap};
use super::object::ObjectCall;
use super::python::PythonCall;
use super::tool::{Tool, is_name};

/// How often something may look like a call without being one: then the rest is taken for text, so that no answer
/// is searched again and again.
const FAILURES_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 128;
/// What some models write between a name and the separator: an identifier that nobody needs.
pub(super) const CALL_ID: &str = "[CALL_ID]";

/// What the text of one call yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Name(String),
    Arguments(String),
    End,
}

impl Found {
    /// Adds a character of the arguments.
    pub(super) fn add(found: &mut Vec<Self>, next: char) {
        match found.last_mut() {
            Some(Self::Arguments(text)) => text.push(next),
            _ => found.push(Self::Arguments(next.to_string())),
        }
    }
}

/// The text is not a call.
#[derive(Debug)]
pub(super) struct NotACall;

/// Where in the answer the parser stands.
#[derive(Debug)]
enum Place {
    /// Nothing but space has come, and a block may begin without its mark.
    Beginning,
    /// In text.
    Text,
    /// Behind the mark of a block.
    Opened,
    /// In the name that stands before the arguments.
    Name,
    /// In a call.
    Call(Call),
    /// Behind a call.
    Between,
    /// Behind the calls of a block, before its end.
    Ending,
    /// Whatever comes is text.
    Plain,
    /// Whatever comes is dropped: only one call was wanted.
    Done,
}

#[derive(Debug)]
enum Call {
    Object(Box<ObjectCall>),
    Named(Box<ObjectCall>),
    Python(Box<PythonCall>),
}

/// What a step came to.
enum Step {
    Again,
    NeedsMore,
    Failed,
}

/// Finds the calls in one answer.
#[derive(Debug)]
pub(super) struct CallParser {
    format: &'static ToolFormat,
    tools: Vec<Tool>,
    is_parallel: bool,
    place: Place,
    /// Text that is not used up.
    buffer: String,
    /// Text that was used up since the last thing that is certain.
    raw: String,
    /// Whether the block began with its mark.
    is_marked: bool,
    /// Whether the calls of the block stand in brackets.
    in_list: bool,
    /// Whether the present call has been told of.
    is_announced: bool,
    calls: usize,
    failures: usize,
    /// Space that is dropped if a call follows.
    space: String,
}

impl CallParser {
    pub(super) const fn new(
        format: &'static ToolFormat,
        tools: Vec<Tool>,
        is_parallel: bool,
    ) -> Self {
        Self {
            format,
            tools,
            is_parallel,
            place: if format.is_start_optional {
                Place::Beginning
            } else {
                Place::Text
            },
            buffer: String::new(),
            raw: String::new(),
            is_marked: false,
            in_list: false,
            is_announced: false,
            calls: 0,
            failures: 0,
            space: String::new(),
        }
    }

    pub(super) fn push(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        self.buffer.push_str(text);
        loop {
            match self.step(deltas) {
                Step::Again => {}
                Step::NeedsMore => return,
                Step::Failed => self.fail(deltas),
            }
        }
    }

    /// Ends the answer: what is not certain to be a call is text.
    pub(super) fn finish(&mut self, deltas: &mut Vec<Delta>) {
        let is_cut_call = matches!(self.place, Place::Call(_)) && self.is_announced;
        let is_text = matches!(
            self.place,
            Place::Beginning | Place::Text | Place::Opened | Place::Name | Place::Call(_)
        );
        if is_text && !is_cut_call {
            let text = std::mem::take(&mut self.raw) + &std::mem::take(&mut self.buffer);
            self.content(&text, deltas);
        }
        if self.calls == 0 && !self.space.is_empty() {
            deltas.push(Delta::Content(std::mem::take(&mut self.space)));
        }
    }

    fn step(&mut self, deltas: &mut Vec<Delta>) -> Step {
        match &self.place {
            Place::Beginning => self.step_beginning(),
            Place::Text => self.step_text(deltas),
            Place::Opened => self.step_opened(),
            Place::Name => self.step_name(deltas),
            Place::Call(_) => self.step_call(deltas),
            Place::Between => self.step_between(),
            Place::Ending => self.step_ending(),
            Place::Plain => {
                let text = std::mem::take(&mut self.buffer);
                self.content(&text, deltas);
                Step::NeedsMore
            }
            Place::Done => {
                self.buffer.clear();
                Step::NeedsMore
            }
        }
    }

    fn step_beginning(&mut self) -> Step {
        let text = self.buffer.trim_start();
        let Some(first) = text.chars().next() else {
            return Step::NeedsMore;
        };
        if may_become(text, self.format.start) {
            return Step::NeedsMore;
        }
        let begins = match self.format.call {
            CallFormat::Python => first == '[',
            CallFormat::Object { .. } => first == '{' || first == '[',
            CallFormat::Named { .. } => false,
        };
        // A mark is found as anywhere else.
        if begins && !text.starts_with(self.format.start) {
            self.is_marked = false;
            self.place = Place::Opened;
        } else {
            self.place = Place::Text;
        }
        Step::Again
    }

    fn step_text(&mut self, deltas: &mut Vec<Delta>) -> Step {
        let start = self.format.start;
        if let Some(place) = self.buffer.find(start) {
            let text: String = self.buffer.drain(..place).collect();
            self.content(&text, deltas);
            self.raw = self.buffer.drain(..start.len()).collect();
            self.is_marked = true;
            self.place = Place::Opened;
            return Step::Again;
        }
        let clear = self.buffer.len() - overlap(&self.buffer, start);
        let text: String = self.buffer.drain(..clear).collect();
        self.content(&text, deltas);
        Step::NeedsMore
    }

    fn step_opened(&mut self) -> Step {
        self.use_space();
        let Some(first) = self.buffer.chars().next() else {
            return Step::NeedsMore;
        };
        self.in_list = false;
        self.is_announced = false;
        match (self.format.call, first) {
            (CallFormat::Python, '[') => {
                self.use_bytes(1);
                self.in_list = true;
                self.place = self.next_call();
            }
            (CallFormat::Object { .. } | CallFormat::Named { .. }, '[') => {
                self.use_bytes(1);
                self.in_list = true;
                self.place = Place::Call(Call::Object(Box::new(ObjectCall::new())));
            }
            (CallFormat::Object { .. } | CallFormat::Named { .. }, '{') => {
                self.place = Place::Call(Call::Object(Box::new(ObjectCall::new())));
            }
            (CallFormat::Named { .. }, _) => self.place = Place::Name,
            // A newer model of the family may leave the brackets out.
            (CallFormat::Object { .. }, _) if self.format.start == "[TOOL_CALLS]" => {
                self.place = Place::Name;
            }
            (CallFormat::Python | CallFormat::Object { .. }, _) => return Step::Failed,
        }
        Step::Again
    }

    fn next_call(&self) -> Place {
        Place::Call(match self.format.call {
            CallFormat::Python => Call::Python(Box::new(PythonCall::new())),
            CallFormat::Object { .. } | CallFormat::Named { .. } => {
                Call::Object(Box::new(ObjectCall::new()))
            }
        })
    }

    /// Reads `name[ARGS]`; the separator may be missing, since arguments begin with a brace.
    fn step_name(&mut self, deltas: &mut Vec<Delta>) -> Step {
        let separator = match self.format.call {
            CallFormat::Named { separator } => separator,
            CallFormat::Object { .. } | CallFormat::Python => "[ARGS]",
        };
        let brace = self.buffer.find('{');
        let mark = self.buffer.find(separator);
        let (end, next) = match (mark, brace) {
            (Some(mark), brace) if brace.is_none_or(|brace| mark < brace) => {
                (mark, mark + separator.len())
            }
            (_, Some(brace)) => (brace, brace),
            (_, None) => {
                let is_too_long = NAME_BYTES_MAX + CALL_ID.len() + 64 < self.buffer.len();
                return if is_too_long {
                    Step::Failed
                } else {
                    Step::NeedsMore
                };
            }
        };
        let head = &self.buffer[..end];
        let name = head
            .split(CALL_ID)
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        if !is_name(&name) {
            return Step::Failed;
        }
        self.use_bytes(next);
        self.announce(name, deltas);
        self.place = Place::Call(Call::Named(Box::new(ObjectCall::arguments_of_named())));
        Step::Again
    }

    fn step_call(&mut self, deltas: &mut Vec<Delta>) -> Step {
        let Place::Call(mut call) = std::mem::replace(&mut self.place, Place::Between) else {
            return Step::Again;
        };
        let mut found = Vec::new();
        let mut used = 0;
        let mut step = Step::NeedsMore;
        for next in self.buffer.chars() {
            used += next.len_utf8();
            let fed = match &mut call {
                Call::Object(call) | Call::Named(call) => call.feed(next, &mut found),
                Call::Python(call) => call.feed(next, &self.tools, &mut found),
            };
            if fed.is_err() {
                step = Step::Failed;
                break;
            }
            if matches!(&call, Call::Named(call) if call.is_behind_arguments()) {
                found.push(Found::End);
            }
            if found.last() == Some(&Found::End) {
                step = Step::Again;
                break;
            }
        }
        self.use_bytes(used);
        let is_call = self.tell(found, deltas);
        match step {
            _ if !is_call => return Step::Failed,
            Step::NeedsMore | Step::Failed => self.place = Place::Call(call),
            Step::Again => {}
        }
        step
    }

    /// Passes on what was found; false if it turns out to be no call.
    fn tell(&mut self, found: Vec<Found>, deltas: &mut Vec<Delta>) -> bool {
        for found in found {
            match found {
                Found::Name(name) if !is_name(&name) => return false,
                Found::Name(name) => {
                    // Without a mark, anything that only looks like a call is an answer.
                    if !self.is_marked && !self.tools.iter().any(|tool| tool.name == name) {
                        return false;
                    }
                    self.announce(name, deltas);
                }
                Found::Arguments(text) => {
                    let index = self.calls - 1;
                    match deltas.last_mut() {
                        Some(Delta::ToolArguments { text: last, .. }) => last.push_str(&text),
                        _ => deltas.push(Delta::ToolArguments { index, text }),
                    }
                }
                Found::End => {
                    self.raw.clear();
                    self.is_announced = false;
                    self.place = if self.is_parallel {
                        Place::Between
                    } else {
                        Place::Done
                    };
                }
            }
        }
        true
    }

    fn announce(&mut self, name: String, deltas: &mut Vec<Delta>) {
        self.space.clear();
        self.is_announced = true;
        deltas.push(Delta::ToolCall {
            index: self.calls,
            id: self.format.ids.next(),
            name,
        });
        self.calls += 1;
    }

    fn step_between(&mut self) -> Step {
        self.use_space();
        let Some(next) = self.buffer.chars().next() else {
            return Step::NeedsMore;
        };
        let has_more = self.in_list || self.format.between.is_some();
        let is_separator = next == ',' || (next == ';' && !self.in_list);
        if is_separator && has_more {
            self.use_bytes(1);
            self.use_space();
            if self.in_list {
                self.place = self.next_call();
            }
            return Step::Again;
        }
        match next {
            ']' if self.in_list => {
                self.use_bytes(1);
                self.raw.clear();
                self.place = Place::Ending;
            }
            '{' if !self.in_list && self.format.between.is_some() => self.place = self.next_call(),
            _ if self.in_list => return Step::Failed,
            _ => self.place = Place::Ending,
        }
        Step::Again
    }

    /// Drops the end of a block; one that is missing does no harm.
    fn step_ending(&mut self) -> Step {
        self.use_space();
        let end = self.format.end;
        if may_become(&self.buffer, end) {
            return Step::NeedsMore;
        }
        if self.buffer.starts_with(end) {
            self.buffer.drain(..end.len());
            self.raw.clear();
        }
        // Space behind the block is text if text follows.
        let raw = std::mem::take(&mut self.raw);
        self.buffer.insert_str(0, &raw);
        self.place = Place::Text;
        Step::Again
    }

    /// Takes back what was not a call: its first mark is text, and the rest is looked at again.
    fn fail(&mut self, deltas: &mut Vec<Delta>) {
        let is_told = self.is_announced;
        self.is_announced = false;
        self.failures += 1;
        let raw = std::mem::take(&mut self.raw);
        let first = if raw.starts_with(self.format.start) {
            self.format.start.len()
        } else {
            raw.chars().next().map_or(0, char::len_utf8)
        };
        // What was told of a call cannot be taken back, so it is not told again as text.
        if !is_told {
            self.content(&raw[..first], deltas);
            self.buffer.insert_str(0, &raw[first..]);
        }
        self.place = if self.failures < FAILURES_MAX {
            Place::Text
        } else {
            Place::Plain
        };
    }

    /// Passes text on, but keeps the space at its end until it is clear what follows.
    fn content(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        let end = text.trim_end().len();
        if end == 0 {
            self.space.push_str(text);
            return;
        }
        let mut content = std::mem::take(&mut self.space);
        content.push_str(&text[..end]);
        self.space.push_str(&text[end..]);
        match deltas.last_mut() {
            Some(Delta::Content(last)) => last.push_str(&content),
            _ => deltas.push(Delta::Content(content)),
        }
    }

    fn use_space(&mut self) {
        let space = self.buffer.len() - self.buffer.trim_start().len();
        self.use_bytes(space);
    }

    fn use_bytes(&mut self, count: usize) {
        self.raw.extend(self.buffer.drain(..count));
    }
}
