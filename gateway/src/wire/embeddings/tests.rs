//! Embeddings: each upstream's request, and what its answers become.

use serde_json::{Value, json};

use super::{
    EmbeddingsApi, EmbeddingsExchange, translate_embeddings_reply, translate_embeddings_request,
};

fn exchange(api: EmbeddingsApi, request: &Value) -> EmbeddingsExchange {
    EmbeddingsExchange {
        api,
        model: "m".to_owned(),
        upstream_model: "e5".to_owned(),
        request: request.to_string().into(),
    }
}

#[track_caller]
fn check(api: EmbeddingsApi, request: &Value, expected: &Value) {
    let translated = match translate_embeddings_request(&exchange(api, request)) {
        Ok(body) => serde_json::from_slice(&body).unwrap(),
        Err(error) => json!(error.to_string()),
    };
    assert_eq!(translated, *expected, "{api:?}");
}

#[test]
fn a_request_is_put_into_each_apis_words() {
    let two = json!({"model": "m", "input": ["a", "b"], "dimensions": 2, "user": "u", "knob": 1});
    let gemini = |text: &str| {
        json!({
            "model": "models/e5", "content": {"parts": [{"text": text}]},
            "outputDimensionality": 2, "knob": 1,
        })
    };
    check(
        EmbeddingsApi::Gemini,
        &two,
        &json!({"requests": [gemini("a"), gemini("b")]}),
    );
    check(
        EmbeddingsApi::Vertex,
        &two,
        &json!({
            "instances": [{"content": "a"}, {"content": "b"}],
            "parameters": {"outputDimensionality": 2, "knob": 1},
        }),
    );
    check(
        EmbeddingsApi::Vertex,
        &json!({"model": "m", "input": "a", "task_type": "RETRIEVAL_QUERY"}),
        &json!({"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}], "parameters": {}}),
    );
    check(
        EmbeddingsApi::Cohere,
        &two,
        &json!({
            "texts": ["a", "b"], "input_type": "search_document", "output_dimension": 2, "knob": 1,
        }),
    );
    check(
        EmbeddingsApi::Ollama,
        &two,
        &json!({"model": "e5", "input": ["a", "b"], "dimensions": 2, "knob": 1}),
    );
    let refused = json!("`input` must be one text with this model");
    check(EmbeddingsApi::Titan, &two, &refused);
    let one = json!({"model": "m", "input": "a", "normalize": true, "encoding_format": "base64"});
    check(
        EmbeddingsApi::Titan,
        &one,
        &json!({"inputText": "a", "normalize": true}),
    );
    let query = json!({"model": "m", "input": "a", "input_type": "search_query"});
    check(
        EmbeddingsApi::Cohere,
        &query,
        &json!({"texts": ["a"], "input_type": "search_query"}),
    );
}

#[test]
fn what_is_no_text_is_refused() {
    for api in [EmbeddingsApi::Gemini, EmbeddingsApi::Ollama] {
        let tokens = json!("`input` must be text with this model, which has tokens of its own");
        check(api, &json!({"input": [1, 2]}), &tokens);
        check(
            api,
            &json!({"input": []}),
            &json!("`input` must not be empty"),
        );
        check(api, &json!({}), &json!("`input` is missing"));
    }
}

#[track_caller]
fn check_reply(format: &str, answer: &Value, expected: &Value, tokens: u64) {
    let request = json!({"input": ["a word", "b"], "encoding_format": format});
    let body = answer.to_string();
    let exchange = exchange(EmbeddingsApi::Gemini, &request);
    let reply = translate_embeddings_reply(&exchange, None, body.as_bytes()).unwrap();
    let list: Value = serde_json::from_slice(&reply.body).unwrap();
    let expected = json!({
        "object": "list", "data": expected, "model": "m",
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    });
    assert_eq!(list, expected);
    assert_eq!(reply.tokens.prompt, tokens);
}

#[test]
fn vectors_come_back_in_order_and_in_the_format_that_was_asked_for() {
    let one = |index: u32, embedding: Value| json!({"object": "embedding", "index": index, "embedding": embedding});
    let two = json!([one(0, json!([0.5, 1.0])), one(1, json!([2.0, 0.25]))]);
    let vectors = json!([[0.5, 1.0], [2.0, 0.25]]);
    let ollama = json!({"model": "e5", "embeddings": vectors, "prompt_eval_count": 7});
    check_reply("float", &ollama, &two, 7);
    let gemini = json!({"embeddings": [{"values": [0.5, 1.0]}, {"values": [2.0, 0.25]}]});
    // What nobody counts is guessed: four bytes a token.
    check_reply("float", &gemini, &two, 3);
    let vertex = |values: Value, tokens: f64| json!({"embeddings": {"values": values, "statistics": {"token_count": tokens}}});
    let vertex =
        json!({"predictions": [vertex(json!([0.5, 1.0]), 2.0), vertex(json!([2.0, 0.25]), 7.0)]});
    check_reply("float", &vertex, &two, 9);
    check_reply("float", &json!({"id": "x", "embeddings": vectors}), &two, 3);
    let typed = json!({"embeddings": {"float": vectors}, "response_type": "embeddings_by_type"});
    check_reply("float", &typed, &two, 3);
    let titan = json!({"embedding": [0.5, 1.0], "inputTextTokenCount": 3});
    check_reply("float", &titan, &json!([one(0, json!([0.5, 1.0]))]), 3);
    check_reply("base64", &titan, &json!([one(0, json!("AAAAPwAAgD8="))]), 3);
}

#[test]
fn an_answer_without_vectors_is_none() {
    let exchange = exchange(EmbeddingsApi::Titan, &json!({}));
    let reply = translate_embeddings_reply(&exchange, None, b"{\"ok\": true}");
    assert!(reply.is_err());
}

#[test]
fn a_count_in_the_head_of_an_answer_goes_first() {
    let exchange = exchange(EmbeddingsApi::Cohere, &json!({"input": "a"}));
    let body = json!({"embeddings": [[0.5]]}).to_string();
    let reply = translate_embeddings_reply(&exchange, Some(40), body.as_bytes()).unwrap();
    assert_eq!(reply.tokens.prompt, 40);
}
