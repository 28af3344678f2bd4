//! Mirrors: what the gateway learns of them, and what is wrong with them.

use serde_json::{Value, json};

use super::{build, check_refused, in_order, route, validate, world};

#[test]
fn a_mirror_reaches_the_gateway_with_its_model_and_its_prices() {
    let told = |mirror: Value| {
        let route = route("r", 1, &["chat"], &json!({ "mirror": mirror }));
        let entry = in_order(build(&validate(&route, &world()).expect("valid"))).remove(0);
        json!(entry.mirror)
    };
    let plain = told(json!({"modelRef": {"name": "m"}, "percent": 5}));
    let expected = json!({
        "target": {"name": "mirror", "model": "served", "endpoints": ["http://10.0.0.1:8000/v1"], "weight": 1, "priority": 0},
        "percent": 5,
        "timeoutMillis": 60_000,
    });
    assert_eq!(plain, expected);
    let full = told(json!({
        "modelRef": {"name": "x"}, "modelOverride": "next", "percent": 100, "timeout": "2m",
        "prices": {"inputPerMillion": "0.5", "outputPerMillion": "1"},
    }));
    assert_eq!(full["target"]["model"], "next");
    assert_eq!(
        full["target"]["endpoints"],
        json!(["https://llm.example/v1"])
    );
    let prices = json!({"inputNanos": 500_000_000, "outputNanos": 1_000_000_000});
    assert_eq!(full["target"]["prices"], prices);
    assert_eq!(full["timeoutMillis"], 120_000);
}

#[test]
fn a_mirror_that_does_not_exist_is_told_and_its_route_answers() {
    let mirror = json!({"mirror": {"modelRef": {"name": "nobody"}, "percent": 5}});
    let route = route("r", 1, &["chat"], &mirror);
    let valid = validate(&route, &world()).expect("valid");
    let (_, message) = &valid.unresolved[0];
    let expected = "spec.mirror.modelRef names the Model `nobody`, which does not exist";
    assert!(message.starts_with(expected), "{message}");
    let entry = in_order(build(&valid)).remove(0);
    assert_eq!((entry.mirror, entry.targets.len()), (None, 2));
}

#[test]
fn what_no_mirror_can_be_is_refused_with_its_path() {
    let mirror = |extra: Value| {
        let mut mirror = json!({"modelRef": {"name": "m"}, "percent": 5});
        for (key, value) in extra.as_object().expect("an object") {
            mirror[key] = value.clone();
        }
        json!({ "mirror": mirror })
    };
    check_refused(&mirror(json!({"timeout": "9999h"})), "spec.mirror.timeout");
    let prices = json!({"prices": {"inputPerMillion": "1", "outputPerMillion": "1.0000000000"}});
    check_refused(&mirror(prices), "spec.mirror.prices.outputPerMillion");
}
