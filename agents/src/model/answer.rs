//! Gathering a streamed answer: text and tool calls come in pieces.

use std::collections::BTreeMap;

use protocol::openai::{
    ChatChunk, ChatMessage, Content, FunctionCall, ToolCall, ToolCallDelta, Usage,
};

use super::Answer;

/// Most tool calls of one answer.
const CALLS_MAX: usize = 128;

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    text: String,
    calls: BTreeMap<u32, FunctionCall>,
    ids: BTreeMap<u32, String>,
    usage: Option<Usage>,
    is_finished: bool,
}

impl Gathering {
    /// Takes an event and returns the text that is new.
    pub(super) fn push(&mut self, chunk: ChatChunk) -> Option<String> {
        if chunk.usage.is_some() {
            self.usage = chunk.usage;
        }
        let choice = chunk.choices.into_iter().find(|choice| choice.index == 0)?;
        self.is_finished |= choice.finish_reason.is_some();
        for call in choice.delta.tool_calls.unwrap_or_default() {
            self.push_call(call);
        }
        let text = choice.delta.content.filter(|text| !text.is_empty())?;
        self.text.push_str(&text);
        Some(text)
    }

    fn push_call(&mut self, delta: ToolCallDelta) {
        if let Some(id) = delta.id.filter(|id| !id.is_empty()) {
            self.ids.insert(delta.index, id);
        }
        let call = self
            .calls
            .entry(delta.index)
            .or_insert_with(|| FunctionCall {
                name: String::new(),
                arguments: String::new(),
            });
        if let Some(function) = delta.function {
            call.name.push_str(&function.name.unwrap_or_default());
            call.arguments
                .push_str(&function.arguments.unwrap_or_default());
        }
    }

    pub(super) const fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// The whole answer.
    pub(super) fn finish(self) -> Result<Answer, String> {
        if CALLS_MAX < self.calls.len() {
            return Err(format!("the answer calls more than {CALLS_MAX} tools"));
        }
        let ids = self.ids;
        let calls: Vec<ToolCall> = self
            .calls
            .into_iter()
            .map(|(index, function)| ToolCall {
                id: ids
                    .get(&index)
                    .cloned()
                    .unwrap_or_else(|| format!("call_{index}")),
                kind: "function".to_owned(),
                function,
            })
            .collect();
        let content =
            (!self.text.is_empty() || calls.is_empty()).then_some(Content::Text(self.text));
        let message = ChatMessage {
            role: "assistant".to_owned(),
            content,
            tool_calls: (!calls.is_empty()).then_some(calls),
            ..ChatMessage::default()
        };
        Ok(Answer {
            message,
            usage: self.usage,
        })
    }
}
