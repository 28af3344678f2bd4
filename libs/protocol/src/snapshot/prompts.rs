//! Prompts of routes: messages that are put in front of requests, and marks for caches of prompts.

use serde::{Deserialize, Serialize};

/// Bytes of one template.
pub const PROMPT_BYTES_MAX: usize = 256 << 10;

/// Messages that a route puts in front of requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Prompts {
    /// The template for requests that name none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// The templates.
    pub templates: Vec<PromptTemplate>,
}

/// A template.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PromptTemplate {
    /// What requests name it by.
    pub name: String,
    /// Its messages.
    pub messages: Vec<PromptMessage>,
}

/// A message of a template, in which `{{name}}` stands for a variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PromptMessage {
    /// Who says it.
    pub role: PromptRole,
    /// What is said.
    pub content: String,
}

/// Who says a message of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PromptRole {
    /// Whoever set the conversation up.
    System,
    /// The user.
    User,
    /// The model.
    Assistant,
}

impl PromptMessage {
    /// The messages that a text holds: itself, as the system's, or those of a JSON list. A blank text holds none.
    ///
    /// # Errors
    /// A list that is no list of messages.
    pub fn read(text: &str) -> Result<Vec<Self>, serde_json::Error> {
        let trimmed = text.trim();
        if trimmed.starts_with('[') && trimmed.ends_with(']') {
            return serde_json::from_str(trimmed);
        }
        let whole = Self {
            role: PromptRole::System,
            content: trimmed.to_owned(),
        };
        Ok(if trimmed.is_empty() {
            Vec::new()
        } else {
            vec![whole]
        })
    }
}

/// Who marks what of a prompt is worth caching, where an API wants marks: Anthropic's and Bedrock's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PromptCache {
    /// The client, if anybody.
    #[default]
    Client,
    /// The gateway, for clients that do not: behind the tools, the system's texts and the last user's turn.
    Automatic,
}

impl PromptCache {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(super) const fn is_default(&self) -> bool {
        matches!(self, Self::Client)
    }
}

#[cfg(test)]
mod tests {
    use super::{PromptMessage, PromptRole};

    #[test]
    fn a_text_is_the_systems_and_a_list_is_one_of_messages() {
        let message = |role, content: &str| PromptMessage {
            role,
            content: content.to_owned(),
        };
        let read = |text| PromptMessage::read(text).ok();
        assert_eq!(
            read(" be {{how}}\n"),
            Some(vec![message(PromptRole::System, "be {{how}}")])
        );
        let list = r#"[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]"#;
        assert_eq!(
            read(list),
            Some(vec![
                message(PromptRole::User, "a"),
                message(PromptRole::Assistant, "b")
            ])
        );
        assert_eq!(read(" "), Some(Vec::new()));
        assert_eq!(read("[1]"), None);
        assert_eq!(read(r#"[{"role":"tool","content":"a"}]"#), None);
    }
}
