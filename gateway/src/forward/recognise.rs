//! Recognises in an upstream's error what status codes do not tell: a prompt over the context, a content refused. Pure.

use protocol::routing::FailureClass;
use serde_json::Value;

/// Codes, types and statuses that say so by themselves.
const CONTEXT_CODES: [&str; 4] = [
    "context_length_exceeded",
    // llama.cpp's.
    "exceed_context_size_error",
    "model_context_window_exceeded",
    "string_above_max_length",
];
const CONTENT_CODES: [&str; 9] = [
    "content_filter",
    "content_policy_violation",
    "responsibleaipolicyviolation",
    "moderation_blocked",
    "safety_violation",
    "invalid_prompt",
    "safety",
    "prohibited_content",
    "content_filtered",
];

/// Words of messages, in lower case; all words of a row must be there, in their order.
const CONTEXT_WORDS: [&[&str]; 14] = [
    // OpenAI, Azure, vLLM, and those that speak like them.
    &["maximum context length"],
    &["exceeds the context window"],
    &["reduce the length of the messages"],
    // Anthropic.
    &["prompt is too long"],
    &["input length and `max_tokens` exceed context limit"],
    // vLLM and SGLang, by version.
    &["longer than the maximum model length"],
    &["too long to fit into the model"],
    &["longer than the model's context length"],
    // Gemini.
    &["input token count", "exceeds the maximum number of tokens"],
    // Bedrock.
    &["input is too long for requested model"],
    &["too many input tokens"],
    // Mistral, Grok, Text Generation Inference, llama.cpp.
    &["too large for model with", "maximum context length"],
    &["maximum prompt length is"],
    &["exceeds the available context size"],
];
const CONTENT_WORDS: [&[&str]; 10] = [
    // OpenAI.
    &["rejected as a result of our safety system"],
    &["flagged as potentially violating our usage policy"],
    // Azure.
    &["content management policy"],
    // Anthropic.
    &["blocked by content filtering policy"],
    // Gemini and Vertex.
    &["responsible ai practices"],
    &["prohibited_content"],
    &["blocked", "safety"],
    // Bedrock.
    &["blocked by our content filters"],
    &["guardrail", "intervened"],
    // OpenRouter.
    &["requires moderation", "flagged"],
];

/// What an error's body says beyond its status; `None` for anything else.
pub(super) fn recognise(body: &[u8]) -> Option<FailureClass> {
    let body: Value = serde_json::from_slice(body).ok()?;
    // Gemini wraps errors of streams into a list.
    let body = body.get(0).unwrap_or(&body);
    let error = &body["error"];
    let inner = &error["innererror"];
    let codes = [
        &error["code"],
        &error["type"],
        &error["status"],
        &inner["code"],
        &body["code"],
        &body["type"],
        &body["__type"],
    ];
    let codes = || codes.into_iter().filter_map(Value::as_str);
    let says = |known: &[&str]| {
        codes().any(|code| known.iter().any(|known| code.eq_ignore_ascii_case(known)))
    };
    if says(&CONTEXT_CODES) {
        return Some(FailureClass::ContextWindow);
    }
    if says(&CONTENT_CODES) {
        return Some(FailureClass::ContentPolicy);
    }
    let messages = [
        &error["message"],
        error,
        &body["message"],
        &body["Message"],
        &body["detail"],
    ];
    let messages = messages.into_iter().filter_map(Value::as_str);
    let messages: Vec<String> = messages.map(str::to_lowercase).collect();
    let tells = |known: &[&[&str]]| {
        let tells = |row: &&[&str]| messages.iter().any(|message| holds(message, row));
        known.iter().any(tells)
    };
    if tells(&CONTEXT_WORDS) {
        return Some(FailureClass::ContextWindow);
    }
    tells(&CONTENT_WORDS).then_some(FailureClass::ContentPolicy)
}

/// Whether a message holds all words, in their order.
fn holds(message: &str, words: &[&str]) -> bool {
    let mut rest = message;
    words.iter().all(|word| match rest.split_once(word) {
        Some((_, behind)) => {
            rest = behind;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use protocol::routing::FailureClass::{self, ContentPolicy, ContextWindow};

    use super::recognise;

    #[track_caller]
    fn check(body: &str, expected: Option<FailureClass>) {
        assert_eq!(recognise(body.as_bytes()), expected, "{body}");
    }

    #[test]
    fn prompts_over_the_context_are_recognised_in_every_providers_words() {
        for body in [
            // OpenAI and Azure.
            r#"{"error":{"message":"This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 tokens. Please reduce the length of the messages.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
            r#"{"error":{"message":"Your input exceeds the context window of this model. Please adjust your input and try again.","type":"invalid_request_error","param":"input","code":null}}"#,
            // Anthropic.
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 209353 tokens > 199999 maximum"}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"input length and `max_tokens` exceed context limit: 90402 + 116650 > 204648, decrease input length or `max_tokens` and try again"}}"#,
            // vLLM, old and new, and SGLang.
            r#"{"object":"error","message":"This model's maximum context length is 131072 tokens. However, you requested 351430 tokens. Please reduce the length of the messages or completion.","type":"BadRequestError","param":null,"code":400}"#,
            r#"{"error":{"message":"The decoder prompt (length 12324) is longer than the maximum model length of 8192. Make sure that `max_model_len` is no smaller than the number of text tokens.","type":"BadRequestError","param":null,"code":400}}"#,
            r#"{"object":"error","message":"The input (5000 tokens) is longer than the model's context length (4096 tokens).","type":"BadRequestError","param":null,"code":400}"#,
            // Gemini, also in a list.
            r#"{"error":{"code":400,"message":"The input token count (314175) exceeds the maximum number of tokens allowed (131072).","status":"INVALID_ARGUMENT"}}"#,
            r#"[{"error":{"code":400,"message":"The input token count exceeds the maximum number of tokens allowed 1048576.","status":"INVALID_ARGUMENT"}}]"#,
            // Bedrock.
            r#"{"message":"Input is too long for requested model."}"#,
            r#"{"message":"The model returned the following errors: input length and `max_tokens` exceed context limit: 199000 + 8192 > 200000"}"#,
            // llama.cpp.
            r#"{"error":{"code":400,"message":"the request exceeds the available context size, try increasing it","type":"exceed_context_size_error","n_prompt_tokens":9000,"n_ctx":4096}}"#,
        ] {
            check(body, Some(ContextWindow));
        }
    }

    #[test]
    fn refused_content_is_recognised_in_every_providers_words() {
        for body in [
            r#"{"error":{"code":"content_policy_violation","message":"Your request was rejected as a result of our safety system.","param":null,"type":"invalid_request_error"}}"#,
            r#"{"error":{"message":"Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again with a different prompt.","type":"invalid_request_error","param":null,"code":"invalid_prompt"}}"#,
            r#"{"error":{"message":"The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.","type":null,"param":"prompt","code":"content_filter","status":400,"innererror":{"code":"ResponsibleAIPolicyViolation","content_filter_result":{"hate":{"filtered":true,"severity":"high"}}}}}"#,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"Output blocked by content filtering policy"}}"#,
            r#"{"error":{"code":400,"message":"The prompt could not be submitted. It contains sensitive words that violate Google's Responsible AI practices.","status":"INVALID_ARGUMENT"}}"#,
            r#"{"message":"The generated text has been blocked by our content filters."}"#,
            r#"{"error":{"code":403,"message":"openai/gpt-4o requires moderation on OpenAI. Your input was flagged for \"violence\".","metadata":{"reasons":["violence"]}}}"#,
        ] {
            check(body, Some(ContentPolicy));
        }
    }

    #[test]
    fn other_errors_are_left_to_their_status() {
        for body in [
            r#"{"error":{"message":"The model `x` does not exist","type":"invalid_request_error","code":"model_not_found"}}"#,
            // Bedrock's rate limit speaks of tokens, too.
            r#"{"message":"Too many tokens, please wait before trying again."}"#,
            r#"{"error":{"message":"Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29000, Requested 2000.","type":"tokens","code":"rate_limit_exceeded"}}"#,
            r#"{"error":{"message":"max_tokens is too large: 500000. This model supports at most 16384 completion tokens","type":"invalid_request_error","param":"max_tokens","code":"invalid_value"}}"#,
            // A user's words in a field that is not the message.
            r#"{"error":{"message":"bad","param":"prompt is too long"}}"#,
            "<html>prompt is too long</html>",
            "",
            "[]",
        ] {
            check(body, None);
        }
    }
}
