//! A streamed answer in the chat API's shape: the role, what is new, the reason of the end, the usage if wanted.

use std::collections::BTreeMap;

use engine_models::Tokenizer;
use futures::{Stream, StreamExt, stream};
use protocol::openai::{
    ChatChunk, ChatChunkChoice, ChatDelta, FunctionCallDelta, Logprobs, ToolCallDelta, Usage,
};

use crate::parse::Delta;

use super::super::choice::{self, Piece, of_one_prompt};
use super::super::fault::Fault;
use super::super::logprobs;
use super::super::sampling::StreamUsage;
use super::{Chat, Head};

/// What the chunks are made with.
struct Chunks {
    head: Head,
    tokenizer: std::sync::Arc<Tokenizer>,
    has_logprobs: bool,
    wanted: StreamUsage,
    /// Of each answer, so far.
    usages: BTreeMap<u32, Usage>,
}

/// The chunks of all answers.
pub(super) fn chunks(
    head: Head,
    chat: Chat,
    wanted: StreamUsage,
) -> impl Stream<Item = Result<ChatChunk, Fault>> + Send {
    let Chat {
        tokenizer,
        choices,
        has_logprobs,
        ..
    } = chat;
    let prompt = Usage::new(
        choices
            .first()
            .map_or(0, |choice| choice.prompt_length() as u64),
        0,
    );
    let mut chunks = Chunks {
        head,
        tokenizer,
        has_logprobs,
        wanted,
        usages: BTreeMap::from([(0, prompt)]),
    };
    let count = u32::try_from(choices.len()).unwrap_or(u32::MAX);
    let first: Vec<_> = (0..count).map(|index| Ok(chunks.role(index))).collect();
    // Behind the last piece comes the usage.
    let pieces = choice::pieces(choices)
        .map(Some)
        .chain(stream::once(async { None }));
    let rest = pieces.flat_map(move |piece| {
        stream::iter(match piece {
            Some(Ok(piece)) => chunks.of_piece(piece),
            Some(Err(fault)) => vec![Err(fault)],
            None if chunks.wanted.at_end => vec![Ok(chunks.last())],
            None => Vec::new(),
        })
    });
    stream::iter(first).chain(rest)
}

impl Chunks {
    fn role(&self, index: u32) -> ChatChunk {
        let delta = ChatDelta {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
            ..ChatDelta::default()
        };
        self.chunk(index, delta, None, None)
    }

    fn of_piece(&mut self, piece: Piece) -> Vec<Result<ChatChunk, Fault>> {
        let index = piece.index;
        self.usages.insert(index, piece.usage);
        let mut logprobs = self
            .has_logprobs
            .then(|| logprobs::of_chat(&self.tokenizer, std::slice::from_ref(&piece.sampled)));
        let mut deltas: Vec<_> = piece.deltas.into_iter().map(to_chat).collect();
        if deltas.is_empty() && logprobs.is_some() {
            deltas.push(ChatDelta {
                content: Some(String::new()),
                ..ChatDelta::default()
            });
        }
        let mut chunks: Vec<_> = deltas
            .into_iter()
            .map(|delta| Ok(self.chunk(index, delta, logprobs.take(), None)))
            .collect();
        if let Some(end) = piece.end {
            let reason = Some(end.reason.as_str());
            chunks.push(Ok(self.chunk(index, ChatDelta::default(), None, reason)));
        }
        chunks
    }

    fn chunk(
        &self,
        index: u32,
        delta: ChatDelta,
        logprobs: Option<Logprobs>,
        finish: Option<&str>,
    ) -> ChatChunk {
        let usage = self.wanted.in_each.then(|| self.usage());
        self.of_choices(
            vec![ChatChunkChoice {
                index,
                delta,
                logprobs,
                finish_reason: finish.map(str::to_owned),
            }],
            usage,
        )
    }

    fn last(&self) -> ChatChunk {
        self.of_choices(Vec::new(), Some(self.usage()))
    }

    fn usage(&self) -> Usage {
        of_one_prompt(self.usages.values().copied())
    }

    fn of_choices(&self, choices: Vec<ChatChunkChoice>, usage: Option<Usage>) -> ChatChunk {
        ChatChunk {
            id: self.head.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.head.created,
            model: self.head.model.clone(),
            choices,
            usage,
            system_fingerprint: Some(self.head.fingerprint.clone()),
        }
    }
}

fn to_chat(delta: Delta) -> ChatDelta {
    let call = |index: usize| ToolCallDelta {
        index: u32::try_from(index).unwrap_or(u32::MAX),
        id: None,
        kind: None,
        function: None,
    };
    match delta {
        Delta::Reasoning(text) => ChatDelta {
            reasoning_content: Some(text),
            ..ChatDelta::default()
        },
        Delta::Content(text) => ChatDelta {
            content: Some(text),
            ..ChatDelta::default()
        },
        Delta::ToolCall { index, id, name } => {
            let function = Some(FunctionCallDelta {
                name: Some(name),
                arguments: Some(String::new()),
            });
            of_call(ToolCallDelta {
                id: Some(id),
                kind: Some("function".to_owned()),
                function,
                ..call(index)
            })
        }
        Delta::ToolArguments { index, text } => {
            let function = Some(FunctionCallDelta {
                name: None,
                arguments: Some(text),
            });
            of_call(ToolCallDelta {
                function,
                ..call(index)
            })
        }
    }
}

fn of_call(call: ToolCallDelta) -> ChatDelta {
    ChatDelta {
        tool_calls: Some(vec![call]),
        ..ChatDelta::default()
    }
}
