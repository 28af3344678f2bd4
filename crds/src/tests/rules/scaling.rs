//! Rules of how many engines serve a Model while nobody asks.

use serde_json::json;

use super::check;

#[test]
fn a_model_sleeps_with_fewer_engines_than_it_serves_with() {
    let scaled = |replicas: i32, min: i32| json!({"source": {"uri": "file:///w"}, "replicas": replicas, "scaling": {"min": min}});
    check("Model", &scaled(1, 0), None);
    check("Model", &scaled(2, 2), None);
    check("Model", &scaled(1, 2), Some("more than spec.replicas"));
    let external = json!({"type": "External", "external": {"baseURL": "https://llm.example/v1"}});
    check(
        "Model",
        &json!({"engine": external, "scaling": {"min": 0}}),
        Some("has no replicas of yours"),
    );
}
