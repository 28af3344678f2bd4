//! Replicas that share limits and budgets.

use std::time::Duration;

use protocol::{
    secret::SecretString,
    snapshot::{Budget, Limit, Mode, OnPartition, Peer, Peers, Per, Prices, RouteEntry},
};
use serde_json::{Value, json};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, key, route, target};

/// In nano-dollars.
const DOLLAR: u64 = 1_000_000_000;
const COMPLETIONS: &str = "/v1/chat/completions";
const TOKEN: &str = "f3a95c07d1e84b62a0c7495e8d16fb23";
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Routes to a model that costs a dollar for each of the three tokens that it answers, with so much to spend.
fn routes(model: &ScriptedModel, dollars: u64) -> Vec<RouteEntry> {
    let mut priced = target("own", "m", &[model]);
    priced.prices = Some(Prices {
        output_nanos: 1_000_000 * DOLLAR,
        ..Prices::default()
    });
    let budget = Budget {
        name: "daily".to_owned(),
        per: Per::Route,
        amount_nanos: dollars * DOLLAR,
        window_millis: 86_400_000,
        mode: Mode::Enforce,
    };
    vec![RouteEntry {
        budgets: vec![budget],
        ..route("m", vec![priced])
    }]
}

fn peers(replicas: &[&Harness], names: &[&str]) -> Peers {
    let peer = |(harness, name): (&&Harness, &&str)| Peer {
        name: (*name).to_owned(),
        url: harness.url(""),
    };
    Peers {
        token: SecretString::new(TOKEN.to_owned()),
        on_partition: OnPartition::Refuse,
        replicas: replicas.iter().zip(names).map(peer).collect(),
    }
}

async fn three() -> [Harness; 3] {
    let replica = |name| Harness::replica(name, tempfile::tempdir().unwrap());
    [replica("a").await, replica("b").await, replica("c").await]
}

fn share(replicas: &[&Harness], names: &[&str], routes: &[RouteEntry]) {
    let peers = peers(replicas, names);
    for replica in replicas {
        replica.share(routes.to_vec(), vec![key("a")], peers.clone());
    }
}

fn body() -> String {
    json!({"model": "m", "messages": [], "max_tokens": 3}).to_string()
}

/// Whether a request was answered.
async fn ask(replica: &Harness) -> bool {
    let answer = replica.post(COMPLETIONS, Some("qd-a"), &body()).await;
    if answer.status != 200 {
        assert_eq!(answer.fault(), (429, "insufficient_quota".to_owned()));
    }
    answer.status == 200
}

/// What a replica's ledger says that was spent, in dollars, and in how many requests.
async fn spent(replica: &Harness) -> (u64, u64) {
    let query = "SELECT sum(cost_nanos), count(*) FROM requests WHERE status = 200";
    let (nanos, rows): (Option<i64>, i64) = replica
        .query(query, |row| Ok((row.get(0)?, row.get(1)?)))
        .await;
    let number = |number: i64| u64::try_from(number).unwrap();
    (number(nanos.unwrap_or(0)) / DOLLAR, number(rows))
}

#[tokio::test]
async fn a_budget_holds_for_sixty_four_callers_on_three_replicas() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let replicas = three().await;
    let all: Vec<&Harness> = replicas.iter().collect();
    share(&all, &NAMES, &routes(&model, 100));
    let callers = (0..64).map(|caller| {
        let replica = all[caller % 3];
        async move {
            let mut served = 0;
            for _ in 0..8 {
                served += u64::from(ask(replica).await);
            }
            served
        }
    });
    let mut served: u64 = futures::future::join_all(callers).await.iter().sum();
    // What is left is less than a slice; whoever asks alone gets all of it.
    while ask(all[2]).await {
        served += 1;
    }
    let (mut dollars, mut rows) = (0, 0);
    for replica in &all {
        let (spent, written) = spent(replica).await;
        dollars += spent;
        rows += written;
    }
    // Each request costs three dollars: 33 fit, and one alone may pass the end. Each for itself would spend 300.
    assert_eq!((dollars, rows, served), (102, 34, 34));
}

#[tokio::test]
async fn each_replica_counts_for_itself_where_none_knows_of_others() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let replicas = three().await;
    let mut served = 0;
    for replica in &replicas {
        replica.apply(routes(&model, 9), vec![key("a")]);
        while ask(replica).await {
            served += 1;
        }
    }
    assert_eq!(served, 9);
}

#[tokio::test]
async fn a_budget_holds_when_a_replica_is_killed_and_when_it_comes_back() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let [first, second, third] = three().await;
    let routes = routes(&model, 150);
    share(&[&first, &second, &third], &NAMES, &routes);
    let mut served = 0;
    for _ in 0..5 {
        for replica in [&first, &second, &third] {
            served += u64::from(ask(replica).await);
        }
    }
    // Whoever of them owned the budget or held a slice of it: it is gone, and so it is from the list.
    let folder = first.killed().await;
    share(&[&second, &third], &NAMES[1..], &routes);
    let two = [&second, &third];
    let callers = (0..64).map(|caller| ask(two[caller % 2]));
    let answers = futures::future::join_all(callers).await;
    served += answers.iter().filter(|served| **served).count() as u64;
    assert!(served <= 50, "{served}");
    let first = Harness::replica("a", folder).await;
    share(&[&first, &second, &third], &NAMES, &routes);
    for replica in [&first, &second, &third] {
        while ask(replica).await {
            served += 1;
        }
    }
    let mut dollars = 0;
    for replica in [&first, &second, &third] {
        dollars += spent(replica).await.0;
    }
    assert_eq!((dollars, served), (150, 50));
}

#[tokio::test]
async fn budgets_of_teams_and_users_are_shared_and_only_replicas_talk_at_their_door() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let replicas = three().await;
    let all: Vec<&Harness> = replicas.iter().collect();
    let routes = vec![RouteEntry {
        budgets: Vec::new(),
        ..routes(&model, 1).remove(0)
    }];
    let peers = peers(&all, &NAMES);
    let mut member = key("a");
    member.team = Some("eng".to_owned());
    member.allowance =
        serde_json::from_value(json!({"budgets": [{"amount": 30, "window": "30d"}]})).unwrap();
    for replica in &all {
        replica.share(routes.clone(), vec![member.clone()], peers.clone());
    }
    let mut served = 0;
    for _ in 0..5 {
        for replica in &all {
            served += u32::from(ask(replica).await);
        }
    }
    assert_eq!(served, 10);

    let letter = json!("Tell").to_string();
    for (token, status) in [
        (None, 404),
        (Some("qd-a"), 404),
        (Some(super::harness::ADMIN_KEY), 404),
        (Some(TOKEN), 200),
    ] {
        let answer = all[0].post("/internal/v1/leases", token, &letter).await;
        assert_eq!(answer.status, status, "{token:?}");
    }
    let junk = all[0].post("/internal/v1/leases", Some(TOKEN), "{").await;
    assert_eq!(junk.status, 400);
}

#[tokio::test]
async fn keys_and_teams_made_at_one_replica_are_known_at_all() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let [first, second, third] = three().await;
    let routes = vec![RouteEntry {
        budgets: Vec::new(),
        ..routes(&model, 1).remove(0)
    }];
    // Made before the replicas knew of each other.
    let team = json!({"id": "eng", "budgets": [{"amount": "30", "window": "30d"}]});
    let made = first.admin("POST", "/admin/v1/teams", &team).await;
    assert_eq!(made.status, 201, "{}", made.text_body());
    share(&[&first, &second, &third], &NAMES, &routes);
    let limit = Duration::from_secs(10);
    let known = async {
        while third
            .admin("GET", "/admin/v1/teams/eng", &Value::Null)
            .await
            .status
            != 200
        {}
    };
    tokio::time::timeout(limit, known).await.unwrap();

    // A key that is made now is known everywhere once it is told, and what its team may spend is shared.
    let made = third
        .admin("POST", "/admin/v1/keys", &json!({"team": "eng"}))
        .await;
    let (id, key) = (made.json()["id"].clone(), made.json()["key"].clone());
    let (id, key) = (id.as_str().unwrap(), key.as_str().unwrap());
    let mut served = 0;
    for _ in 0..5 {
        for replica in [&first, &second, &third] {
            let answer = replica.post(COMPLETIONS, Some(key), &body()).await;
            assert!(
                [200, 429].contains(&answer.status),
                "{}",
                answer.text_body()
            );
            served += u32::from(answer.status == 200);
        }
    }
    assert_eq!(served, 10);

    // Changes of one key at several replicas: the last one counts on all, and what is deleted stays so.
    let path = format!("/admin/v1/keys/{id}");
    first
        .admin("POST", &format!("{path}/block"), &Value::Null)
        .await;
    for replica in [&second, &third] {
        let refused = replica.post(COMPLETIONS, Some(key), &body()).await;
        assert!(
            refused.text_body().contains("is blocked"),
            "{}",
            refused.text_body()
        );
    }
    second
        .admin("POST", &format!("{path}/unblock"), &Value::Null)
        .await;
    let shown = first.admin("GET", &path, &Value::Null).await.json();
    assert_eq!(shown["blocked"], json!(false));
    first.admin("DELETE", &path, &Value::Null).await;
    for replica in [&first, &second, &third] {
        let answer = replica.post(COMPLETIONS, Some(key), &body()).await;
        assert_eq!(answer.fault().0, 401);
    }
}

#[tokio::test]
async fn a_replica_that_was_away_has_what_happened_meanwhile_once_it_is_back() {
    let model = ScriptedModel::start(vec!["one two three".into()]).await;
    let [first, second, third] = three().await;
    let routes = vec![RouteEntry {
        budgets: Vec::new(),
        ..routes(&model, 1).remove(0)
    }];
    share(&[&first, &second, &third], &NAMES, &routes);
    let folder = second.killed().await;
    share(&[&first, &third], &["a", "c"], &routes);
    let made = third
        .admin("POST", "/admin/v1/keys", &json!({"alias": "later"}))
        .await;
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let second = Harness::replica("b", folder).await;
    share(&[&first, &second, &third], &NAMES, &routes);
    let known =
        async { while second.post(COMPLETIONS, Some(&key), &body()).await.status != 200 {} };
    tokio::time::timeout(Duration::from_secs(10), known)
        .await
        .unwrap();
}

#[tokio::test]
async fn places_are_shared_and_come_back_to_whoever_needs_them() {
    let model = ScriptedModel::start(vec![Answer::Stall {
        text: "one two three".to_owned(),
        events: 2,
    }])
    .await;
    let replicas = three().await;
    let all: Vec<&Harness> = replicas.iter().collect();
    let limit: Limit =
        serde_json::from_value(json!({"name": "l", "per": "Route", "concurrency": 2})).unwrap();
    let limited = RouteEntry {
        limits: vec![limit],
        ..route("m", vec![target("own", "m", &[&model])])
    };
    share(&all, &NAMES, &[limited]);
    for round in 0..3 {
        let (first, second, third) = (all[round], all[(round + 1) % 3], all[(round + 2) % 3]);
        let held = [
            first
                .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
                .await,
            second
                .stream(COMPLETIONS, Some("qd-a"), &chat("m", true))
                .await,
        ];
        let refused = third
            .post(COMPLETIONS, Some("qd-a"), &chat("m", false))
            .await;
        assert_eq!(refused.fault(), (429, "rate_limit_exceeded".to_owned()));
        drop(held);
        first.idle().await;
        second.idle().await;
        // What was refused is refused for some milliseconds more without asking.
        tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let body = chat("m", true);
                let again = third.raw_status(COMPLETIONS, "qd-a", &body).await;
                if again == 200 {
                    break;
                }
            }
        })
        .await
        .unwrap();
        third.idle().await;
    }
}

#[tokio::test]
async fn a_list_of_replicas_in_a_file_needs_a_token_that_nobody_guesses() {
    let harness = Harness::empty().await;
    let weak = json!({"peers": {"token": "secret", "replicas": []}});
    let read = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let refused = harness.gateway.apply(&read(&weak)).unwrap_err().to_string();
    assert!(refused.starts_with("peers: token: "), "{refused}");
    assert!(!refused.contains("secret"), "{refused}");
}
