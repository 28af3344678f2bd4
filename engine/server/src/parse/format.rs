//! How models write tool calls and reasoning: one row for each way.

use std::borrow::Cow;

use engine_core::TokenId;
use engine_models::Tokenizer;
use thiserror::Error;

use super::calls::CALL_ID;
use super::ids::Ids;

/// How a model writes calls. A block is `start open call (between call)* close end`.
#[derive(Debug, PartialEq, Eq)]
pub struct ToolFormat {
    /// The word for `--tool-call-format`.
    pub name: &'static str,
    /// A chat template that holds one of these is for a model of this format.
    pub(crate) signs: &'static [&'static str],
    /// What a block begins with.
    pub(crate) start: &'static str,
    /// Whether the answer may begin with a block that lacks its start.
    pub(crate) is_start_optional: bool,
    /// What stands between the start and the first call.
    pub(crate) open: &'static str,
    /// What stands between two calls of a block; none if a block holds one call.
    pub(crate) between: Option<&'static str>,
    /// What stands between the last call and the end.
    pub(crate) close: &'static str,
    /// What a block ends with.
    pub(crate) end: &'static str,
    /// What stands between two blocks.
    pub(crate) between_blocks: &'static str,
    /// What a call looks like.
    pub(crate) call: CallFormat,
    /// How calls are identified.
    pub(crate) ids: Ids,
}

/// How a model writes one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallFormat {
    /// An object that holds the name and, under this key, the arguments.
    Object { arguments: &'static str },
    /// The name, this separator, and the arguments as an object.
    Named { separator: &'static str },
    /// A call as Python writes it: `name(key=value)`.
    Python,
}

const HERMES: ToolFormat = ToolFormat {
    name: "hermes",
    signs: &["<tool_call>"],
    start: "<tool_call>",
    is_start_optional: false,
    open: "\n",
    between: None,
    close: "\n",
    end: "</tool_call>",
    between_blocks: "\n",
    call: CallFormat::Object {
        arguments: "arguments",
    },
    ids: Ids::Prefixed,
};

const MISTRAL: ToolFormat = ToolFormat {
    name: "mistral",
    signs: &["[TOOL_CALLS]"],
    start: "[TOOL_CALLS]",
    is_start_optional: false,
    open: "[",
    between: Some(", "),
    close: "]",
    end: "",
    between_blocks: "",
    call: CallFormat::Object {
        arguments: "arguments",
    },
    ids: Ids::Short,
};

/// The formats; the first whose sign a template holds is the model's.
pub static TOOL_FORMATS: [ToolFormat; 7] = [
    ToolFormat {
        name: "mistral-args",
        signs: &["[ARGS]"],
        open: "",
        between: None,
        close: "",
        call: CallFormat::Named {
            separator: "[ARGS]",
        },
        ..MISTRAL
    },
    MISTRAL,
    ToolFormat {
        name: "phi",
        signs: &["<|tool_call|>"],
        start: "<|tool_call|>",
        open: "[",
        between: Some(", "),
        close: "]",
        end: "<|/tool_call|>",
        ..HERMES
    },
    HERMES,
    ToolFormat {
        name: "llama4-pythonic",
        signs: &["<|python_start|>"],
        start: "<|python_start|>",
        is_start_optional: true,
        open: "[",
        between: Some(", "),
        close: "]",
        end: "<|python_end|>",
        between_blocks: "",
        call: CallFormat::Python,
        ids: Ids::Prefixed,
    },
    ToolFormat {
        name: "pythonic",
        signs: &["[func_name1(", "func_name1(params_name1="],
        start: "<|python_tag|>",
        is_start_optional: true,
        open: "[",
        between: Some(", "),
        close: "]",
        end: "",
        between_blocks: "",
        call: CallFormat::Python,
        ids: Ids::Prefixed,
    },
    ToolFormat {
        name: "llama3-json",
        signs: &[
            "<|python_tag|>",
            "{\"name\": function name, \"parameters\":",
        ],
        start: "<|python_tag|>",
        is_start_optional: true,
        open: "",
        between: Some("; "),
        close: "",
        end: "",
        between_blocks: "",
        call: CallFormat::Object {
            arguments: "parameters",
        },
        ids: Ids::Prefixed,
    },
];

/// Between which marks a model thinks before it answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReasoningFormat {
    pub(crate) start: Cow<'static, str>,
    pub(crate) end: Cow<'static, str>,
}

const fn reasoning(start: &'static str, end: &'static str) -> ReasoningFormat {
    ReasoningFormat {
        start: Cow::Borrowed(start),
        end: Cow::Borrowed(end),
    }
}

/// The marks that templates are searched for, in this order.
static REASONING_FORMATS: [ReasoningFormat; 8] = [
    reasoning("<think>", "</think>"),
    reasoning("[THINK]", "[/THINK]"),
    reasoning("<|channel>thought", "<channel|>"),
    reasoning("<seed:think>", "</seed:think>"),
    reasoning("◁think▷", "◁/think▷"),
    reasoning("<reasoning>", "</reasoning>"),
    reasoning("<thinking>", "</thinking>"),
    reasoning("<thought>", "</thought>"),
];

impl ReasoningFormat {
    /// Whether an answer to this prompt begins in the middle of reasoning, because the template has opened it.
    pub fn is_open_in(&self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.start.trim_end())
    }
}

/// How one model writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formats {
    /// Tool calls.
    pub tools: &'static ToolFormat,
    /// Reasoning, if the model reasons.
    pub reasoning: Option<ReasoningFormat>,
    /// Whether the chat template tells the model about tools.
    pub template_has_tools: bool,
}

/// A format that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UnknownFormat {
    /// Of tool calls.
    #[error("tool call format {0:?} is none of {names}", names = tool_format_names())]
    Tools(String),
    /// Of reasoning.
    #[error("reasoning tag {0:?} is neither `none` nor the name of a tag")]
    Reasoning(String),
}

fn tool_format_names() -> String {
    let names: Vec<_> = TOOL_FORMATS.iter().map(|format| format.name).collect();
    names.join(", ")
}

impl Formats {
    /// Finds a model's formats in its chat template, unless they are given: `tools` as one of the names of
    /// [`TOOL_FORMATS`], `reasoning` as a tag's name or `none`.
    ///
    /// # Errors
    /// [`UnknownFormat`] if a given one is unknown.
    pub fn detect(
        template: Option<&str>,
        tools: Option<&str>,
        reasoning: Option<&str>,
    ) -> Result<Self, UnknownFormat> {
        let template = template.unwrap_or_default();
        Ok(Self {
            tools: match tools {
                None => tools_in(template),
                Some(name) => tools_named(name)?,
            },
            reasoning: match reasoning {
                None => reasoning_in(template),
                Some("none") => None,
                Some(name) => Some(reasoning_named(name)?),
            },
            template_has_tools: has_word(template, "tools"),
        })
    }

    /// The control tokens that reasoning, and calls where there are tools, are marked with: an answer's text must
    /// hold them, although control tokens have no text otherwise.
    pub(crate) fn marks(&self, tokenizer: &Tokenizer, has_tools: bool) -> Vec<TokenId> {
        let mut marks = Vec::new();
        if has_tools {
            marks.extend([self.tools.start, self.tools.end, CALL_ID]);
            if let CallFormat::Named { separator } = self.tools.call {
                marks.push(separator);
            }
        }
        if let Some(reasoning) = &self.reasoning {
            marks.extend([&*reasoning.start, &*reasoning.end]);
        }
        marks
            .iter()
            .flat_map(|mark| control_tokens(tokenizer, mark))
            .collect()
    }
}

/// The control tokens that a mark is made of.
fn control_tokens(tokenizer: &Tokenizer, mark: &str) -> Vec<TokenId> {
    let is_part = |token: &TokenId| {
        let name = tokenizer.visible_bytes(*token);
        let name = String::from_utf8_lossy(&name);
        tokenizer.bytes(*token).is_empty() && !name.is_empty() && mark.contains(&*name)
    };
    tokenizer
        .encode_chat(mark)
        .into_iter()
        .filter(is_part)
        .collect()
}

fn tools_in(template: &str) -> &'static ToolFormat {
    let holds = |format: &&ToolFormat| format.signs.iter().any(|sign| template.contains(sign));
    TOOL_FORMATS.iter().find(holds).unwrap_or(&HERMES)
}

fn tools_named(name: &str) -> Result<&'static ToolFormat, UnknownFormat> {
    let found = TOOL_FORMATS.iter().find(|format| format.name == name);
    found.ok_or_else(|| UnknownFormat::Tools(name.to_owned()))
}

fn reasoning_in(template: &str) -> Option<ReasoningFormat> {
    let found = REASONING_FORMATS
        .iter()
        .find(|format| template.contains(&*format.end));
    found.cloned()
}

/// A tag by its name: one of the table's, or `<name>` and `</name>`.
fn reasoning_named(name: &str) -> Result<ReasoningFormat, UnknownFormat> {
    let bare = |mark: &str| {
        mark.trim_matches(|character: char| !character.is_alphanumeric())
            .to_owned()
    };
    let is_named = |format: &&ReasoningFormat| format.start == name || bare(&format.start) == name;
    if let Some(format) = REASONING_FORMATS.iter().find(is_named) {
        return Ok(format.clone());
    }
    let name = name.trim_start_matches('<').trim_end_matches('>');
    let is_allowed = |character: char| character.is_alphanumeric() || "_-:|".contains(character);
    if name.is_empty() || 64 < name.len() || !name.chars().all(is_allowed) {
        return Err(UnknownFormat::Reasoning(name.to_owned()));
    }
    Ok(ReasoningFormat {
        start: Cow::Owned(format!("<{name}>")),
        end: Cow::Owned(format!("</{name}>")),
    })
}

fn has_word(text: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(word).any(|(start, _)| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}
