//! How a model of Anthropic's is told to think.

use serde_json::{Value, json};

use super::generation::{ThinkingStyle, thinking_style};
use crate::wire::conversation::{
    Conversation, Effort, Message, PartKind, Reasoning, Role, ToolChoice,
};

/// Fewest tokens that a budget of thoughts may have.
const BUDGET_MIN: u64 = 1024;

/// How many tokens the answer has if the client does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::wire) enum ThinkingRoom {
    /// We say, and add those of the thoughts.
    Counted,
    /// The upstream says.
    Unknown,
}

/// How the model is told to think.
pub(in crate::wire) struct Thoughts {
    /// `thinking`.
    pub(in crate::wire) thinking: Option<Value>,
    /// `effort`.
    pub(in crate::wire) effort: Option<&'static str>,
    /// Tokens of thoughts, where they are counted.
    pub(in crate::wire) budget: u64,
}

impl Thoughts {
    const NONE: Self = Self {
        thinking: None,
        effort: None,
        budget: 0,
    };

    /// What the request wants of the model.
    pub(in crate::wire) fn of(
        conversation: &Conversation,
        model: &str,
        room: ThinkingRoom,
    ) -> Self {
        let Some(reasoning) = conversation.reasoning else {
            return Self::NONE;
        };
        // The API refuses thoughts before a call that is forced; the call is what the client insists on.
        let is_forced = matches!(
            conversation.tool_choice,
            Some(ToolChoice::Required | ToolChoice::Named(_))
        );
        let disabled = Self {
            thinking: Some(json!({"type": "disabled"})),
            ..Self::NONE
        };
        match (reasoning, thinking_style(model)) {
            (Reasoning::Off, _) => disabled,
            _ if is_forced => Self::NONE,
            (Reasoning::Effort(effort), ThinkingStyle::Budget) => {
                Self::budget(conversation, effort.budget(), room)
            }
            (Reasoning::Adaptive, ThinkingStyle::Budget) => {
                Self::budget(conversation, Effort::Medium.budget(), room)
            }
            (Reasoning::Budget(tokens), ThinkingStyle::Budget) => {
                Self::budget(conversation, tokens, room)
            }
            (Reasoning::Adaptive, ThinkingStyle::Adaptive) => Self::adaptive(None),
            (Reasoning::Effort(effort), ThinkingStyle::Adaptive) => Self::adaptive(Some(effort)),
            (Reasoning::Budget(tokens), ThinkingStyle::Adaptive) => {
                Self::adaptive(Some(Effort::of_budget(tokens)))
            }
        }
    }

    fn adaptive(effort: Option<Effort>) -> Self {
        Self {
            thinking: Some(json!({"type": "adaptive"})),
            effort: effort.map(|effort| match effort {
                // The lowest that this API knows.
                Effort::Minimal => Effort::Low.word(),
                effort => effort.word(),
            }),
            budget: 0,
        }
    }

    /// A budget must leave tokens for the answer; where it cannot, and where the thoughts before the last calls are
    /// lost, the model does not think.
    fn budget(conversation: &Conversation, tokens: u64, room: ThinkingRoom) -> Self {
        let max_tokens = conversation.sampling.max_tokens;
        let tokens = match max_tokens {
            Some(room) => tokens.min(room.saturating_sub(1)),
            None => tokens,
        };
        if tokens < BUDGET_MIN || has_calls_without_thoughts(conversation) {
            return Self::NONE;
        }
        Self {
            thinking: Some(json!({"type": "enabled", "budget_tokens": tokens})),
            effort: None,
            budget: match (max_tokens, room) {
                (None, ThinkingRoom::Counted) => tokens,
                (Some(_), _) | (None, ThinkingRoom::Unknown) => 0,
            },
        }
    }
}

/// Whether the last calls of the model came without the proof of its thoughts: then models with budgets refuse to
/// think on.
fn has_calls_without_thoughts(conversation: &Conversation) -> bool {
    let is_answer = |message: &&Message| message.role == Role::Assistant;
    let Some(last) = conversation.messages.iter().rev().find(is_answer) else {
        return false;
    };
    let has = |is_it: fn(&PartKind) -> bool| last.parts.iter().any(|part| is_it(&part.kind));
    has(|kind| matches!(kind, PartKind::Call(_)))
        && !has(|kind| match kind {
            PartKind::Redacted(_) => true,
            PartKind::Thinking(thinking) => thinking.signature.is_some(),
            _ => false,
        })
}
