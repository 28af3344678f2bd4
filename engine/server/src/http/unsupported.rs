//! Parameters that we know and do not honour: refused by name unless they ask for what happens anyway.
//!
//! What we do not know is ignored, as the other servers of these APIs do.

use serde_json::{Map, Value, json};

use super::fault::Fault;

/// A parameter and the values that change nothing; null and empty lists never do.
pub(super) type Row = (&'static str, &'static [Neutral]);

#[derive(Debug, Clone, Copy)]
pub(super) enum Neutral {
    Bool(bool),
    Number(f64),
    Word(&'static str),
    /// The only element of a list.
    Only(&'static str),
}

use Neutral::{Bool, Number, Only, Word};

/// vLLM's and OpenAI's parameters of chats and completions.
pub(super) const GENERATION: &[Row] = &[
    ("allowed_token_ids", &[]),
    ("bad_words", &[]),
    ("documents", &[]),
    ("ec_transfer_params", &[]),
    ("kv_transfer_params", &[]),
    ("length_penalty", &[Number(1.0)]),
    ("logprob_token_ids", &[]),
    ("mm_processor_kwargs", &[]),
    ("prompt_embeds", &[]),
    ("repetition_detection", &[]),
    ("return_token_offsets", &[Bool(false)]),
    ("return_tokens_as_token_ids", &[Bool(false)]),
    ("return_token_ids", &[Bool(false)]),
    ("return_prompt_text", &[Bool(false)]),
    ("spaces_between_special_tokens", &[Bool(true), Bool(false)]),
    ("thinking_token_budget", &[]),
    ("truncate_prompt_tokens", &[]),
    ("use_beam_search", &[Bool(false)]),
    ("watermarking", &[Bool(false)]),
];

/// Of chats alone.
pub(super) const CHAT: &[Row] = &[
    ("audio", &[]),
    ("chat_template", &[]),
    ("echo", &[Bool(false)]),
    ("function_call", &[Word("none"), Word("auto")]),
    ("functions", &[]),
    ("modalities", &[Only("text")]),
    ("prediction", &[]),
    ("web_search_options", &[]),
];

/// Of completions alone.
pub(super) const COMPLETION: &[Row] = &[("suffix", &[Word("")])];

/// Of embeddings alone.
pub(super) const EMBEDDINGS: &[Row] = &[
    ("truncate_prompt_tokens", &[]),
    ("normalize", &[Bool(true)]),
    ("embed_dtype", &[Word("float32")]),
];

/// Of responses alone.
pub(super) const RESPONSES: &[Row] = &[
    ("background", &[Bool(false)]),
    ("conversation", &[]),
    ("max_tool_calls", &[]),
    ("previous_input_messages", &[]),
    ("prompt", &[]),
    ("truncation", &[Word("disabled")]),
];

/// Of Anthropic's messages alone.
pub(super) const MESSAGES: &[Row] = &[
    ("container", &[]),
    ("context_management", &[]),
    ("mcp_servers", &[]),
];

/// Refuses the first parameter that asks for something that is not served.
pub(super) fn refuse(object: &Map<String, Value>, tables: &[&[Row]]) -> Result<(), Fault> {
    for (name, neutral) in tables.iter().copied().flatten() {
        let Some(value) = object.get(*name) else {
            continue;
        };
        let is_nothing = value.is_null() || value == &json!([]) || value == &json!({});
        if !is_nothing && !neutral.iter().any(|neutral| neutral.is(value)) {
            return Err(Fault::parameter(
                name,
                format!("`{name}` is not supported by this engine."),
            ));
        }
    }
    Ok(())
}

impl Neutral {
    fn is(self, value: &Value) -> bool {
        match self {
            Bool(expected) => value.as_bool() == Some(expected),
            Number(expected) => value.as_f64() == Some(expected),
            Word(expected) => value.as_str() == Some(expected),
            Only(expected) => value
                .as_array()
                .is_some_and(|list| matches!(list.as_slice(), [one] if one == expected)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{CHAT, COMPLETION, GENERATION, refuse};

    #[track_caller]
    fn check(body: &Value, is_served: bool) {
        let object = body.as_object().unwrap();
        let refused = refuse(object, &[GENERATION, CHAT, COMPLETION]);
        assert_eq!(refused.is_ok(), is_served, "{body}");
    }

    #[test]
    fn only_what_changes_the_answer_is_refused() {
        check(&json!({}), true);
        check(&json!({"something_new": 5, "user": "x"}), true);
        check(&json!({"bad_words": []}), true);
        check(&json!({"bad_words": ["x"]}), false);
        check(&json!({"use_beam_search": false}), true);
        check(&json!({"use_beam_search": true}), false);
        check(&json!({"length_penalty": 1}), true);
        check(&json!({"length_penalty": 2}), false);
        check(&json!({"modalities": ["text"]}), true);
        check(&json!({"modalities": ["text", "audio"]}), false);
        check(&json!({"suffix": ""}), true);
        check(&json!({"suffix": "x"}), false);
        check(&json!({"audio": null}), true);
    }
}
