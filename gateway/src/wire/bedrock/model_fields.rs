//! What `Converse` has no words for and a family of models has, told by the model's name.

use serde_json::{Map, Value, json};

use crate::wire::{
    InvalidRequest,
    conversation::{Conversation, Effort, Reasoning, ToolChoice},
    marks,
    messages::{ThinkingRoom, Thoughts},
    refusal,
};

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// Anthropic's.
    Claude,
    /// Amazon's own.
    Nova,
    /// OpenAI's with open weights.
    GptOss,
    /// All others.
    Other,
}

impl Family {
    /// The family of a model's id, profile or ARN.
    pub(super) fn of(model: &str) -> Self {
        if model.contains("anthropic") || model.contains("claude") {
            Self::Claude
        } else if model.contains("nova") {
            Self::Nova
        } else if model.contains("gpt-oss") {
            Self::GptOss
        } else {
            Self::Other
        }
    }
}

/// The fields for the model itself, and the effort that `Converse` has a word for.
#[derive(Debug, Default)]
pub(super) struct ModelFields {
    /// `additionalModelRequestFields`.
    pub(super) fields: Map<String, Value>,
    /// `outputConfig.effort`.
    pub(super) effort: Option<&'static str>,
}

/// Marks what the model's family can cache; others refuse marks.
pub(in crate::wire) fn put_in_marks(conversation: &mut Conversation, model: &str) {
    match Family::of(model) {
        Family::Claude => marks::put_in(conversation, true),
        Family::Nova => marks::put_in(conversation, false),
        Family::GptOss | Family::Other => {}
    }
}

/// What the request means to its model beyond `Converse`.
///
/// # Errors
/// [`InvalidRequest`] if the model has no words for it either.
pub(super) fn model_fields(
    conversation: &Conversation,
    model: &str,
) -> Result<ModelFields, InvalidRequest> {
    let family = Family::of(model);
    let mut extra = ModelFields::default();
    if let Some(top_k) = &conversation.sampling.top_k {
        let (name, value) = match family {
            Family::Nova => ("inferenceConfig", json!({"topK": top_k})),
            Family::Claude | Family::GptOss | Family::Other => ("top_k", json!(top_k)),
        };
        extra.fields.insert(name.to_owned(), value);
    }
    think(conversation, model, family, &mut extra);
    if let Some(choice) = choose(conversation, family)? {
        extra.fields.insert("tool_choice".to_owned(), choice);
    }
    Ok(extra)
}

fn think(conversation: &Conversation, model: &str, family: Family, extra: &mut ModelFields) {
    let Some(reasoning) = conversation.reasoning else {
        return;
    };
    let effort = match reasoning {
        Reasoning::Off => None,
        Reasoning::Adaptive => Some(Effort::Medium),
        Reasoning::Effort(effort) => Some(effort),
        Reasoning::Budget(tokens) => Some(Effort::of_budget(tokens)),
    };
    let capped = effort.map(|effort| match effort {
        Effort::Minimal | Effort::Low => "low",
        Effort::Medium => "medium",
        Effort::High | Effort::XHigh | Effort::Max => "high",
    });
    let field = match family {
        Family::Claude => {
            let thoughts = Thoughts::of(conversation, model, ThinkingRoom::Unknown);
            extra.effort = thoughts.effort;
            thoughts.thinking.map(|thinking| ("thinking", thinking))
        }
        Family::Nova => Some((
            "reasoningConfig",
            match capped {
                Some(effort) => json!({"type": "enabled", "maxReasoningEffort": effort}),
                None => json!({"type": "disabled"}),
            },
        )),
        Family::GptOss => capped.map(|effort| ("reasoning_effort", json!(effort))),
        Family::Other => None,
    };
    if let Some((name, value)) = field {
        extra.fields.insert(name.to_owned(), value);
    }
}

/// The choice of tools where `Converse` has no word for it: no tools, or one at most.
fn choose(conversation: &Conversation, family: Family) -> Result<Option<Value>, InvalidRequest> {
    if conversation.tools.is_empty() {
        return Ok(None);
    }
    let is_single = conversation.parallel_calls == Some(false);
    let is_none = conversation.tool_choice == Some(ToolChoice::None);
    match family {
        _ if !is_single && !is_none => Ok(None),
        Family::Claude => {
            let choice = crate::wire::messages::tool_choice(
                conversation.tool_choice.clone(),
                conversation.parallel_calls,
            );
            Ok(choice.map(|choice| json!(choice)))
        }
        Family::Nova | Family::GptOss | Family::Other if is_single => {
            Err(refusal::parallel_calls())
        }
        Family::Nova | Family::GptOss | Family::Other => Err(InvalidRequest::new(
            "tool_choice",
            "cannot be `none` with this model: leave out `tools`",
        )),
    }
}
