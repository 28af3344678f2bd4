//! What a configuration of LiteLLM's comes to.

use crds::{Model, Route};
use serde_json::{Value, json};

use super::{CostMap, Imported, import, object_name, seconds, unique};

const CONFIG: &str = include_str!("testdata/litellm.yaml");
const COSTS: &str = include_str!("testdata/costs.json");
const EXPECTED: &str = include_str!("testdata/litellm.golden.yaml");

fn imported(config: &str) -> Imported {
    import(config, "team-a", &CostMap::read(COSTS).unwrap()).unwrap()
}

#[test]
fn a_configuration_becomes_secrets_models_and_routes_and_a_warning_for_the_rest() {
    let Imported {
        manifests,
        warnings,
    } = imported(CONFIG);
    let told = json!({"manifests": manifests, "warnings": warnings});
    let told = serde_norway::to_string(&told).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let file = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../cli/src/import/testdata/litellm.golden.yaml"
        );
        std::fs::write(file, &told).unwrap();
        return;
    }
    assert_eq!(told, EXPECTED);
}

#[test]
fn what_is_made_are_models_and_routes_and_no_credential_is_in_them() {
    let manifests = imported(CONFIG).manifests;
    let of_kind = |kind: &str| {
        manifests
            .iter()
            .filter(move |manifest| manifest["kind"] == kind)
            .cloned()
            .collect::<Vec<Value>>()
    };
    let models: Vec<Model> = serde_json::from_value(of_kind("Model").into()).unwrap();
    let routes: Vec<Route> = serde_json::from_value(of_kind("Route").into()).unwrap();
    assert_eq!((models.len(), routes.len()), (9, 7));
    for route in &routes {
        for backend in &route.spec.targets.backends {
            let named = &backend.model_ref.as_ref().unwrap().name;
            assert!(
                models
                    .iter()
                    .any(|model| model.metadata.name.as_ref() == Some(named)),
                "{named}"
            );
        }
    }
    let text = Value::Array(manifests).to_string();
    assert!(!text.contains("sk-ant-in-plain-text"), "{text}");
}

#[test]
fn rates_share_requests_where_no_weight_does() {
    let deployments = |first: &str, second: &str| {
        let of =
            |rest: &str| format!("- {{model_name: m, litellm_params: {{model: gpt-4o{rest}}}}}");
        imported(&format!("model_list:\n{}\n{}", of(first), of(second)))
    };
    let check = |first: &str, second: &str, expected: [Value; 2]| {
        let route = deployments(first, second).manifests.pop().unwrap();
        let backends = &route["spec"]["targets"]["backends"];
        let weights = [&backends[0]["weight"], &backends[1]["weight"]];
        assert_eq!(weights, [&expected[0], &expected[1]], "{first} {second}");
    };
    check(", rpm: 900", ", rpm: 300", [json!(1000), json!(334)]);
    check(", tpm: 10", ", tpm: 20, rpm: 1", [json!(500), json!(1000)]);
    check(
        ", rpm: 900, weight: 1",
        ", rpm: 300",
        [json!(1), Value::Null],
    );
    check(", rpm: 900", "", [Value::Null, Value::Null]);
}

#[test]
fn what_is_no_configuration_is_an_error_and_an_empty_one_comes_to_nothing() {
    assert!(import("- a list", "n", &CostMap::default()).is_err());
    assert!(import("model_list: [", "n", &CostMap::default()).is_err());
    let nothing = imported("model_list: []");
    assert_eq!(
        (nothing.manifests, nothing.warnings),
        (Vec::new(), Vec::<String>::new())
    );
}

#[test]
fn names_are_fit_for_objects_and_differ() {
    for (text, expected) in [
        ("gpt-4o", "gpt-4o"),
        ("local/Qwen_3.5", "local-qwen-3-5"),
        ("--", "model"),
        ("ä", "model"),
    ] {
        assert_eq!(object_name(text), expected, "{text}");
    }
    assert_eq!(object_name(&"a".repeat(99)).len(), 50);
    let taken = ["a".to_owned(), "a-2".to_owned()];
    assert_eq!(unique("a".to_owned(), &taken), "a-3");
    assert_eq!(seconds(&json!(0.5)).as_deref(), Some("500ms"));
    assert_eq!(seconds(&json!("600")).as_deref(), Some("600s"));
    assert_eq!(seconds(&json!(-1)), None);
}
