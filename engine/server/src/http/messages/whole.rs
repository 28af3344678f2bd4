//! A whole message.

use protocol::anthropic::{Block, Message, MessageUsage, StopReason};
use serde_json::{Value, json};

use super::super::choice::{Choice, End, EndReason};
use super::super::fault::Fault;

/// Waits for the answer.
pub(super) async fn whole(id: String, model: String, choice: Choice) -> Result<Message, Fault> {
    let answer = choice.collect().await?;
    let mut content = Vec::new();
    if !answer.message.reasoning.is_empty() {
        content.push(Block::Thinking {
            thinking: answer.message.reasoning,
            signature: String::new(),
        });
    }
    if !answer.message.content.is_empty() {
        let text = answer.message.content;
        content.push(Block::Text { text });
    }
    content.extend(answer.message.calls.into_iter().map(|call| {
        Block::ToolUse {
            id: call.id,
            name: call.name,
            // Anthropic's clients expect an object; text that is no JSON is kept inside one.
            input: serde_json::from_str::<Value>(&call.arguments)
                .unwrap_or_else(|_| json!({"arguments": call.arguments})),
        }
    }));
    Ok(Message {
        content,
        stop_reason: Some(stop_reason(&answer.end)),
        stop_sequence: answer.end.stop,
        usage: answer.usage.into(),
        ..begun(id, model)
    })
}

/// A message without content.
pub(super) fn begun(id: String, model: String) -> Message {
    Message {
        id,
        kind: "message".to_owned(),
        role: "assistant".to_owned(),
        model,
        content: Vec::new(),
        stop_reason: None,
        stop_sequence: None,
        usage: MessageUsage::default(),
    }
}

pub(super) const fn stop_reason(end: &End) -> StopReason {
    match end.reason {
        EndReason::Stop if end.stop.is_some() => StopReason::StopSequence,
        EndReason::Stop => StopReason::EndTurn,
        EndReason::Length => StopReason::MaxTokens,
        EndReason::ToolCalls => StopReason::ToolUse,
    }
}
