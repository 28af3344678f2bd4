//! What scripts that were written for LiteLLM ask and are answered.

use protocol::{
    key::{digest, hex},
    snapshot::{Prices, RouteEntry},
};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::harness::{Answer, Harness, chat, key, route, target};

const COMPLETIONS: &str = "/v1/chat/completions";

/// A route to a model that costs a dollar for each of the three tokens that it answers.
async fn harness(model: &ScriptedModel) -> Harness {
    let mut priced = target("own", "m", &[model]);
    priced.prices = Some(Prices {
        output_nanos: 1_000_000_000_000_000,
        ..Prices::default()
    });
    let routes: Vec<RouteEntry> = vec![route("m", vec![priced])];
    Harness::start(routes, vec![key("declared")]).await
}

async fn post(harness: &Harness, path: &str, body: Value) -> Value {
    let answer = harness.admin("POST", path, &body).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text_body());
    answer.json()
}

async fn get(harness: &Harness, path: &str) -> Value {
    let answer = harness.admin("GET", path, &Value::Null).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text_body());
    answer.json()
}

async fn ask(harness: &Harness, key: &str) -> Answer {
    harness
        .post(COMPLETIONS, Some(key), &chat("m", false))
        .await
}

/// The fields of an object, in this order.
#[track_caller]
fn check(object: &Value, expected: impl Into<Value>) {
    let expected = expected.into();
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&object[name], value, "{name} of {object}");
    }
}

#[tokio::test]
async fn a_key_is_generated_used_and_changed() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let body = json!({"key_alias": "ci", "models": ["m"], "max_budget": 100.0, "budget_duration": "30d", "duration": "30d",
        "rpm_limit": 60, "user_id": "ann", "metadata": {"team": "x"}, "tags": ["nightly"]});
    let made = post(&harness, "/key/generate", body).await;
    let first = made["key"].as_str().unwrap().to_owned();
    check(
        &made,
        json!({"key_alias": "ci", "max_budget": 100.0, "budget_duration": "30d", "rpm_limit": 60,
        "user_id": "ann", "models": ["m"], "spend": 0.0, "token": hex(&digest(&first))}),
    );
    assert!(made["expires"].is_string());
    assert_eq!(ask(&harness, &first).await.status, 200);

    for named in [&first, made["token"].as_str().unwrap()] {
        let info = get(&harness, &format!("/key/info?key={named}")).await;
        check(
            &info["info"],
            json!({"spend": 3.0, "key_alias": "ci", "team_id": null, "blocked": false}),
        );
    }
    let own = harness.get("/key/info", Some(&first)).await.json();
    check(&own["info"], json!({"spend": 3.0}));
    let others = harness
        .get(&format!("/key/info?key={first}"), Some("qd-declared"))
        .await;
    assert_eq!(others.status, 404);

    let changed = post(
        &harness,
        "/key/update",
        json!({"key": first, "max_budget": 3.0, "models": []}),
    )
    .await;
    check(
        &changed,
        json!({"max_budget": 3.0, "budget_duration": "30d", "rpm_limit": 60, "models": []}),
    );
    assert_eq!(
        ask(&harness, &first).await.fault(),
        (429, "insufficient_quota".to_owned())
    );
    post(
        &harness,
        "/key/update",
        json!({"key": first, "max_budget": null}),
    )
    .await;
}

#[tokio::test]
async fn a_key_is_regenerated_blocked_listed_and_deleted() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let made = post(&harness, "/key/generate", json!({"user_id": "ann"})).await;
    let first = made["key"].as_str().unwrap().to_owned();
    let path = format!("/key/{first}/regenerate");
    let second = post(&harness, &path, json!({"grace_period": "1h"})).await;
    let second = second["key"].as_str().unwrap().to_owned();
    assert_eq!(
        (
            ask(&harness, &first).await.status,
            ask(&harness, &second).await.status
        ),
        (200, 200)
    );

    post(&harness, "/key/block", json!({"key": second})).await;
    assert_eq!(ask(&harness, &second).await.status, 401);
    post(&harness, "/key/unblock", json!({"key": second})).await;
    assert_eq!(ask(&harness, &second).await.status, 200);

    let listed = get(&harness, "/key/list?size=1").await;
    check(
        &listed,
        json!({"keys": [hex(&digest(&second))], "total_count": 1, "current_page": 1, "total_pages": 1}),
    );
    let full = get(&harness, "/key/list?return_full_object=true&user_id=ann").await;
    check(&full["keys"][0], json!({"spend": 9.0, "user_id": "ann"}));
    let deleted = post(&harness, "/key/delete", json!({"keys": [second]})).await;
    check(&deleted, json!({"deleted_keys": [second]}));
    assert_eq!(ask(&harness, &second).await.status, 401);
    let gone = harness
        .admin("GET", &format!("/key/info?key={second}"), &Value::Null)
        .await;
    assert!(gone.status == 404 && !gone.text_body().contains(&second));
}

#[tokio::test]
async fn a_team_has_keys_and_a_budget() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let team = json!({"team_id": "eng", "team_alias": "Engineering", "max_budget": 4.0,
        "members_with_roles": [{"role": "admin", "user_id": "ann"}]});
    check(
        &post(&harness, "/team/new", team).await,
        json!({"team_id": "eng", "max_budget": 4.0}),
    );
    let user = post(
        &harness,
        "/user/new",
        json!({"user_id": "bob", "user_email": "b@x.org", "teams": ["eng"]}),
    )
    .await;
    check(&user, json!({"user_id": "bob", "user_email": "b@x.org"}));
    assert_eq!(
        ask(&harness, user["key"].as_str().unwrap()).await.status,
        200
    );
    let made = post(
        &harness,
        "/key/generate",
        json!({"team_id": "eng", "user_id": "bob"}),
    )
    .await;
    let key = made["key"].as_str().unwrap();
    let statuses = [
        ask(&harness, key).await.status,
        ask(&harness, key).await.status,
        ask(&harness, key).await.status,
    ];
    // Three dollars fit, the last one of four may be overdrawn by one request.
    assert_eq!(statuses, [200, 200, 429]);

    let info = get(&harness, "/team/info?team_id=eng").await;
    check(
        &info["team_info"],
        json!({"spend": 6.0, "members_with_roles": [
        {"user_id": "ann", "role": "admin", "user_email": null}, {"user_id": "bob", "role": "user", "user_email": null}]}),
    );
    check(&info["keys"][0], json!({"spend": 6.0}));
    let updated = post(
        &harness,
        "/team/update",
        json!({"team_id": "eng", "max_budget": null}),
    )
    .await;
    check(
        &updated["data"],
        json!({"max_budget": null, "team_alias": "Engineering"}),
    );
    post(&harness, "/team/block", json!({"team_id": "eng"})).await;
    assert_eq!(ask(&harness, key).await.status, 401);
    post(&harness, "/team/unblock", json!({"team_id": "eng"})).await;
    assert_eq!(ask(&harness, key).await.status, 200);

    check(
        &post(&harness, "/team/delete", json!({"team_ids": ["eng"]})).await,
        json!({"deleted_teams": ["eng"]}),
    );
    assert_eq!(ask(&harness, key).await.status, 401);
    assert_eq!(get(&harness, "/key/list").await["total_count"], 1);
}

#[tokio::test]
async fn members_come_and_go() {
    let model = ScriptedModel::start(Vec::new()).await;
    let harness = harness(&model).await;
    let team = json!({"team_id": "eng", "team_alias": "Engineering", "admins": ["ann"], "members": ["bob"]});
    post(&harness, "/team/new", team).await;
    let member = json!({"team_id": "eng", "member": [{"role": "user", "user_id": "cleo"}]});
    let added = post(&harness, "/team/member_add", member).await;
    assert_eq!(added["members_with_roles"].as_array().unwrap().len(), 3);
    let removed = post(
        &harness,
        "/team/member_delete",
        json!({"team_id": "eng", "user_id": "ann"}),
    )
    .await;
    assert_eq!(removed["members_with_roles"].as_array().unwrap().len(), 2);
    let teams = get(&harness, "/team/list?user_id=cleo").await;
    check(
        &teams[0],
        json!({"team_id": "eng", "team_alias": "Engineering"}),
    );
}

#[tokio::test]
async fn a_user_has_keys_teams_and_spend() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    post(&harness, "/team/new", json!({"team_id": "eng"})).await;
    let user = json!({"user_id": "bob", "user_email": "b@x.org", "teams": ["eng"]});
    let user = post(&harness, "/user/new", user).await;
    assert_eq!(
        ask(&harness, user["key"].as_str().unwrap()).await.status,
        200
    );
    post(&harness, "/key/generate", json!({"user_id": "bob"})).await;
    let info = get(&harness, "/user/info?user_id=bob").await;
    check(
        &info["user_info"],
        json!({"spend": 3.0, "user_email": "b@x.org"}),
    );
    assert_eq!(
        (
            info["keys"].as_array().unwrap().len(),
            info["teams"].as_array().unwrap().len()
        ),
        (2, 1)
    );
    let updated = post(
        &harness,
        "/user/update",
        json!({"user_id": "bob", "user_role": "internal_user"}),
    )
    .await;
    check(
        &updated["data"],
        json!({"user_role": "internal_user", "user_email": "b@x.org"}),
    );
    let users = get(&harness, "/user/list?role=internal_user").await;
    check(&users, json!({"total": 1, "page": 1, "total_pages": 1}));
    let deleted = post(&harness, "/user/delete", json!({"user_ids": ["bob"]})).await;
    assert_eq!(deleted, json!(1));
    assert_eq!(get(&harness, "/key/list").await["total_count"], 0);
}

#[tokio::test]
async fn spend_is_reported_as_litellm_does() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    post(
        &harness,
        "/team/new",
        json!({"team_id": "eng", "team_alias": "Engineering"}),
    )
    .await;
    let made = post(
        &harness,
        "/key/generate",
        json!({"team_id": "eng", "user_id": "ann", "tags": ["ci"]}),
    )
    .await;
    let (key, token) = (made["key"].as_str().unwrap(), &made["token"]);
    for _ in 0..2 {
        assert_eq!(ask(&harness, key).await.status, 200);
    }
    let logs = get(&harness, &format!("/spend/logs?api_key={key}")).await;
    assert_eq!(logs.as_array().unwrap().len(), 2);
    check(
        &logs[0],
        json!({"spend": 3.0, "api_key": token, "model": "m", "user": "ann", "team_id": "eng",
        "request_tags": ["ci"], "completion_tokens": 3, "status": "success", "cache_hit": "False"}),
    );
    let id = logs[1]["request_id"].as_str().unwrap();
    let one = get(&harness, &format!("/spend/logs?request_id={id}")).await;
    assert_eq!(one, json!([logs[1]]));
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .to_string();
    let dates = format!("start_date={today}&end_date={today}");
    let days = get(&harness, &format!("/spend/logs?{dates}")).await;
    assert_eq!(
        days,
        json!([{"startTime": today, "spend": 6.0, "users": {"ann": 6.0}, "models": {"m": 6.0}}])
    );
    let long_ago = get(
        &harness,
        "/spend/logs?start_date=2020-01-01&end_date=2020-01-02",
    )
    .await;
    assert_eq!(long_ago, json!([]));
}

#[tokio::test]
async fn totals_are_reported_as_litellm_does() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let harness = harness(&model).await;
    let team = json!({"team_id": "eng", "team_alias": "Engineering"});
    post(&harness, "/team/new", team).await;
    let key = json!({"team_id": "eng", "user_id": "ann", "tags": ["ci"]});
    let made = post(&harness, "/key/generate", key).await;
    let (key, token) = (made["key"].as_str().unwrap(), &made["token"]);
    for _ in 0..2 {
        assert_eq!(ask(&harness, key).await.status, 200);
    }
    let today = jiff::Timestamp::now()
        .to_zoned(jiff::tz::TimeZone::UTC)
        .date()
        .to_string();
    let dates = format!("start_date={today}&end_date={today}");
    check(
        &get(&harness, "/spend/keys").await[0],
        json!({"spend": 6.0, "token": token}),
    );
    assert_eq!(
        get(&harness, "/spend/users").await,
        json!([{"user_id": "ann", "spend": 6.0}])
    );
    let tags = json!([{"individual_request_tag": "ci", "log_count": 2, "total_spend": 6.0}]);
    assert_eq!(get(&harness, &format!("/spend/tags?{dates}")).await, tags);
    check(&get(&harness, "/global/spend").await, json!({"spend": 6.0}));
    let report = get(
        &harness,
        &format!("/global/spend/report?{dates}&group_by=team"),
    )
    .await;
    let tokens = report[0]["teams"][0]["metadata"][0]["total_tokens"].clone();
    let teams = json!([{"team_name": "Engineering", "total_spend": 6.0,
        "metadata": [{"model": "m", "spend": 6.0, "total_tokens": tokens}]}]);
    assert_eq!(report, json!([{"group_by_day": today, "teams": teams}]));
    check(
        &get(&harness, "/global/spend/keys").await[0],
        json!({"api_key": token, "total_spend": 6.0}),
    );
    assert_eq!(
        get(&harness, "/global/spend/models").await,
        json!([{"model": "m", "total_spend": 6.0}])
    );
}

#[tokio::test]
async fn models_and_health_are_told_to_whom_they_concern() {
    let model = ScriptedModel::start(vec!["x".into()]).await;
    let harness = harness(&model).await;
    for path in ["/model/info", "/v1/model/info"] {
        let info = harness.get(path, Some("qd-declared")).await.json();
        check(
            &info["data"][0],
            json!({"model_name": "m", "litellm_params": {"model": "m"}}),
        );
        check(
            &info["data"][0]["model_info"],
            json!({"output_cost_per_token": 1.0, "input_cost_per_token": 0.0}),
        );
    }
    let groups = get(&harness, "/model_group/info").await;
    check(
        &groups["data"][0],
        json!({"model_group": "m", "output_cost_per_token": 1.0}),
    );
    assert_eq!(harness.get("/model/info", None).await.status, 401);
    for path in ["/health/liveliness", "/health/liveness"] {
        assert_eq!(harness.get(path, None).await.json(), json!("I'm alive!"));
    }
    check(
        &harness.get("/health/readiness", None).await.json(),
        json!({"status": "healthy"}),
    );
    check(
        &get(&harness, "/health").await,
        json!({"healthy_count": 1, "unhealthy_count": 0}),
    );
    assert_eq!(
        harness.get("/health", Some("qd-declared")).await.status,
        403
    );
    assert_eq!(
        harness
            .post("/key/generate", Some("qd-declared"), "{}")
            .await
            .status,
        403
    );
    let empty = Harness::empty().await;
    assert_eq!(empty.get("/health/liveness", None).await.status, 200);
    assert_eq!(empty.get("/health/readiness", None).await.status, 503);
}
