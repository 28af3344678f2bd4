//! What metrics tell of models, budgets and upstreams, and what they never tell.

use protocol::{
    allowance::{self, Allowance, Dollars},
    provider::{Credential, Provider},
    secret::SecretString,
    snapshot::{Affinity, KeyEntry, Mode, Prices, Retries, RouteEntry},
};
use testkit::scripted_model::{Answer, ScriptedModel};

use super::harness::{Harness, chat, completes, key, route, target};
use crate::observe::{LiteLlm, Observers};

const COMPLETIONS: &str = "/v1/chat/completions";

#[track_caller]
fn tells(metrics: &str, lines: &[String]) {
    for line in lines {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn labels_are_what_the_route_declares_and_never_what_the_client_says() {
    let model = ScriptedModel::start(vec!["hello there again".into()]).await;
    let mut own = target("own", "real", &[&model]);
    own.vendor = Some("xai".to_owned());
    let entry = RouteEntry {
        models: vec!["exact".to_owned(), "word-of-*".to_owned()],
        ..route("m", vec![own])
    };
    let harness = Harness::start(vec![entry], vec![key("a")]).await;
    for asked in ["exact", "word-of-a-user", "word-of-another"] {
        let mut stream = harness
            .stream(COMPLETIONS, Some("qd-a"), &chat(asked, true))
            .await;
        completes(&mut stream, "hello there again").await;
    }
    harness.idle().await;
    let metrics = harness.get("/metrics", None).await.text_body();
    let labels = |asked: &str| {
        format!(
            r#"gen_ai_operation_name="chat",gen_ai_provider_name="x_ai",gen_ai_request_model="{asked}",gen_ai_response_model="real",route="ns/m""#
        )
    };
    let (exact, pattern) = (labels("exact"), labels("word-of-*"));
    tells(
        &metrics,
        &[
            format!("gen_ai_server_request_duration_count{{{exact},status=\"200\"}} 1"),
            format!("gen_ai_server_request_duration_count{{{pattern},status=\"200\"}} 2"),
            format!("gen_ai_server_time_to_first_token_count{{{pattern}}} 2"),
            format!("gen_ai_server_time_per_output_token_count{{{exact}}} 1"),
            format!("gen_ai_server_time_per_output_token_count{{{pattern}}} 2"),
            format!("gen_ai_client_token_usage_sum{{{exact},gen_ai_token_type=\"output\"}} 3.0"),
            format!("gen_ai_client_token_usage_count{{{pattern},gen_ai_token_type=\"input\"}} 2"),
        ],
    );
    assert!(!metrics.contains("word-of-a"), "{metrics}");
}

/// A key of this name that may spend so many dollars.
fn with_budget(name: &str, team: Option<&str>, dollars: u64) -> KeyEntry {
    let budget = allowance::Budget {
        amount: Dollars::from_nanos(dollars * 1_000_000_000),
        window: None,
        model: None,
        mode: Mode::Enforce,
    };
    KeyEntry {
        team: team.map(str::to_owned),
        allowance: Allowance {
            budgets: vec![budget],
            ..Allowance::default()
        },
        ..key(name)
    }
}

#[tokio::test]
async fn litellm_s_dashboards_see_budgets_and_deployments() {
    let model = ScriptedModel::start(vec!["hello there".into(), Answer::Status(401)]).await;
    let mut own = target("own", "real", &[&model]);
    let credential = SecretString::new("upstream-credential".to_owned());
    own.credential = Some(Credential::Token(credential));
    own.provider = Provider::OpenAI;
    own.prices = Some(Prices {
        input_nanos: 1_000_000_000_000_000,
        output_nanos: 1_000_000_000_000_000,
        ..Prices::default()
    });
    let entry = RouteEntry {
        retries: Retries {
            attempts: 0,
            backoff_millis: 1,
        },
        ..route("m", vec![own])
    };
    let observers = Observers {
        litellm: Some(LiteLlm::default()),
        ..Observers::default()
    };
    let keys = vec![with_budget("a", Some("ops"), 10_000), key("b")];
    let harness = Harness::observed(vec![entry], keys, observers).await;
    let team = serde_json::json!({"id": "ops", "budgets": [{"amount": "50000"}]});
    let made = harness.admin("POST", "/admin/v1/teams", &team).await;
    assert!(made.status < 300, "{}", made.text_body());
    // Three tokens, of a dollar each.
    let ask = async || {
        let body = chat("m", false);
        harness.post(COMPLETIONS, Some("qd-a"), &body).await.status
    };
    assert_eq!(ask().await, 200);
    let deployment = format!(
        r#"litellm_model_name="real",model_id="ns/m/own",api_base="{}",api_provider="openai""#,
        model.base_url()
    );
    let metrics = harness.get("/metrics", None).await.text_body();
    tells(
        &metrics,
        &[
            r#"litellm_remaining_api_key_budget_metric{api_key_alias="ns/a"} 9997.0"#.to_owned(),
            r#"litellm_api_key_max_budget_metric{api_key_alias="ns/a"} 10000.0"#.to_owned(),
            r#"litellm_remaining_team_budget_metric{team="ops",team_alias="ops"} 49997.0"#
                .to_owned(),
            r#"litellm_team_max_budget_metric{team="ops",team_alias="ops"} 50000.0"#.to_owned(),
            format!("litellm_deployment_state{{{deployment}}} 0"),
            "litellm_in_flight_requests 0".to_owned(),
        ],
    );
    assert!(!metrics.contains("api_key_alias=\"ns/b\""), "{metrics}");
    assert!(!metrics.contains("litellm_deployment_cooled_down_total{"));
    // The upstream refuses the credential.
    assert_ne!(ask().await, 200);
    for _ in 0..2 {
        // What is counted for a scrape is not counted twice by the next one.
        let metrics = harness.get("/metrics", None).await.text_body();
        let down = format!("{{{deployment},exception_status=\"401\"}} 1");
        tells(
            &metrics,
            &[
                format!("litellm_deployment_state{{{deployment}}} 2"),
                format!("litellm_deployment_cooled_down_total{down}"),
            ],
        );
    }
}

#[tokio::test]
async fn nothing_of_litellm_s_is_told_unasked() {
    let keys = vec![with_budget("a", Some("ops"), 1)];
    let harness = Harness::start(vec![route("m", Vec::new())], keys).await;
    let metrics = harness.get("/metrics", None).await.text_body();
    assert!(!metrics.contains("litellm"), "{metrics}");
}

#[tokio::test]
async fn replicas_of_one_model_have_the_names_of_llm_d() {
    let (one, other) = (
        ScriptedModel::start(vec!["hello".into()]).await,
        ScriptedModel::start(vec!["hello".into()]).await,
    );
    let pool = RouteEntry {
        affinity: Affinity::Prefix,
        ..route("m", vec![target("own", "m", &[&one, &other])])
    };
    let alone = route("n", vec![target("own", "n", &[&one])]);
    let harness = Harness::start(vec![pool, alone], vec![key("a")]).await;
    let body = chat("m", false);
    let answer = harness.post(COMPLETIONS, Some("qd-a"), &body).await;
    assert_eq!(answer.status, 200);
    let metrics = harness.get("/metrics", None).await.text_body();
    tells(
        &metrics,
        &[
            r#"llm_d_epp_ready_endpoints{name="ns/m/own"} 2"#.to_owned(),
            r#"llm_d_epp_prefix_indexer_hit_ratio_count{route="ns/m"} 1"#.to_owned(),
        ],
    );
    // Nobody has asked the engines how busy they are.
    for unknown in [
        "llm_d_epp_ready_endpoints{name=\"ns/n/own\"}",
        "llm_d_epp_average_queue_size{",
        "llm_d_epp_average_kv_cache_utilization{",
    ] {
        assert!(!metrics.contains(unknown), "{unknown} is in {metrics}");
    }
}
