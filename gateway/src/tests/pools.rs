//! Targets that know their models by the names that clients ask for, as the Pods of an InferencePool do.

use protocol::snapshot::{Adapter, Affinity, RouteEntry, Target};
use serde_json::{Value, json};
use testkit::scripted_model::ScriptedModel;

use super::harness::{Harness, key, route, target};

const CHAT: &str = "/v1/chat/completions";

/// A route for all models whose target passes their names on.
fn passing(model: &ScriptedModel, adapters: &[&str]) -> RouteEntry {
    let adapters = adapters.iter().map(|name| Adapter {
        name: (*name).to_owned(),
        model: (*name).to_owned(),
        path: None,
    });
    let pool = Target {
        adapters: adapters.collect(),
        ..target("pool", "", &[model])
    };
    RouteEntry {
        models: vec!["*".to_owned()],
        affinity: Affinity::Prefix,
        ..route("m", vec![pool])
    }
}

fn body(model: &str) -> String {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}], "unknown": 1})
        .to_string()
}

#[tokio::test]
async fn a_pool_is_asked_for_what_the_client_asks_for() {
    let model = ScriptedModel::start(vec!["a".into(), "b".into(), "c".into(), "d".into()]).await;
    let harness = Harness::start(vec![passing(&model, &["poet"])], vec![key("a")]).await;
    // What is asked for, and by which name the engine knows it.
    for (asked, expected) in [("llama", "llama"), ("poet", "poet"), ("llama:poet", "poet")] {
        let before = model.requests().len();
        let answer = harness.post(CHAT, Some("qd-a"), &body(asked)).await;
        assert_eq!(answer.status, 200, "{}", answer.text_body());
        let seen = &model.requests()[before];
        let expected: Value = serde_json::from_str(&body(expected)).unwrap();
        assert_eq!(seen.json(), expected);
    }
    let form =
        "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--XX--\r\n";
    let content_type = "multipart/form-data; boundary=XX";
    let form_body = http_body_util::Full::new(form.into());
    let form_body = http_body_util::BodyExt::boxed_unsync(form_body);
    let path = "/v1/audio/transcriptions";
    harness.form(path, "qd-a", content_type, form_body).await;
    let seen = model.requests().pop().unwrap();
    assert_eq!(seen.body, form);
    let metrics = harness.get("/metrics", None).await.text_body();
    let label = r#"gen_ai_response_model="llama""#;
    assert!(metrics.contains(label), "{metrics}");
}

#[tokio::test]
async fn models_of_a_pool_have_nothing_of_each_others_caches() {
    let models = [
        ScriptedModel::start(Vec::new()).await,
        ScriptedModel::start(Vec::new()).await,
    ];
    let pool = target("pool", "", &[&models[0], &models[1]]);
    let both = RouteEntry {
        models: vec!["*".to_owned()],
        affinity: Affinity::Prefix,
        ..route("m", vec![pool])
    };
    let harness = Harness::start(vec![both], vec![key("a")]).await;
    let ask = async |model: &str| {
        let long = "salt ".repeat(400);
        let body = json!({"model": model, "messages": [{"role": "user", "content": long}]});
        let reply = harness.post(CHAT, Some("qd-a"), &body.to_string()).await;
        assert_eq!(reply.status, 200);
        harness.idle().await;
        let metrics = harness.get("/metrics", None).await.text_body();
        let name = "gateway_prefix_hit_ratio_sum{route=\"ns/m\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().parse::<f64>().unwrap()
    };
    for model in &models {
        for _ in 0..3 {
            model.push("x");
        }
    }
    assert_eq!(ask("llama").await, 0.0);
    assert_eq!(ask("poet").await, 0.0);
    assert!(0.5 < ask("llama").await);
}
