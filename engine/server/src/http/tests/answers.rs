//! Claims about what parameters do to answers.

use engine_models::synthetic::SyntheticModel;
use serde_json::{Value, json};

use super::fixture::Fixture;
use super::{chat, with};

fn completion(more: Value) -> Value {
    with(
        json!({"model": "tiny", "prompt": "ab", "max_tokens": 4, "temperature": 0, "ignore_eos": true}),
        more,
    )
}

fn tools() -> Value {
    let of = |name: &str| {
        json!({"type": "function", "function": {"name": name, "parameters": {
            "type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}, "required": ["city"],
            "additionalProperties": false}}})
    };
    json!([of("weather"), of("time")])
}

#[tokio::test]
async fn several_answers_differ_by_their_seeds_and_count_the_prompt_once() {
    let fixture = Fixture::start();
    let body = with(
        chat("dice", 8),
        json!({"temperature": 1.0, "seed": 3, "n": 3}),
    );
    let answer = fixture.post_ok("/v1/chat/completions", &body).await;
    let choices = answer["choices"].as_array().unwrap();
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| &choice["message"]["content"])
        .collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    assert_eq!(choices[2]["index"], 2);
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    let alone = fixture
        .post_ok("/v1/chat/completions", &chat("dice", 8))
        .await;
    assert_eq!(
        answer["usage"]["prompt_tokens"],
        alone["usage"]["prompt_tokens"]
    );
}

#[tokio::test]
async fn streams_of_several_answers_keep_them_apart() {
    let fixture = Fixture::start();
    let more = json!({"temperature": 1.0, "seed": 3, "n": 2});
    let whole = fixture
        .post_ok("/v1/chat/completions", &with(chat("dice", 8), more.clone()))
        .await;
    let options = json!({"stream": true, "stream_options": {"include_usage": true, "continuous_usage_stats": true}});
    let body = with(with(chat("dice", 8), more), options);
    let chunks = fixture.post_chunks("/v1/chat/completions", &body).await;
    for index in 0..2 {
        let text: String = chunks
            .iter()
            .filter(|chunk| chunk["choices"][0]["index"] == index)
            .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
            .collect();
        assert_eq!(whole["choices"][index]["message"]["content"], text);
    }
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_object()));
    let last = &chunks.last().unwrap()["usage"];
    assert_eq!(last["total_tokens"], whole["usage"]["total_tokens"]);
}

#[tokio::test]
async fn the_best_of_several_completions_are_the_likeliest() {
    let fixture = Fixture::start();
    let hot = |more: Value| {
        with(
            completion(json!({"temperature": 1.0, "seed": 5, "logprobs": 0})),
            more,
        )
    };
    let all = fixture
        .post_ok("/v1/completions", &hot(json!({"n": 4})))
        .await;
    let best = fixture
        .post_ok("/v1/completions", &hot(json!({"n": 2, "best_of": 4})))
        .await;
    let sum = |choice: &Value| -> f64 {
        let logprobs = choice["logprobs"]["token_logprobs"].as_array().unwrap();
        logprobs
            .iter()
            .map(|logprob| logprob.as_f64().unwrap())
            .sum()
    };
    let mut sums: Vec<_> = all["choices"].as_array().unwrap().iter().map(sum).collect();
    sums.sort_by(|one, other| other.total_cmp(one));
    let got: Vec<_> = best["choices"]
        .as_array()
        .unwrap()
        .iter()
        .map(sum)
        .collect();
    assert_eq!(got, sums[..2]);
    assert_eq!(best["usage"]["completion_tokens"], 16);
}

#[tokio::test]
async fn an_echo_has_the_prompt_and_its_log_probabilities() {
    let fixture = Fixture::start();
    let plain = fixture
        .post_ok("/v1/completions", &completion(json!({})))
        .await;
    let answer = plain["choices"][0]["text"].as_str().unwrap();
    let body = completion(json!({"echo": true, "logprobs": 2}));
    let echoed = fixture.post_ok("/v1/completions", &body).await;
    let choice = &echoed["choices"][0];
    assert_eq!(choice["text"], format!("ab{answer}"));
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 6);
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][1].as_f64().unwrap() < 0.0);
    assert_eq!(logprobs["text_offset"][1], 1);
    let body = completion(json!({"echo": true, "logprobs": 2, "max_tokens": 0}));
    let only = fixture.post_ok("/v1/completions", &body).await;
    assert_eq!(only["choices"][0]["text"], "ab");
    assert_eq!(only["choices"][0]["logprobs"]["tokens"], json!(["a", "b"]));
    let streamed = with(body, json!({"stream": true}));
    let chunks = fixture.post_chunks("/v1/completions", &streamed).await;
    assert_eq!(chunks[0]["choices"][0]["text"], "ab");
}

#[tokio::test]
async fn the_prompt_has_log_probabilities_if_they_are_wanted() {
    let fixture = Fixture::start();
    let body = with(chat("hi", 2), json!({"prompt_logprobs": 1}));
    let answer = fixture.post_ok("/v1/chat/completions", &body).await;
    let list = answer["prompt_logprobs"].as_array().unwrap();
    assert_eq!(answer["usage"]["prompt_tokens"], list.len());
    assert_eq!(list[0], Value::Null);
    let ranks = list[1]
        .as_object()
        .unwrap()
        .values()
        .map(|entry| &entry["rank"]);
    assert!(ranks.into_iter().any(|rank| rank == 1), "{}", list[1]);
}

#[tokio::test]
async fn stop_strings_may_stay_and_least_tokens_are_kept() {
    let fixture = Fixture::start();
    let whole = fixture
        .post_ok("/v1/completions", &completion(json!({"max_tokens": 12})))
        .await;
    let whole = whole["choices"][0]["text"].as_str().unwrap().to_owned();
    let stop: String = whole.chars().skip(3).take(1).collect();
    let end = whole.find(&stop).unwrap();
    let text = async |more: Value| {
        let body = with(completion(json!({"max_tokens": 12, "stop": [stop]})), more);
        fixture.post_ok("/v1/completions", &body).await["choices"][0]["text"].clone()
    };
    assert_eq!(text(json!({})).await, whole[..end]);
    let kept = text(json!({"include_stop_str_in_output": true})).await;
    assert_eq!(kept, whole[..end + stop.len()]);
    assert_eq!(text(json!({"min_tokens": 12})).await, whole);
}

#[tokio::test]
async fn formats_are_followed() {
    let fixture = Fixture::roomy();
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let content = async |more: Value| {
        let body = with(chat("x", 600), with(json!({"ignore_eos": false}), more));
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        answer["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    for more in [
        json!({"response_format": format}),
        json!({"structured_outputs": {"json": schema}}),
        json!({"guided_json": schema}),
    ] {
        let text = content(more).await;
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert!(value["a"].is_boolean(), "{text}");
    }
    let text = content(json!({"guided_choice": ["red", "green"]})).await;
    assert!(["red", "green"].contains(&text.as_str()), "{text}");
    assert_eq!(content(json!({"guided_regex": "x{3}"})).await, "xxx");
    let text = content(json!({"structured_outputs": {"grammar": "start: \"yes\" | \"no\""}})).await;
    assert!(["yes", "no"].contains(&text.as_str()), "{text}");
}

#[tokio::test]
async fn calls_that_must_be_made_are_made() {
    let fixture = Fixture::roomy();
    let named = json!({"type": "function", "function": {"name": "time"}});
    for (choice, names) in [
        (json!("required"), vec!["weather", "time"]),
        (named, vec!["time"]),
    ] {
        let more = json!({"tools": tools(), "tool_choice": choice, "parallel_tool_calls": false, "ignore_eos": false});
        let body = with(chat("x", 600), more);
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        let answered = &answer["choices"][0];
        assert_eq!(answered["finish_reason"], "tool_calls", "{answer}");
        let calls = answered["message"]["tool_calls"].as_array().unwrap();
        assert_eq!(calls.len(), 1, "{answer}");
        let function = &calls[0]["function"];
        assert!(
            names.contains(&function["name"].as_str().unwrap()),
            "{answer}"
        );
        let arguments: Value =
            serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
        assert!(["Rome", "Oslo"].contains(&arguments["city"].as_str().unwrap()));
        let chunks = fixture
            .post_chunks("/v1/chat/completions", &with(body, json!({"stream": true})))
            .await;
        let deltas: Vec<_> = chunks
            .iter()
            .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0].as_object())
            .collect();
        assert_eq!(deltas[0]["type"], "function");
        assert!(deltas[0]["id"].is_string());
        assert_eq!(deltas[0]["function"]["name"], function["name"]);
        let joined: String = deltas
            .iter()
            .filter_map(|delta| delta["function"]["arguments"].as_str())
            .collect();
        assert_eq!(function["arguments"], joined);
        assert!(deltas[1..].iter().all(|delta| !delta.contains_key("id")));
    }
}

#[tokio::test]
async fn where_json_is_wanted_and_calls_may_be_made_an_answer_is_one_of_both() {
    let fixture = Fixture::roomy();
    let schema = json!({"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "x", "strict": true, "schema": schema}});
    let mut strict = tools();
    strict[0]["function"]["strict"] = true.into();
    for (tools, choice) in [
        (tools(), json!(null)),
        (strict.clone(), json!("auto")),
        (strict, json!("none")),
    ] {
        // A model that would rather say one byte than any other.
        let message = async |favourite: u8| {
            let bias = json!({(3 + u32::from(favourite)).to_string(): 100});
            let more = json!({"response_format": format, "tools": tools, "tool_choice": choice, "logit_bias": bias,
                "parallel_tool_calls": false, "ignore_eos": false});
            let body = with(chat("x", 600), more);
            let answer = fixture.post_ok("/v1/chat/completions", &body).await;
            answer["choices"][0].clone()
        };
        for favourite in [b'{', b'<', b'w'] {
            let answered = message(favourite).await;
            let message = &answered["message"];
            let is_call = answered["finish_reason"] == "tool_calls";
            match favourite {
                b'{' => assert!(!is_call, "{answered}"),
                b'<' => assert_eq!(is_call, choice != "none", "{answered}"),
                _ => {}
            }
            let text = if is_call {
                &message["tool_calls"][0]["function"]["arguments"]
            } else {
                &message["content"]
            };
            let value: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
            let (answers, city) = (value["a"].is_boolean(), value["city"].is_string());
            assert_eq!((answers, city), (!is_call, is_call), "{answered}");
        }
    }
}

#[tokio::test]
async fn of_control_tokens_only_marks_show_unless_all_are_wanted() {
    let fixture = Fixture::start_with(&["--reasoning-tag", "|im_start|"]);
    let message = async |token: &str, skips: bool| {
        let more = json!({"logit_bias": {token: 100}, "skip_special_tokens": skips});
        let body = with(chat("x", 2), more);
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        let message = answer["choices"][0]["message"].clone();
        let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
        (text("reasoning_content"), text("content"))
    };
    let (end, mark) = ("<|endoftext|>", "<|im_start|>");
    assert_eq!(message("0", true).await, (String::new(), String::new()));
    assert_eq!(message("0", false).await, (String::new(), end.repeat(2)));
    assert_eq!(message("1", true).await, (mark.to_owned(), String::new()));
}

#[tokio::test]
async fn padding_of_the_vocabulary_is_never_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::default().write(&path).unwrap();
    let plain = Fixture::start_file(&path, &[]);
    // The type of the last token, behind the name of the list, its type, that of its items and their number.
    let mut file = std::fs::read(&path).unwrap();
    let name = b"tokenizer.ggml.token_type";
    let start = file.windows(name.len()).position(|part| part == name);
    let last = start.unwrap() + name.len() + 16 + 260 * size_of::<i64>();
    assert_eq!(file[last], 1, "a normal token");
    file[last] = 5;
    std::fs::write(&path, file).unwrap();
    let padded = Fixture::start_file(&path, &[]);
    let text = async |fixture: &Fixture| {
        let body = completion(json!({"logit_bias": {"260": 100}}));
        fixture.post_ok("/v1/completions", &body).await["choices"][0]["text"].clone()
    };
    assert_eq!(text(&plain).await, "the".repeat(4));
    let unbiased = plain
        .post_ok("/v1/completions", &completion(json!({})))
        .await;
    assert_eq!(text(&padded).await, unbiased["choices"][0]["text"]);
}

#[tokio::test]
async fn a_template_gets_the_engines_variables_and_over_them_those_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    SyntheticModel::default().write(&path).unwrap();
    // What the template writes in front of an answer becomes a variable; the file keeps its length.
    let mut file = std::fs::read(&path).unwrap();
    let written = b"'<|im_start|>assistant\n'";
    let found = file.windows(written.len()).position(|part| part == written);
    let place = found.unwrap()..found.unwrap() + written.len();
    file.splice(place, format!("{:24}", "voice").into_bytes());
    std::fs::write(&path, file).unwrap();
    let flags = ["--default-chat-template-kwargs", r#"{"voice": "calm"}"#];
    let fixture = Fixture::start_file(&path, &flags);
    for (variables, voice) in [
        (json!(null), "calm"),
        (json!({"mood": 1}), "calm"),
        (json!({"voice": "loudest"}), "loudest"),
    ] {
        let more = json!({"chat_template_kwargs": variables, "return_token_strs": true});
        let body = with(chat("hi", 1), more);
        let cut = fixture.post_ok("/tokenize", &body).await;
        let texts = cut["token_strs"].as_array().unwrap().iter();
        let texts: String = texts.map(|text| text.as_str().unwrap()).collect();
        assert!(texts.ends_with(&format!("<|im_end|>\n{voice}")), "{texts}");
        let answer = fixture.post_ok("/v1/chat/completions", &body).await;
        assert_eq!(answer["usage"]["prompt_tokens"], cut["count"]);
    }
}

#[tokio::test]
async fn a_final_message_is_continued() {
    let fixture = Fixture::start();
    let messages =
        json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": "Once"}]);
    let tokens = async |more: Value| {
        let answer = fixture
            .post_ok("/tokenize", &with(json!({"messages": messages}), more))
            .await;
        answer["count"].as_u64().unwrap()
    };
    let answered = tokens(json!({})).await;
    let bare = tokens(json!({"add_generation_prompt": false})).await;
    let continued = tokens(json!({"continue_final_message": true})).await;
    assert!(
        continued < bare && bare < answered,
        "{continued} {bare} {answered}"
    );
}

#[tokio::test]
async fn texts_become_tokens_and_back() {
    let fixture = Fixture::start();
    let body = json!({"prompt": "héllo", "return_token_strs": true});
    let answer = fixture.post_ok("/tokenize", &body).await;
    assert_eq!(answer["count"], answer["tokens"].as_array().unwrap().len());
    assert_eq!(answer["max_model_len"], 256);
    assert_eq!(answer["token_strs"][0], "h");
    let back = fixture
        .post_ok(
            "/detokenize",
            &json!({"model": "tiny", "tokens": answer["tokens"]}),
        )
        .await;
    assert_eq!(back["prompt"], "héllo");
}
