//! Claims about shapes: our answers are those of OpenAI's description, our requests those that vLLM takes, and our
//! metrics have vLLM's names. `testdata/shapes.py` says where the descriptions come from.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::{chat, with};

pub(super) const OPENAI: &str = include_str!("../../../testdata/openai-shapes.json");
const VLLM: &str = include_str!("../../../testdata/vllm-shapes.json");
const METRICS: &str = include_str!("../../../testdata/vllm-metrics.txt");

/// Metrics of vLLM that we have not, and why.
const LEFT_OUT: [(&str, &str); 6] = [
    ("vllm:estimated_", "estimates for graphics processors"),
    ("vllm:mm_cache_", "there are no pictures"),
    (
        "vllm:external_prefix_cache_",
        "no cache outside the process is connected",
    ),
    (
        "vllm:cache_config_info",
        "the configuration is in the load report",
    ),
    (
        "vllm:prompt_tokens_by_source_total",
        "all tokens come from this process",
    ),
    (
        "vllm:prompt_tokens_cached_by_source_total",
        "all tokens come from this process",
    ),
];

pub(super) fn validator(document: &str, name: &str) -> Validator {
    let mut document: Value = serde_json::from_str(document).unwrap();
    document["$ref"] = format!("#/components/schemas/{name}").into();
    jsonschema::validator_for(&document).unwrap()
}

#[track_caller]
pub(super) fn check(validator: &Validator, value: &Value) {
    let errors: Vec<_> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path))
        .collect();
    assert!(errors.is_empty(), "{value:#}\n{errors:#?}");
}

fn tool(name: &str) -> Value {
    json!({"name": name, "parameters": {"type": "object", "properties": {"to": {"enum": ["a", "b"]}},
        "required": ["to"], "additionalProperties": false}})
}

fn chats() -> [Value; 3] {
    let tools = json!([{"type": "function", "function": tool("go")}]);
    [
        chat("plain", 4),
        with(
            chat("all", 4),
            json!({"n": 2, "logprobs": true, "top_logprobs": 2, "seed": 4, "stop": ["zzz"], "min_p": 0.1, "top_k": 5,
                "temperature": 0.7, "top_p": 0.9, "presence_penalty": 0.1, "frequency_penalty": 0.1,
                "repetition_penalty": 1.1, "logit_bias": {"5": 1.0}, "stop_token_ids": [7], "min_tokens": 1,
                "include_stop_str_in_output": true, "skip_special_tokens": true, "priority": 1, "cache_salt": "s",
                "user": "u", "include_reasoning": true, "reasoning_effort": "low", "service_tier": "auto",
                "response_format": {"type": "text"}, "chat_template_kwargs": {"enable_thinking": false}}),
        ),
        with(
            chat("call", 600),
            json!({"tools": tools, "tool_choice": "required", "parallel_tool_calls": false, "ignore_eos": false}),
        ),
    ]
}

#[tokio::test]
async fn chats_have_the_published_shape() {
    let fixture = Fixture::roomy();
    let asked = validator(VLLM, "ChatCompletionRequest");
    let answered = validator(OPENAI, "CreateChatCompletionResponse");
    let streamed = validator(OPENAI, "CreateChatCompletionStreamResponse");
    for body in chats() {
        check(&asked, &body);
        check(
            &answered,
            &fixture.post_ok("/v1/chat/completions", &body).await,
        );
        let body = with(
            body,
            json!({"stream": true, "stream_options": {"include_usage": true}}),
        );
        check(&asked, &body);
        for chunk in fixture.post_chunks("/v1/chat/completions", &body).await {
            check(&streamed, &chunk);
        }
    }
}

#[tokio::test]
async fn completions_have_the_published_shape() {
    let fixture = Fixture::start();
    let asked = validator(VLLM, "CompletionRequest");
    let answered = validator(OPENAI, "CreateCompletionResponse");
    let plain =
        json!({"model": "tiny", "prompt": ["ab", "cd"], "max_tokens": 4, "ignore_eos": true});
    for more in [
        json!({}),
        json!({"logprobs": 2, "n": 2, "echo": false, "add_special_tokens": false}),
    ] {
        let body = with(plain.clone(), more);
        check(&asked, &body);
        check(&answered, &fixture.post_ok("/v1/completions", &body).await);
    }
}

#[tokio::test]
async fn responses_have_the_published_shape() {
    let fixture = Fixture::roomy();
    let answered = validator(OPENAI, "Response");
    let streamed = validator(OPENAI, "ResponseStreamEvent");
    let plain =
        json!({"model": "tiny", "input": "hi", "max_output_tokens": 600, "ignore_eos": false});
    let function = with(tool("go"), json!({"type": "function", "strict": true}));
    let call =
        json!({"tools": [function], "tool_choice": "required", "parallel_tool_calls": false});
    let said = json!({"max_output_tokens": 4, "ignore_eos": true, "top_logprobs": 1, "include": ["message.output_text.logprobs"]});
    for more in [call, said] {
        let body = with(plain.clone(), more);
        check(&answered, &fixture.post_ok("/v1/responses", &body).await);
        for event in fixture
            .post_events("/v1/responses", &with(body, json!({"stream": true})))
            .await
        {
            check(&streamed, &event);
        }
    }
}

#[tokio::test]
async fn messages_have_the_published_shape() {
    let fixture = Fixture::start();
    let asked = validator(VLLM, "AnthropicMessagesRequest");
    let body = json!({"model": "tiny", "max_tokens": 4, "system": [{"type": "text", "text": "s"}], "top_k": 3,
        "messages": [{"role": "user", "content": "hi"}], "stop_sequences": ["zzz"], "thinking": {"type": "disabled"},
        "tools": [{"name": "go", "input_schema": {"type": "object"}}], "tool_choice": {"type": "none"}});
    check(&asked, &body);
    fixture.post_ok("/v1/messages", &body).await;
    let counted = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}]});
    check(&validator(VLLM, "AnthropicCountTokensRequest"), &counted);
    let answer = fixture.post_ok("/v1/messages/count_tokens", &counted).await;
    check(&validator(VLLM, "AnthropicCountTokensResponse"), &answer);
    let (_, _, text) = fixture.post_text("/v1/messages", "{}").await;
    let fault = serde_json::from_str(&text).unwrap();
    check(&validator(VLLM, "AnthropicErrorResponse"), &fault);
}

#[tokio::test]
async fn models_tokens_and_faults_have_the_published_shape() {
    let fixture = Fixture::start();
    let models = serde_json::from_str(&fixture.get("/v1/models").await.1).unwrap();
    check(&validator(OPENAI, "ListModelsResponse"), &models);
    let (_, _, text) = fixture.post_text("/v1/completions", "{}").await;
    // vLLM's codes are numbers, OpenAI's are words: ours are OpenAI's.
    check(
        &validator(OPENAI, "ErrorResponse"),
        &serde_json::from_str(&text).unwrap(),
    );
    let text = json!({"model": "tiny", "prompt": "ab", "add_special_tokens": false, "return_token_strs": true});
    check(&validator(VLLM, "TokenizeCompletionRequest"), &text);
    let tokens = fixture.post_ok("/tokenize", &text).await["tokens"].clone();
    let messages = json!({"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "add_generation_prompt": false});
    check(&validator(VLLM, "TokenizeChatRequest"), &messages);
    fixture.post_ok("/tokenize", &messages).await;
    let tokens = json!({"model": "tiny", "tokens": tokens});
    check(&validator(VLLM, "DetokenizeRequest"), &tokens);
    assert_eq!(
        fixture.post_ok("/detokenize", &tokens).await["prompt"],
        "ab"
    );
}

#[tokio::test]
async fn metrics_have_the_names_and_types_of_vllm() {
    let fixture = Fixture::start();
    fixture
        .post_ok("/v1/chat/completions", &chat("hi", 2))
        .await;
    let text = fixture.get("/metrics").await.1;
    let ours: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(with_total)
        .collect();
    let missing: Vec<_> = METRICS
        .lines()
        .filter(|line| !LEFT_OUT.iter().any(|(prefix, _)| line.starts_with(prefix)))
        .filter(|line| !ours.contains(*line))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}\n{ours:#?}");
}

#[tokio::test]
async fn each_request_counts_what_it_asks_for() {
    let fixture = Fixture::start();
    let measured = async |name: &str| -> (f64, f64) {
        let text = fixture.get("/metrics").await.1;
        let value = |suffix: &str| {
            let start = format!("vllm:request_params_{name}_{suffix}{{");
            let line = text.lines().find(|line| line.starts_with(&start));
            line.and_then(|line| line.rsplit_once(' ')?.1.parse().ok())
                .unwrap()
        };
        (value("count"), value("sum"))
    };
    let messages = json!([{"role": "user", "content": "hi"}]);
    let chat = json!({"model": "tiny", "messages": messages});
    let tokens = fixture.post_ok("/tokenize", &chat).await["count"].clone();
    let room = 256.0 - tokens.as_f64().unwrap();
    let completion = json!({"model": "tiny", "prompt": ["a", "b"], "max_tokens": 3, "n": 2});
    let response = json!({"model": "tiny", "input": "hi", "max_output_tokens": 7});
    let mut expected = [(0.0, 0.0), (0.0, 0.0)];
    for (path, body, answers, tokens) in [
        (
            "/v1/chat/completions",
            with(chat.clone(), json!({"max_tokens": 2, "n": 4})),
            4.0,
            2.0,
        ),
        ("/v1/chat/completions", chat.clone(), 1.0, room),
        ("/v1/completions", completion, 2.0, 3.0),
        ("/v1/responses", response, 1.0, 7.0),
        (
            "/v1/messages",
            with(chat, json!({"max_tokens": 5})),
            1.0,
            5.0,
        ),
    ] {
        fixture.post_ok(path, &body).await;
        for (expected, value) in expected.iter_mut().zip([answers, tokens]) {
            *expected = (expected.0 + 1.0, expected.1 + value);
        }
        let got = [measured("n").await, measured("max_tokens").await];
        assert_eq!(got, expected, "{path}");
    }
}

/// A counter's type as vLLM's library writes it, with the suffix that the samples have.
fn with_total(line: &str) -> String {
    match line.strip_suffix(" counter") {
        Some(name) if !name.ends_with("_total") => format!("{name}_total counter"),
        _ => line.to_owned(),
    }
}
