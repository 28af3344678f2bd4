//! Batches: every line once, whatever happens to the gateway.

use std::collections::BTreeSet;

use protocol::snapshot::{Prices, Rates, RouteEntry};
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::{
    files::upload,
    harness::{Harness, key, route, target},
};

const CHAT: &str = "/v1/chat/completions";

fn line(custom_id: &str, model: &str) -> String {
    let body = json!({"model": model, "messages": [{"role": "user", "content": custom_id}]});
    json!({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}).to_string()
}

fn own(model: &ScriptedModel) -> Vec<RouteEntry> {
    vec![route("m", vec![target("own", "real", &[model])])]
}

async fn create(harness: &Harness, lines: &[String]) -> String {
    let file = harness
        .upload("qd-a", upload("batch", &lines.join("\n")))
        .await
        .json();
    let body = json!({"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h", "metadata": {"a": "b"}});
    let batch = harness
        .post("/v1/batches", Some("qd-a"), &body.to_string())
        .await;
    assert_eq!(batch.status, 200, "{}", batch.text_body());
    let batch = batch.json();
    assert_eq!(
        (&batch["object"], &batch["status"]),
        (&json!("batch"), &json!("validating"))
    );
    batch["id"].as_str().unwrap().to_owned()
}

/// Asks for the batch until it is so.
async fn until(harness: &Harness, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    loop {
        let batch = harness
            .get(&format!("/v1/batches/{id}"), Some("qd-a"))
            .await
            .json();
        if is_so(&batch) {
            return batch;
        }
        assert!(
            !["failed", "completed", "expired", "cancelled"]
                .contains(&batch["status"].as_str().unwrap()),
            "{batch}"
        );
        tokio::task::yield_now().await;
    }
}

async fn until_status(harness: &Harness, id: &str, status: &str) -> Value {
    until(harness, id, |batch| batch["status"] == status).await
}

/// The lines of a file.
async fn lines(harness: &Harness, id: &Value) -> Vec<Value> {
    let path = format!("/v1/files/{}/content", id.as_str().unwrap());
    let text = harness.get(&path, Some("qd-a")).await.text_body();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_line_of_a_batch_costs_the_price_of_batches() {
    let model = ScriptedModel::start(vec!["one two".into()]).await;
    let mut own = target("own", "real", &[&model]);
    own.prices = Some(Prices {
        input_nanos: 1_000_000_000,
        output_nanos: 1_000_000_000,
        batches: Some(Rates {
            input_nanos: 500_000_000,
            cached_input_nanos: None,
            output_nanos: 500_000_000,
        }),
        ..Prices::default()
    });
    let harness = Harness::start(vec![route("m", vec![own])], vec![key("a")]).await;
    let cost = async || {
        let usage = harness.get("/v1/usage", Some("qd-a")).await.json();
        usage["data"][0]["cost_usd"].clone()
    };
    let id = create(&harness, &[line("one", "m")]).await;
    until_status(&harness, &id, "completed").await;
    // Three tokens, at half the price.
    assert_eq!(cost().await, json!("0.0000015"));
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "one"}]});
    harness.post(CHAT, Some("qd-a"), &body.to_string()).await;
    assert_eq!(cost().await, json!("0.0000045"));
}

#[tokio::test]
async fn a_batch_that_is_cut_off_answers_every_line_once() {
    const BEFORE: usize = 60;
    const ALL: usize = 200;
    let mut script: Vec<Answer> = (0..BEFORE).map(|_| "first".into()).collect();
    script.push(Answer::Hang);
    let first = ScriptedModel::start(script).await;
    let harness = Harness::start(own(&first), vec![key("a")]).await;
    let wanted: Vec<String> = (0..ALL).map(|number| format!("line-{number}")).collect();
    let input: Vec<String> = wanted.iter().map(|id| line(id, "m")).collect();
    let id = create(&harness, &input).await;
    until(&harness, &id, |batch| {
        batch["request_counts"]["completed"] == BEFORE
    })
    .await;

    let second = ScriptedModel::start(vec!["second".into()]).await;
    let harness = harness.crashed(own(&second), vec![key("a")]).await;
    let batch = until_status(&harness, &id, "completed").await;
    let counts = json!({"total": ALL, "completed": ALL, "failed": 0});
    assert_eq!(
        (&batch["request_counts"], batch.get("error_file_id")),
        (&counts, None)
    );
    assert_eq!(second.requests().len(), ALL - BEFORE);
    let output = lines(&harness, &batch["output_file_id"]).await;
    assert_eq!(output.len(), ALL);
    let ids: BTreeSet<&str> = output
        .iter()
        .map(|line| line["custom_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, wanted.iter().map(String::as_str).collect());
    let by_first = output
        .iter()
        .filter(|line| line["response"]["body"]["choices"][0]["message"]["content"] == "first");
    assert_eq!(by_first.count(), BEFORE);
    let one = &output[0];
    assert_eq!(
        (&one["response"]["status_code"], &one["error"]),
        (&json!(200), &Value::Null)
    );
    assert!(
        one["response"]["request_id"]
            .as_str()
            .unwrap()
            .starts_with("req_")
    );
    // Each answer is in the ledger, as that of any request.
    let complete = harness
        .rows()
        .await
        .into_iter()
        .filter(|row| row.0 == "complete");
    assert_eq!(complete.count(), ALL);
    let file = format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap());
    assert_eq!(
        harness.get(&file, Some("qd-a")).await.json()["purpose"],
        "batch_output"
    );
}

#[tokio::test]
async fn lines_that_are_refused_are_in_the_file_of_errors() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = Harness::start(own(&model), vec![key("a")]).await;
    let id = create(&harness, &[line("a", "m"), line("b", "nobody")]).await;
    let batch = until_status(&harness, &id, "completed").await;
    let counts = json!({"total": 2, "completed": 1, "failed": 1});
    assert_eq!(
        (&batch["request_counts"], &batch["metadata"]),
        (&counts, &json!({"a": "b"}))
    );
    let errors = lines(&harness, &batch["error_file_id"]).await;
    let response = &errors[0]["response"];
    assert_eq!(
        (
            &errors[0]["custom_id"],
            &response["status_code"],
            &response["body"]["error"]["code"]
        ),
        (&json!("b"), &json!(404), &json!("model_not_found"))
    );
    let list = harness
        .get("/v1/batches?limit=1", Some("qd-a"))
        .await
        .json();
    assert_eq!(
        (&list["data"][0], &list["has_more"]),
        (&batch, &json!(false))
    );
}

#[tokio::test]
async fn a_batch_whose_input_is_wrong_fails_before_anything_is_sent() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = Harness::start(own(&model), vec![key("a")]).await;
    let id = create(&harness, &[line("a", "m"), "{".to_owned(), line("a", "m")]).await;
    let batch = until_status(&harness, &id, "failed").await;
    let errors = batch["errors"]["data"].as_array().unwrap().iter();
    let errors: Vec<_> = errors
        .map(|error| (&error["code"], &error["line"]))
        .collect();
    let expected = [
        (&json!("invalid_json_line"), &json!(2)),
        (&json!("duplicate_custom_id"), &json!(3)),
    ];
    assert_eq!(errors, expected);
    assert!(model.requests().is_empty());
}

#[tokio::test]
async fn a_batch_that_waits_for_its_model_can_be_cancelled_and_keeps_its_answers() {
    let mut script: Vec<Answer> = (0..5).map(|_| "x".into()).collect();
    script.push(Answer::Status(503));
    let model = ScriptedModel::start(script).await;
    let harness = Harness::start(own(&model), vec![key("a")]).await;
    let input: Vec<String> = (0..20)
        .map(|number| line(&number.to_string(), "m"))
        .collect();
    let id = create(&harness, &input).await;
    until(&harness, &id, |batch| {
        batch["request_counts"]["completed"] == 5
    })
    .await;
    let path = format!("/v1/batches/{id}/cancel");
    assert_eq!(
        harness.post(&path, Some("qd-a"), "").await.json()["status"],
        "cancelling"
    );
    let batch = until_status(&harness, &id, "cancelled").await;
    let counts = json!({"total": 20, "completed": 5, "failed": 0});
    assert_eq!(batch["request_counts"], counts);
    assert_eq!(lines(&harness, &batch["output_file_id"]).await.len(), 5);
    assert_eq!(harness.post(&path, Some("qd-a"), "").await.status, 400);
}

#[tokio::test]
async fn lines_for_which_there_was_no_time_are_told() {
    let model = ScriptedModel::start(vec!["x".into(), Answer::Hang]).await;
    let harness = Harness::start(own(&model), vec![key("a")]).await;
    let id = create(&harness, &[line("a", "m"), line("b", "m"), line("c", "m")]).await;
    until(&harness, &id, |batch| {
        batch["request_counts"]["completed"] == 1
    })
    .await;
    let expire = |folder: &std::path::Path| {
        let connection = Connection::open(folder.join("objects.sqlite")).unwrap();
        let sql = "UPDATE batches SET record = json_set(record, '$.expires_at', 1)";
        assert_eq!(connection.execute(sql, []).unwrap(), 1);
    };
    let harness = harness
        .crashed_with(own(&model), vec![key("a")], expire)
        .await;
    let batch = until_status(&harness, &id, "expired").await;
    let counts = json!({"total": 3, "completed": 1, "failed": 2});
    assert_eq!(batch["request_counts"], counts);
    let errors = lines(&harness, &batch["error_file_id"]).await;
    assert!(
        errors
            .iter()
            .all(|line| line["error"]["code"] == "batch_expired")
    );
    assert_eq!(errors.len(), 2);
}

#[tokio::test]
async fn a_batch_is_asked_for_rightly_and_by_its_key() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = Harness::start(own(&model), vec![key("a"), key("b")]).await;
    let file = harness
        .upload("qd-a", upload("batch", &line("a", "m")))
        .await
        .json();
    let other = harness
        .upload("qd-a", upload("user_data", "x"))
        .await
        .json();
    let body = |file: &Value, endpoint: &str, window: &str| {
        json!({"input_file_id": file, "endpoint": endpoint, "completion_window": window})
            .to_string()
    };
    for (key, body, status) in [
        (
            "qd-a",
            body(&file["id"], "/v1/audio/transcriptions", "24h"),
            400,
        ),
        ("qd-a", body(&file["id"], "/v1/audio/speech", "24h"), 400),
        ("qd-a", body(&file["id"], "/v1/files", "24h"), 400),
        ("qd-a", body(&file["id"], CHAT, "1d"), 400),
        ("qd-a", body(&file["id"], CHAT, "169h"), 400),
        ("qd-a", body(&other["id"], CHAT, "24h"), 400),
        ("qd-a", body(&json!("file-no"), CHAT, "24h"), 404),
        ("qd-b", body(&file["id"], CHAT, "24h"), 404),
        ("qd-no", body(&file["id"], CHAT, "24h"), 401),
        ("qd-a", "{}".to_owned(), 400),
        ("qd-a", body(&file["id"], CHAT, "1h"), 200),
    ] {
        let answer = harness.post("/v1/batches", Some(key), &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text_body());
    }
    let list = harness.get("/v1/batches", Some("qd-a")).await.json();
    let path = format!("/v1/batches/{}", list["data"][0]["id"].as_str().unwrap());
    assert_eq!(harness.get(&path, Some("qd-b")).await.status, 404);
    assert_eq!(
        harness
            .post(&format!("{path}/cancel"), Some("qd-b"), "")
            .await
            .status,
        404
    );
}
