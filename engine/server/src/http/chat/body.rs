//! A chat as the engine takes it, whatever API it came over.

use protocol::openai::ChatMessage;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::fault::Fault;
use super::super::sampling::{LOGPROBS_MAX, Making, SamplingBody, answer_max, check_range};

/// The body of a chat: OpenAI's parameters and vLLM's extensions.
#[derive(Debug, Clone, Default, Deserialize)]
pub(in crate::http) struct ChatBody {
    pub(in crate::http) model: String,
    pub(in crate::http) messages: Vec<ChatMessage>,
    pub(in crate::http) max_completion_tokens: Option<u32>,
    /// The old name; only one of the two is set.
    pub(in crate::http) max_tokens: Option<u32>,
    pub(in crate::http) logprobs: Option<bool>,
    pub(in crate::http) top_logprobs: Option<u32>,
    pub(in crate::http) tools: Option<Vec<Value>>,
    pub(in crate::http) tool_choice: Option<Value>,
    pub(in crate::http) parallel_tool_calls: Option<bool>,
    pub(in crate::http) include_reasoning: Option<bool>,
    pub(in crate::http) reasoning_effort: Option<String>,
    pub(in crate::http) add_generation_prompt: Option<bool>,
    pub(in crate::http) continue_final_message: Option<bool>,
    pub(in crate::http) chat_template_kwargs: Option<Map<String, Value>>,
    #[serde(flatten)]
    pub(in crate::http) sampling: SamplingBody,
}

impl ChatBody {
    /// How the answers are made.
    pub(super) fn making(&self) -> Result<Making, Fault> {
        let tokens_max = match self.max_completion_tokens {
            None => answer_max("max_tokens", self.max_tokens)?,
            length => answer_max("max_completion_tokens", length)?,
        };
        self.sampling.read(tokens_max, self.logprobs()?)
    }

    fn logprobs(&self) -> Result<Option<u32>, Fault> {
        let count = self.top_logprobs.unwrap_or(0);
        if !self.logprobs.unwrap_or(false) {
            if count != 0 {
                return Err(Fault::parameter(
                    "top_logprobs",
                    "`top_logprobs` needs `logprobs` to be true.",
                ));
            }
            return Ok(None);
        }
        check_range("top_logprobs", count, 0, LOGPROBS_MAX)?;
        Ok(Some(count))
    }
}
