//! Batches that a provider runs: every line once, whatever happens to the gateway or to the provider.

mod fake;

use std::{collections::BTreeMap, path::Path};

use protocol::{
    provider::{Credential, Provider},
    secret::SecretString,
    snapshot::{Batches, Budget, KeyEntry, Mode, Per, Prices, Rates, RouteEntry, Target},
};
use rusqlite::Connection;
use serde_json::{Value, json};
use testkit::{scripted_model::ScriptedModel, scripted_server::Reply};

use self::fake::{Fake, KEY, Phase};
use super::{
    files::upload,
    harness::{Harness, key, route, target},
};

const CHAT: &str = "/v1/chat/completions";

fn line(custom_id: &str, model: &str) -> String {
    let body = json!({"model": model, "messages": [{"role": "user", "content": custom_id}]});
    json!({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}).to_string()
}

/// A target whose provider runs lines of batches.
fn at(fake: &Fake) -> Target {
    Target {
        name: "cloud".to_owned(),
        model: "real".to_owned(),
        endpoints: vec![fake.server.url("/v1")],
        weight: 1,
        credential: Some(Credential::Token(SecretString::new(KEY.to_owned()))),
        batches: Batches::Provider,
        prices: Some(Prices {
            input_nanos: 2_000_000_000,
            output_nanos: 2_000_000_000,
            batches: Some(Rates {
                input_nanos: 1_000_000_000,
                cached_input_nanos: None,
                output_nanos: 1_000_000_000,
            }),
            ..Prices::default()
        }),
        ..Target::default()
    }
}

fn routes(fake: &Fake) -> Vec<RouteEntry> {
    vec![route("m", vec![at(fake)])]
}

async fn start(fake: &Fake) -> Harness {
    Harness::start(routes(fake), vec![key("a")]).await
}

async fn create(harness: &Harness, lines: &[String]) -> String {
    let form = upload("batch", &lines.join("\n"));
    let file = harness.upload("qd-a", form).await.json();
    let body = json!({"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h"});
    let batch = harness
        .post("/v1/batches", Some("qd-a"), &body.to_string())
        .await;
    assert_eq!(batch.status, 200, "{}", batch.text_body());
    batch.json()["id"].as_str().unwrap().to_owned()
}

/// Asks for the batch until it has this status.
async fn until(harness: &Harness, id: &str, status: &str) -> Value {
    loop {
        let path = format!("/v1/batches/{id}");
        let batch = harness.get(&path, Some("qd-a")).await.json();
        if batch["status"] == status {
            return batch;
        }
        let ended = ["failed", "completed", "expired", "cancelled"];
        assert!(
            !ended.contains(&batch["status"].as_str().unwrap()),
            "{batch}"
        );
        tokio::task::yield_now().await;
    }
}

/// What the lines of a batch's files say, by `custom_id`: the status and the text, or the error's code.
async fn results(harness: &Harness, batch: &Value) -> BTreeMap<String, (u64, String)> {
    let mut all = BTreeMap::new();
    for file in ["output_file_id", "error_file_id"] {
        let Some(id) = batch[file].as_str() else {
            continue;
        };
        let path = format!("/v1/files/{id}/content");
        let text = harness.get(&path, Some("qd-a")).await.text_body();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let body = &line["response"]["body"];
            let said = [
                &body["choices"][0]["message"]["content"],
                &body["error"]["message"],
                &line["error"]["code"],
            ];
            let said = said.iter().find_map(|said| said.as_str()).unwrap();
            let status = line["response"]["status_code"].as_u64().unwrap_or(0);
            let id = line["custom_id"].as_str().unwrap().to_owned();
            assert!(all.insert(id, (status, said.to_owned())).is_none(), "twice");
        }
    }
    all
}

fn expected(rows: &[(&str, u64, &str)]) -> BTreeMap<String, (u64, String)> {
    let rows = rows.iter();
    rows.map(|(id, status, text)| ((*id).to_owned(), (*status, (*text).to_owned())))
        .collect()
}

async fn cost(harness: &Harness) -> String {
    let usage = harness.get("/v1/usage", Some("qd-a")).await.json();
    usage["data"][0]["cost_usd"].as_str().unwrap().to_owned()
}

/// Rows of the data folder that say what is handed over.
fn handovers(folder: &Path) -> i64 {
    let connection = Connection::open(folder.join("objects.sqlite")).unwrap();
    let sql = "SELECT count(*) FROM handovers";
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn a_provider_runs_its_lines_and_the_gateway_the_others() {
    let fake = Fake::start().await;
    let own = ScriptedModel::start(vec!["mine".into()]).await;
    let mut all = routes(&fake);
    all.push(route("other", vec![target("own", "own", &[&own])]));
    let harness = Harness::start(all, vec![key("a")]).await;
    let lines = [
        line("a", "m"),
        line("b", "other"),
        line("c", "m"),
        line("d", "none"),
    ];
    let id = create(&harness, &lines).await;
    fake.run(Phase::Completed);
    let batch = until(&harness, &id, "completed").await;
    let counts = json!({"total": 4, "completed": 3, "failed": 1});
    assert_eq!(batch["request_counts"], counts);
    let mut found = results(&harness, &batch).await;
    assert_eq!(found.remove("d").unwrap().0, 404);
    let rows = [("a", 200, "ran a"), ("b", 200, "mine"), ("c", 200, "ran c")];
    assert_eq!(found, expected(&rows));
    let sent = fake.lines_of(0);
    let sent: Vec<_> = sent
        .iter()
        .map(|line| (&line["custom_id"], &line["url"], &line["body"]["model"]))
        .collect();
    let (url, model) = (json!(CHAT), json!("real"));
    assert_eq!(
        sent,
        [(&json!("a"), &url, &model), (&json!("c"), &url, &model)]
    );
    let made = &fake.batches()[0];
    assert_eq!(
        (
            &made["endpoint"],
            &made["completion_window"],
            &made["metadata"]
        ),
        (
            &url,
            &json!("24h"),
            &json!({"quarterdeck": format!("{id}-0")})
        )
    );
    // Two lines of four tokens each, at the price of batches.
    let cost = harness
        .query("SELECT sum(cost_nanos), count(*) FROM requests WHERE outcome = 'complete' AND model = 'm'", |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        })
        .await;
    assert_eq!(cost, (8000, 2));
    assert!(fake.files().is_empty(), "{:?}", fake.files());
    while handovers(harness.folder()) != 0 {
        tokio::task::yield_now().await;
    }
    let left = std::fs::read_dir(harness.folder().join("handovers")).unwrap();
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn each_model_of_a_wildcard_has_a_batch_of_its_own() {
    let fake = Fake::start().await;
    let any = Target {
        model: "*".to_owned(),
        ..at(&fake)
    };
    let mut one = route("m", vec![any]);
    one.models = vec!["vendor/*".to_owned()];
    let harness = Harness::start(vec![one], vec![key("a")]).await;
    let lines = [
        line("a", "vendor/x"),
        line("b", "vendor/y"),
        line("c", "vendor/x"),
    ];
    let id = create(&harness, &lines).await;
    fake.run(Phase::Completed);
    let batch = until(&harness, &id, "completed").await;
    let rows = [
        ("a", 200, "ran a"),
        ("b", 200, "ran b"),
        ("c", 200, "ran c"),
    ];
    assert_eq!(results(&harness, &batch).await, expected(&rows));
    let mut models: Vec<Vec<String>> = [0, 1]
        .map(|upload| {
            let lines = fake.lines_of(upload);
            let models = lines.iter().map(|line| line["body"]["model"].to_string());
            models.collect()
        })
        .to_vec();
    models.sort_unstable();
    assert_eq!(models, [vec!["\"x\"", "\"x\""], vec!["\"y\""]]);
}

#[tokio::test]
async fn faults_of_a_provider_cost_time_and_no_line() {
    let fake = Fake::start().await;
    for path in ["/v1/files", "/v1/batches", "poll", "content"] {
        fake.fail(path, Reply::text(429, "").with("retry-after", "0"));
        fake.fail(path, Reply::text(500, "hush"));
        fake.fail(path, Reply::text(401, ""));
        fake.fail(path, Reply::text(200, "<html>"));
    }
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
    fake.run(Phase::Completed);
    let batch = until(&harness, &id, "completed").await;
    let rows = [("a", 200, "ran a"), ("b", 200, "ran b")];
    assert_eq!(results(&harness, &batch).await, expected(&rows));
    assert_eq!(fake.batches().len(), 1);
    assert_eq!(cost(&harness).await, "0.000008");
}

#[tokio::test]
async fn a_batch_that_was_made_without_an_answer_is_found_again() {
    let fake = Fake::start().await;
    fake.lose_answer(150);
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m")]).await;
    fake.run(Phase::Completed);
    let batch = until(&harness, &id, "completed").await;
    assert_eq!(
        results(&harness, &batch).await,
        expected(&[("a", 200, "ran a")])
    );
    assert_eq!(fake.batches().len(), 151);
}

#[tokio::test]
async fn a_crash_at_any_step_makes_no_second_batch_and_counts_no_line_twice() {
    // What a crash took of what was known.
    for set in [
        "record",
        "json_remove(record, '$.remote')",
        "json_set(record, '$.remote', NULL)",
    ] {
        let fake = Fake::start().await;
        let of_team = || KeyEntry {
            team: Some("blue".to_owned()),
            ..key("a")
        };
        let harness = Harness::start(routes(&fake), vec![of_team()]).await;
        let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
        fake.until_polled().await;
        let forget = |folder: &Path| {
            let connection = Connection::open(folder.join("objects.sqlite")).unwrap();
            let sql = format!("UPDATE handovers SET record = {set}");
            assert_eq!(connection.execute(&sql, []).unwrap(), 1);
        };
        let harness = harness
            .crashed_with(routes(&fake), vec![of_team()], forget)
            .await;
        fake.run(Phase::Completed);
        let batch = until(&harness, &id, "completed").await;
        let rows = [("a", 200, "ran a"), ("b", 200, "ran b")];
        assert_eq!(results(&harness, &batch).await, expected(&rows), "{set}");
        let sql = "SELECT count(*) FROM requests WHERE team = 'blue' AND outcome = 'complete'";
        let of_team = harness.query(sql, |row| row.get::<_, i64>(0)).await;
        assert_eq!(of_team, 2, "{set}");
        assert_eq!(fake.batches().len(), 1, "{set}");
        assert_eq!(harness.rows().await.len(), 2, "{set}");
        assert_eq!(cost(&harness).await, "0.000008", "{set}");
    }
}

#[tokio::test]
async fn an_answer_that_is_in_the_ledger_and_not_in_the_results_is_counted_once() {
    let fake = Fake::start().await;
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m")]).await;
    fake.until_polled().await;
    // The answers break off after their line, which is settled; the crash takes it from the results.
    fake.cut_content(true);
    fake.run(Phase::Completed);
    while harness.rows().await.is_empty() {
        tokio::task::yield_now().await;
    }
    let forget = |folder: &Path| {
        fake.cut_content(false);
        for entry in std::fs::read_dir(folder.join("files")).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            if text.contains("batch_req_") {
                std::fs::write(&path, "").unwrap();
            }
        }
    };
    let harness = harness
        .crashed_with(routes(&fake), vec![key("a")], forget)
        .await;
    let batch = until(&harness, &id, "completed").await;
    assert_eq!(
        results(&harness, &batch).await,
        expected(&[("a", 200, "ran a")])
    );
    assert_eq!(harness.rows().await.len(), 1);
    assert_eq!(cost(&harness).await, "0.000004");
}

#[tokio::test]
async fn a_batch_is_cancelled_at_its_provider_and_keeps_its_answers() {
    let fake = Fake::start().await;
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
    fake.until_polled().await;
    let path = format!("/v1/batches/{id}/cancel");
    harness.post(&path, Some("qd-a"), "").await;
    let batch = until(&harness, &id, "cancelled").await;
    assert_eq!(
        results(&harness, &batch).await,
        expected(&[("a", 200, "ran a")])
    );
    assert_eq!(fake.batches()[0]["status"], "cancelled");
}

#[tokio::test]
async fn a_batch_whose_time_is_over_ends_at_its_provider_too() {
    let fake = Fake::start().await;
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
    fake.until_polled().await;
    let expire = |folder: &Path| {
        let connection = Connection::open(folder.join("objects.sqlite")).unwrap();
        let sql = "UPDATE batches SET record = json_set(record, '$.expires_at', 1)";
        assert_eq!(connection.execute(sql, []).unwrap(), 1);
    };
    let harness = harness
        .crashed_with(routes(&fake), vec![key("a")], expire)
        .await;
    let batch = until(&harness, &id, "expired").await;
    let rows = [("a", 200, "ran a"), ("b", 0, "batch_expired")];
    assert_eq!(results(&harness, &batch).await, expected(&rows));
    assert_eq!(fake.batches()[0]["status"], "cancelled");
}

#[tokio::test]
async fn what_the_provider_did_not_answer_is_told_line_by_line() {
    for (phase, rows) in [
        (
            Phase::Expired,
            [("a", 200, "ran a"), ("b", 0, "batch_expired")],
        ),
        (
            Phase::Failed,
            [
                ("a", 400, "The provider's batch is failed. No such model."),
                ("b", 400, "The provider's batch is failed. No such model."),
            ],
        ),
        (Phase::Partial, [("a", 200, "ran a"), ("b", 400, "too hot")]),
        (
            Phase::Silent,
            [
                ("a", 200, "ran a"),
                (
                    "b",
                    502,
                    "The provider's batch is completed. It gave no answer to this line.",
                ),
            ],
        ),
    ] {
        let fake = Fake::start().await;
        let harness = start(&fake).await;
        let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
        fake.run(phase);
        let batch = until(&harness, &id, "completed").await;
        assert_eq!(
            results(&harness, &batch).await,
            expected(&rows),
            "{phase:?}"
        );
    }
}

#[tokio::test]
async fn a_provider_without_batches_refuses_each_line_in_its_words() {
    let fake = Fake::start().await;
    let refusal = json!({"error": {"message": "No batches here."}});
    fake.fail("/v1/files", Reply::json(404, &refusal));
    let harness = start(&fake).await;
    let id = create(&harness, &[line("a", "m")]).await;
    let batch = until(&harness, &id, "completed").await;
    let said = "The provider takes no batch of this line (status 404). No batches here.";
    assert_eq!(
        results(&harness, &batch).await,
        expected(&[("a", 400, said)])
    );
}

#[tokio::test]
async fn a_budget_holds_for_lines_while_their_provider_runs_them() {
    let fake = Fake::start().await;
    let mut all = routes(&fake);
    all[0].budgets = vec![Budget {
        name: "b".to_owned(),
        per: Per::Route,
        // Room for one line's guess, not for two.
        amount_nanos: 1_500_000,
        window_millis: 3_600_000,
        mode: Mode::Enforce,
    }];
    let harness = Harness::start(all, vec![key("a")]).await;
    let id = create(&harness, &[line("a", "m"), line("b", "m")]).await;
    fake.until_polled().await;
    assert_eq!(fake.lines_of(0).len(), 1);
    // What is held for the line is not there for others.
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let now = harness.post(CHAT, Some("qd-a"), &body).await;
    assert_eq!(now.status, 429, "{}", now.text_body());
    fake.run(Phase::Completed);
    let batch = until(&harness, &id, "completed").await;
    let found = results(&harness, &batch).await;
    assert_eq!((found["a"].0, found["b"].0), (200, 429));
    assert_eq!(cost(&harness).await, "0.000004");
}

#[tokio::test]
async fn azure_is_asked_by_its_own_paths() {
    for (version, upload, endpoint) in [
        (
            Some("2024-10-21"),
            "/openai/files?api-version=2024-10-21",
            "/chat/completions",
        ),
        (None, "/openai/v1/files", "/chat/completions"),
    ] {
        let fake = Fake::start().await;
        let mut azure = at(&fake);
        azure.endpoints = vec![fake.server.url("")];
        azure.provider = Provider::AzureOpenAI {
            api_version: version.map(str::to_owned),
        };
        let routes = vec![route("m", vec![azure])];
        let harness = Harness::start(routes, vec![key("a")]).await;
        let id = create(&harness, &[line("a", "m")]).await;
        fake.run(Phase::Completed);
        let batch = until(&harness, &id, "completed").await;
        assert_eq!(
            results(&harness, &batch).await,
            expected(&[("a", 200, "ran a")])
        );
        assert_eq!(fake.server.asked()[0].path, upload);
        assert_eq!(fake.batches()[0]["endpoint"], endpoint);
        assert_eq!(fake.lines_of(0)[0]["url"], endpoint);
    }
}
