//! What an answer's text means: reasoning, tool calls, and the rest, told apart while the text comes.
//!
//! The text may be cut anywhere: however it comes, the deltas add up to the same message. Reasoning is cut off
//! first, then calls are looked for in what is left. A whole answer is made of the same deltas as a streamed one.

mod calls;
mod describe;
mod format;
mod ids;
mod literal;
mod mark;
mod object;
mod python;
mod reasoning;
#[cfg(test)]
mod tests;
mod tool;

use calls::CallParser;
use reasoning::{Part, Splitter};

pub use describe::describe_tools;
pub use format::{Formats, ReasoningFormat, TOOL_FORMATS, ToolFormat, UnknownFormat};
pub use tool::{InvalidTools, Tool, ToolChoice};

pub(crate) use format::CallFormat;

/// Something new in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More of the reasoning.
    Reasoning(String),
    /// More of the text.
    Content(String),
    /// A call begins.
    ToolCall {
        /// Its place among the answer's calls.
        index: usize,
        /// Its identifier, which no other call has.
        id: String,
        /// What is called.
        name: String,
    },
    /// More of a call's arguments.
    ToolArguments {
        /// The call's place.
        index: usize,
        /// JSON text, as the model wrote it.
        text: String,
    },
}

/// What is looked for in an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct OutputOptions {
    /// The tools that may be called; without any, calls are not looked for.
    pub tools: Vec<Tool>,
    /// Whether there may be more than one call.
    pub parallel_tool_calls: bool,
    /// Whether the prompt ends in the middle of reasoning: see [`ReasoningFormat::is_open_in`].
    pub reasoning_is_open: bool,
}

/// Reads one answer as it comes.
#[derive(Debug)]
pub struct Output {
    splitter: Option<Splitter>,
    calls: Option<CallParser>,
}

impl Output {
    /// An answer of a model that writes in these formats.
    pub fn new(formats: &Formats, options: OutputOptions) -> Self {
        let reasoning = formats.reasoning.clone();
        let has_tools = !options.tools.is_empty();
        Self {
            splitter: reasoning.map(|format| Splitter::new(format, options.reasoning_is_open)),
            calls: has_tools.then(|| {
                CallParser::new(formats.tools, options.tools, options.parallel_tool_calls)
            }),
        }
    }

    /// Takes more text.
    pub fn push(&mut self, text: &str) -> Vec<Delta> {
        let mut deltas = Vec::new();
        let Some(splitter) = &mut self.splitter else {
            self.answer(text, &mut deltas);
            return deltas;
        };
        let mut parts = Vec::new();
        splitter.push(text, &mut parts);
        self.take(parts, &mut deltas);
        deltas
    }

    /// Ends the answer and says what was held back.
    pub fn finish(&mut self) -> Vec<Delta> {
        let mut deltas = Vec::new();
        if let Some(splitter) = &mut self.splitter {
            let mut parts = Vec::new();
            splitter.finish(&mut parts);
            self.take(parts, &mut deltas);
        }
        if let Some(calls) = &mut self.calls {
            calls.finish(&mut deltas);
        }
        deltas
    }

    fn take(&mut self, parts: Vec<Part>, deltas: &mut Vec<Delta>) {
        for part in parts {
            match part {
                Part::Reasoning(text) => deltas.push(Delta::Reasoning(text)),
                Part::Answer(text) => self.answer(&text, deltas),
            }
        }
    }

    fn answer(&mut self, text: &str, deltas: &mut Vec<Delta>) {
        match &mut self.calls {
            Some(calls) => calls.push(text, deltas),
            None if text.is_empty() => {}
            None => deltas.push(Delta::Content(text.to_owned())),
        }
    }
}

/// A whole answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The reasoning; empty without any.
    pub reasoning: String,
    /// The text; empty without any.
    pub content: String,
    /// The calls, in their order.
    pub calls: Vec<Call>,
}

/// A call of a tool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Call {
    /// Its identifier.
    pub id: String,
    /// What is called.
    pub name: String,
    /// The arguments as JSON text; models may write invalid JSON.
    pub arguments: String,
}

impl Message {
    /// Adds what is new.
    pub fn add(&mut self, delta: Delta) {
        match delta {
            Delta::Reasoning(text) => self.reasoning.push_str(&text),
            Delta::Content(text) => self.content.push_str(&text),
            Delta::ToolCall { id, name, .. } => self.calls.push(Call {
                id,
                name,
                arguments: String::new(),
            }),
            Delta::ToolArguments { index, text } => {
                if let Some(call) = self.calls.get_mut(index) {
                    call.arguments.push_str(&text);
                }
            }
        }
    }
}

impl Extend<Delta> for Message {
    fn extend<I: IntoIterator<Item = Delta>>(&mut self, deltas: I) {
        for delta in deltas {
            self.add(delta);
        }
    }
}
