//! Rules of a Route's backends that are InferencePools.

use serde_json::{Value, json};

use super::check;

#[test]
fn a_backend_is_either_a_model_or_a_pool() {
    let route = |backend: &Value| {
        let mut named = json!({"name": "b"});
        for (key, value) in backend.as_object().expect("an object") {
            named[key] = value.clone();
        }
        json!({"match": {"models": ["m"]}, "targets": {"backends": [named]}})
    };
    let one = |backend: Value, expected: Option<&str>| check("Route", &route(&backend), expected);
    let (model, pool) = (json!({"name": "m"}), json!({"name": "p"}));
    let adapters = json!([{"name": "a", "path": "/a"}]);
    one(json!({"modelRef": model}), None);
    one(json!({"inferencePoolRef": pool}), None);
    one(
        json!({"inferencePoolRef": pool, "adapters": adapters}),
        None,
    );
    let either = Some("either a Model (modelRef) or an InferencePool");
    one(json!({}), either);
    one(json!({"modelRef": model, "inferencePoolRef": pool}), either);
    let own = Some("adapters of an InferencePool only");
    one(json!({"modelRef": model, "adapters": adapters}), own);
}
