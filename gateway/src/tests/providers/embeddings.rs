//! Embeddings, and completions of before there were chats, by providers that have them in words of their own.

use protocol::{provider::Provider, snapshot::Target};
use serde_json::{Value, json};
use testkit::scripted_provider::{Api, PROMPT_TOKENS, Scripted, ScriptedProvider};

use super::{ask, clouds::account, start, target};
use crate::tests::harness::Harness;

const EMBEDDINGS: &str = "/v1/embeddings";
const COMPLETIONS: &str = "/v1/completions";

/// A provider whose model of this name answers so, where it is asked, and how many tokens the ledger counts.
async fn check(
    (provider, api): (Provider, Api),
    model: &str,
    answer: Value,
    expected: (&str, u64),
) {
    let scripted = ScriptedProvider::start(api, vec![Scripted::Json(answer)]).await;
    let mut at = Target {
        model: model.to_owned(),
        ..target("t", provider, &scripted)
    };
    if api == Api::Vertex {
        at.credential = Some(account(&scripted));
    }
    let harness = start(vec![at]).await;
    let body = json!({"model": "m", "input": "a word", "dimensions": 2});
    let (status, list) = ask(&harness, EMBEDDINGS, &[], &body).await;
    assert_eq!(status, 200, "{list}");
    let one = json!({"object": "embedding", "index": 0, "embedding": [0.5, 1.0]});
    let (path, tokens) = expected;
    assert_eq!(
        list,
        json!({
            "object": "list", "data": [one], "model": "m",
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        })
    );
    assert_eq!(scripted.received().pop().unwrap().path, path);
    let row = ("complete".to_owned(), 200, tokens, 0);
    assert_eq!(harness.rows().await, [row]);
}

#[tokio::test]
async fn embeddings_come_from_each_provider_in_its_own_words() {
    let bedrock = || Provider::Bedrock {
        region: "us-east-1".to_owned(),
    };
    let vertex = Provider::VertexAI {
        project: "p".to_owned(),
        location: "global".to_owned(),
    };
    check(
        (Provider::Gemini, Api::Gemini),
        "gemini-embedding-001",
        json!({"embeddings": [{"values": [0.5, 1.0]}]}),
        ("/v1beta/models/gemini-embedding-001:batchEmbedContents", 2),
    )
    .await;
    let vector = json!({"values": [0.5, 1.0], "statistics": {"token_count": 3}});
    check(
        (vertex, Api::Vertex),
        "text-embedding-005",
        json!({"predictions": [{"embeddings": vector}]}),
        (
            "/v1/projects/p/locations/global/publishers/google/models/text-embedding-005:predict",
            3,
        ),
    )
    .await;
    check(
        (bedrock(), Api::Bedrock),
        "amazon.titan-embed-text-v2:0",
        json!({"embedding": [0.5, 1.0], "inputTextTokenCount": 4}),
        ("/model/amazon.titan-embed-text-v2%3A0/invoke", 4),
    )
    .await;
    check(
        (bedrock(), Api::Bedrock),
        "cohere.embed-english-v3",
        json!({"embeddings": [[0.5, 1.0]], "response_type": "embeddings_floats"}),
        ("/model/cohere.embed-english-v3/invoke", 2),
    )
    .await;
    check(
        (Provider::Ollama, Api::Ollama),
        "nomic-embed-text",
        json!({"model": "nomic-embed-text", "embeddings": [[0.5, 1.0]], "prompt_eval_count": 5}),
        ("/api/embed", 5),
    )
    .await;
}

#[tokio::test]
async fn who_makes_no_embeddings_says_so() {
    let scripted = ScriptedProvider::start(Api::Bedrock, Vec::new()).await;
    let region = "us-east-1".to_owned();
    let harness = start(vec![target("t", Provider::Bedrock { region }, &scripted)]).await;
    let body = json!({"model": "m", "input": "x"});
    let (status, answer) = ask(&harness, EMBEDDINGS, &[], &body).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!(status, 400);
    assert!(
        message.contains("no API that could answer this"),
        "{message}"
    );
    assert!(scripted.received().is_empty());
}

/// A gateway that has answered a completion, whole and streamed, by a server of chats.
async fn completed_by(provider: Provider, api: Api) -> Harness {
    let script = vec![Scripted::Text("one two three")];
    let scripted = ScriptedProvider::start(api, script).await;
    let only_chats = Target {
        apis: vec![protocol::provider::Api::Chat],
        ..target("t", provider, &scripted)
    };
    let harness = start(vec![only_chats]).await;
    let body = json!({"model": "m", "prompt": "hi", "max_tokens": 9});
    let (status, answer) = ask(&harness, COMPLETIONS, &[], &body).await;
    assert_eq!(status, 200, "{answer}");
    let choice =
        json!({"index": 0, "text": "one two three", "logprobs": null, "finish_reason": "stop"});
    assert_eq!(
        (&answer["object"], &answer["model"], &answer["choices"]),
        (&json!("text_completion"), &json!("m"), &json!([choice]))
    );
    let body = json!({"model": "m", "prompt": "hi", "stream": true}).to_string();
    let mut stream = harness.stream(COMPLETIONS, Some("qd-a"), &body).await;
    let (mut said, mut last) = (String::new(), String::new());
    while let Some(data) = stream.next().await {
        let event: Value = serde_json::from_str(&data).unwrap_or_default();
        said.push_str(event["choices"][0]["text"].as_str().unwrap_or_default());
        assert_ne!(event["choices"], json!([]), "nobody asked for the usage");
        last = data;
    }
    assert_eq!((&*said, &*last), ("one two three", "[DONE]"));
    harness
}

#[tokio::test]
async fn a_completion_is_answered_by_a_server_of_chats() {
    for (provider, api) in [
        (Provider::OpenAI, Api::OpenAi),
        (Provider::Anthropic, Api::Anthropic),
        (Provider::Gemini, Api::Gemini),
    ] {
        let harness = completed_by(provider, api).await;
        let row = ("complete".to_owned(), 200, PROMPT_TOKENS, 3);
        assert_eq!(harness.rows().await, [row.clone(), row], "{api:?}");
    }
}
