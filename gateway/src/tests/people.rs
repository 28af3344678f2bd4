//! Keys, teams, users and tags that are made at run time.

use protocol::snapshot::{Access, KeyEntry, Prices, RouteEntry};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::harness::{Answer, Harness, chat, key, route, target};

/// In nano-dollars.
const DOLLAR: u64 = 1_000_000_000;
const COMPLETIONS: &str = "/v1/chat/completions";

/// Routes to a model that costs a dollar for each of the three tokens that it answers.
fn priced(model: &ScriptedModel) -> Vec<RouteEntry> {
    let mut priced = target("own", "m", &[model]);
    priced.prices = Some(Prices {
        output_nanos: 1_000_000 * DOLLAR,
        ..Prices::default()
    });
    vec![route("m", vec![priced])]
}

async fn harness(model: &ScriptedModel) -> Harness {
    Harness::start(priced(model), vec![key("declared")]).await
}

/// Makes something, and answers it.
async fn make(harness: &Harness, path: &str, body: Value) -> Value {
    let made = harness.admin("POST", path, &body).await;
    assert_eq!(made.status, 201, "{}", made.text_body());
    made.json()
}

/// Makes a key, and answers the key and its id.
async fn make_key(harness: &Harness, body: Value) -> (String, String) {
    let made = make(harness, "/admin/v1/keys", body).await;
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("key"), text("id"))
}

async fn ask(harness: &Harness, key: &str) -> Answer {
    let body = json!({"model": "m", "messages": [], "max_tokens": 3}).to_string();
    harness.post(COMPLETIONS, Some(key), &body).await
}

#[tokio::test]
async fn a_key_made_at_run_time_opens_what_declared_keys_do_until_it_ends() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let (key, id) = make_key(&harness, json!({"alias": "ci"})).await;
    assert!(key.starts_with("qd-") && key.len() == 51, "{key}");
    assert_eq!(ask(&harness, &key).await.status, 200);
    let path = format!("/admin/v1/keys/{id}");
    let shown = harness.admin("GET", &path, &Value::Null).await.json();
    assert_eq!(
        (&shown["alias"], &shown["hint"], &shown["key"]),
        (&json!("ci"), &json!(key[47..]), &Value::Null)
    );

    // Rotated with time to change it over, the old key counts on; without, it ends at once.
    let rotate = format!("{path}/rotate");
    let rotated = harness
        .admin("POST", &rotate, &json!({"grace": "1h"}))
        .await;
    let second = rotated.json()["key"].as_str().unwrap().to_owned();
    assert_eq!(ask(&harness, &key).await.status, 200);
    assert_eq!(ask(&harness, &second).await.status, 200);
    let rotated = harness.admin("POST", &rotate, &Value::Null).await;
    let third = rotated.json()["key"].as_str().unwrap().to_owned();
    for old in [&key, &second] {
        assert_eq!(ask(&harness, old).await.fault().0, 401);
    }

    // What was acknowledged is there after a restart, and no key is on the disk.
    let harness = harness.restarted(priced(&model), Vec::new()).await;
    assert_eq!(ask(&harness, &third).await.status, 200);
    assert!(harness.holds_on_disk(&id));
    for key in [&key, &second, &third] {
        assert!(!harness.holds_on_disk(key), "{key} is on the disk");
    }

    let expired = json!({"expires_at": "2020-01-01T00:00:00Z"});
    harness.admin("PATCH", &path, &expired).await;
    let refused = ask(&harness, &third).await;
    assert!(
        refused.text_body().contains("has expired"),
        "{}",
        refused.text_body()
    );
    harness
        .admin("PATCH", &path, &json!({"expires_at": null}))
        .await;
    assert_eq!(ask(&harness, &third).await.status, 200);
    harness
        .admin("POST", &format!("{path}/block"), &Value::Null)
        .await;
    let refused = ask(&harness, &third).await;
    assert!(
        refused.text_body().contains("is blocked"),
        "{}",
        refused.text_body()
    );
    harness
        .admin("POST", &format!("{path}/unblock"), &Value::Null)
        .await;
    assert_eq!(ask(&harness, &third).await.status, 200);
    let deleted = harness.admin("DELETE", &path, &Value::Null).await.json();
    assert_eq!(deleted["deleted"], true);
    assert_eq!(
        ask(&harness, &third).await.fault(),
        (401, "invalid_api_key".to_owned())
    );
    assert_eq!(harness.admin("GET", &path, &Value::Null).await.status, 404);
}

#[tokio::test]
async fn a_budget_of_a_key_its_team_its_user_or_a_tag_is_spent_once_however_many_ask_at_once() {
    let budget = json!([{"amount": "10", "window": "24h"}]);
    for owner in ["keys", "teams", "users", "tags"] {
        let model = ScriptedModel::start(vec!["one two three".into()]).await;
        let harness = harness(&model).await;
        let mut spec = json!({"team": "eng", "user": "ann", "tags": ["batch"]});
        for (path, id) in [("teams", "eng"), ("users", "ann"), ("tags", "batch")] {
            let mut party = json!({"id": id});
            if path == owner {
                party["budgets"] = budget.clone();
            }
            make(&harness, &format!("/admin/v1/{path}"), party).await;
        }
        if owner == "keys" {
            spec["budgets"] = budget.clone();
        }
        let (key, _) = make_key(&harness, spec).await;
        let answers = futures::future::join_all((0..64).map(|_| ask(&harness, &key))).await;
        let served = answers.iter().filter(|answer| answer.status == 200).count();
        let refused = answers.iter().filter(|answer| answer.status != 200);
        for answer in refused {
            assert_eq!(answer.fault(), (429, "insufficient_quota".to_owned()));
            let whose = format!("of the {}", owner.trim_end_matches('s'));
            assert!(
                answer.text_body().contains(&whose),
                "{}",
                answer.text_body()
            );
        }
        // Three fit; a fourth one alone may have the last dollar. Without reservations all 64 would be served.
        assert!((3..=4).contains(&served), "{owner}: {served}");
        harness.rows().await;

        // What was spent counts after a restart, for whoever it was counted for.
        let spent = harness.admin("GET", "/admin/v1/audit", &Value::Null).await;
        assert_eq!(spent.status, 200);
        let harness = harness.restarted(priced(&model), Vec::new()).await;
        let left = futures::future::join_all((0..8).map(|_| ask(&harness, &key))).await;
        let more = left.iter().filter(|answer| answer.status == 200).count();
        assert!(served + more <= 4, "{owner}: {served} and then {more}");
    }
}

#[tokio::test]
async fn a_soft_budget_only_tells() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let soft = json!({"budgets": [{"amount": 3, "mode": "Shadow"}]});
    let (key, _) = make_key(&harness, soft).await;
    let told = "x-quarterdeck-soft-limit";
    assert_eq!(ask(&harness, &key).await.header(told), "");
    let over = ask(&harness, &key).await;
    assert_eq!(
        (over.status, over.header(told)),
        (200, "key-soft-budget".to_owned())
    );
    let metrics = harness.get("/metrics", None).await.text_body();
    let counted =
        r#"gateway_limits_reached_total{route="ns/m",limit="key-soft-budget",resource="cost"} 1"#;
    assert!(metrics.contains(counted), "{metrics}");
}

#[tokio::test]
async fn a_change_of_a_team_holds_for_all_its_keys_at_once() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let declared = KeyEntry {
        team: Some("eng".to_owned()),
        ..key("declared")
    };
    let harness = Harness::start(priced(&model), vec![declared]).await;
    make(&harness, "/admin/v1/teams", json!({"id": "eng"})).await;
    let (key, _) = make_key(&harness, json!({"team": "eng"})).await;
    let keys = ["qd-declared", key.as_str()];
    let statuses = async || {
        let mut statuses = Vec::new();
        for key in keys {
            statuses.push(ask(&harness, key).await.status);
        }
        statuses
    };
    assert_eq!(statuses().await, [200, 200]);
    let patch = async |change: Value| {
        let changed = harness.admin("PATCH", "/admin/v1/teams/eng", &change).await;
        assert_eq!(changed.status, 200, "{}", changed.text_body());
    };
    patch(json!({"models": ["other-*"]})).await;
    assert_eq!(statuses().await, [404, 404]);
    let listed = harness.get("/v1/models", Some(&key)).await.json();
    assert_eq!(listed["data"], json!([]));
    patch(json!({"models": null, "blocked": true})).await;
    assert_eq!(statuses().await, [401, 401]);
    patch(json!({"blocked": false, "limits": [{"requests": {"limit": 1, "window": "1h"}}]})).await;
    assert_eq!(statuses().await, [200, 429]);
    let kept = harness
        .admin("DELETE", "/admin/v1/teams/eng", &Value::Null)
        .await;
    assert_eq!(kept.status, 400);
}

#[tokio::test]
async fn a_key_that_names_a_route_may_use_it_though_it_asks_for_others() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let closed = RouteEntry {
        access: Access::Keys(vec!["ns/declared".to_owned()]),
        ..route("closed", vec![target("own", "m", &[&model])])
    };
    let harness = Harness::start(vec![closed], Vec::new()).await;
    let (plain, _) = make_key(&harness, json!({})).await;
    let (named, _) = make_key(&harness, json!({"routes": ["ns/closed"]})).await;
    let body = chat("closed", false);
    assert_eq!(
        harness.post(COMPLETIONS, Some(&plain), &body).await.status,
        404
    );
    assert_eq!(
        harness.post(COMPLETIONS, Some(&named), &body).await.status,
        200
    );
}

#[tokio::test]
async fn nobody_but_the_holder_of_the_admin_key_changes_anything_and_changes_are_noted() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = harness(&model).await;
    let status = async |key: Option<&str>| harness.post("/admin/v1/keys", key, "{}").await.status;
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some("qd-declared")).await, 403);
    let (key, id) = make_key(&harness, json!({"metadata": {"note": "hidden"}})).await;
    harness
        .admin("DELETE", &format!("/admin/v1/keys/{id}"), &Value::Null)
        .await;
    let noted = harness.admin("GET", "/admin/v1/audit", &Value::Null).await;
    let rows = noted.json()["data"].clone();
    let of = |row: &Value| {
        [&row["actor"], &row["action"], &row["kind"], &row["subject"]]
            .map(Value::to_string)
            .join(" ")
    };
    let rows: Vec<String> = rows.as_array().unwrap().iter().map(of).collect();
    let row = |action: &str| format!(r#""admin" "{action}" "key" "{id}""#);
    assert_eq!(rows, [row("delete"), row("create")]);
    let text = noted.text_body();
    assert!(!text.contains(&key) && !text.contains("hidden"), "{text}");
    assert!(text.contains(r#"{"metadata":"changed"}"#), "{text}");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_what_to_do() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = harness(&model).await;
    let refused = async |path: &str, body: Value, part: &str| {
        let refused = harness
            .admin("POST", &format!("/admin/v1/{path}"), &body)
            .await;
        assert_eq!(refused.fault().0, 400, "{body}");
        let text = refused.json()["error"]["message"].to_string();
        assert!(text.contains(part), "{text}");
    };
    refused("keys", json!({"tema": "x"}), "unknown field `tema`").await;
    refused("keys", json!({"team": "x"}), "Make it first").await;
    refused(
        "keys",
        json!({"members": [{"user": "a"}]}),
        "belongs to a team",
    )
    .await;
    refused("keys", json!({"key": "short"}), "16 to 256").await;
    refused("keys", json!({"models": ["a*b"]}), "elsewhere").await;
    refused(
        "keys",
        json!({"budgets": [{"amount": "-1"}]}),
        "write US dollars",
    )
    .await;
    refused(
        "keys",
        json!({"budgets": [{"amount": 1, "window": "1y"}]}),
        "write a time",
    )
    .await;
    refused(
        "keys",
        json!({"budgets": [{"amount": 1}, {"amount": 2}]}),
        "keep one",
    )
    .await;
    refused(
        "keys",
        json!({"limits": [{}]}),
        "needs `requests`, `tokens`",
    )
    .await;
    refused("teams", json!({"id": "a/b"}), "no id has").await;
    make(
        &harness,
        "/admin/v1/teams",
        json!({"id": "a", "alias": "A"}),
    )
    .await;
    refused("teams", json!({"id": "a"}), "There is a team `a` already").await;
    refused("teams", json!({"id": "b", "alias": "A"}), "Another team").await;
    // Nothing of what was refused is there.
    let teams = harness
        .admin("GET", "/admin/v1/teams?limit=1", &Value::Null)
        .await
        .json();
    assert_eq!(
        (&teams["data"][0]["id"], &teams["has_more"]),
        (&json!("a"), &json!(false))
    );
}

#[tokio::test]
async fn a_row_names_the_team_the_user_and_the_tags_of_the_key_and_the_request() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = harness(&model).await;
    make(&harness, "/admin/v1/teams", json!({"id": "eng"})).await;
    make(&harness, "/admin/v1/users", json!({"id": "ann@x.org"})).await;
    let spec = json!({"team": "eng", "user": "ann@x.org", "tags": ["ci"]});
    let (key, _) = make_key(&harness, spec).await;
    let body = json!({"model": "m", "messages": [], "user": "end", "metadata": {"tags": ["ci", "nightly"]}});
    let answer = harness
        .post(COMPLETIONS, Some(&key), &body.to_string())
        .await;
    assert_eq!(answer.status, 200);
    let row: (String, String, String, String) = harness
        .query("SELECT team, user, end_user, tags FROM requests", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .await;
    let expected = ["eng", "ann@x.org", "end", r#"["ci","nightly"]"#].map(str::to_owned);
    assert_eq!([row.0, row.1, row.2, row.3], expected);
    let many: Vec<String> = (0..17).map(|number| number.to_string()).collect();
    let body = json!({"model": "m", "messages": [], "metadata": {"tags": many}});
    let refused = harness
        .post(COMPLETIONS, Some(&key), &body.to_string())
        .await;
    assert_eq!(refused.fault().0, 400);
}

#[tokio::test]
async fn spend_is_told_by_whoever_it_is_counted_for() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    make(&harness, "/admin/v1/teams", json!({"id": "eng"})).await;
    let (first, id) = make_key(&harness, json!({"team": "eng", "tags": ["ci"]})).await;
    let (second, _) = make_key(&harness, json!({})).await;
    for key in [&first, &first, &second] {
        assert_eq!(ask(&harness, key).await.status, 200);
    }
    let spend = async |query: &str| {
        let path = format!("/admin/v1/spend?{query}");
        harness.admin("GET", &path, &Value::Null).await
    };
    let sums = |requests: u64| {
        json!({"requests": requests, "prompt_tokens": 0, "completion_tokens": 3 * requests, "cached_tokens": 0,
            "cost_usd": (3 * requests).to_string()})
    };
    let named = |names: Value, requests: u64| {
        let mut row = names;
        let sums = sums(requests).as_object().unwrap().clone();
        row.as_object_mut().unwrap().extend(sums);
        row
    };
    let data = async |query: &str| {
        let mut answer = spend(query).await.json();
        // The scripted model counts the prompt, which is not what this is about.
        for row in answer["data"].as_array_mut().unwrap() {
            row["prompt_tokens"] = json!(0);
        }
        answer["data"].clone()
    };
    assert_eq!(data("").await, json!([sums(3)]));
    let by_team = [
        named(json!({"team": "eng"}), 2),
        named(json!({"team": ""}), 1),
    ];
    assert_eq!(data("by=team").await, json!(by_team));
    let of_key = [named(json!({"key": id, "model": "m"}), 2)];
    assert_eq!(data(&format!("by=key,model&key={id}")).await, json!(of_key));
    assert_eq!(
        data("by=tag").await,
        json!([named(json!({"tag": "ci"}), 2)])
    );
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .to_string();
    assert_eq!(
        data("by=day&model=m").await,
        json!([named(json!({"day": today}), 3)])
    );
    assert_eq!(data("by=day&until=2020-01-01").await, json!([]));
    assert_eq!(data("since=2999-01-01T00:00:00Z").await, json!([]));
    for wrong in [
        "by=sum",
        "by=key,key",
        "by=tag,team",
        "since=yesterday",
        "limit=0",
    ] {
        assert_eq!(spend(wrong).await.fault().0, 400, "{wrong}");
    }
}
