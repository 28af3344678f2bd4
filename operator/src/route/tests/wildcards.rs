//! Backends that are asked for whatever model the client named.

use crds::condition::Reason;
use serde_json::{Value, json};

use super::{build, in_order, route, validate, world};

fn renamed(model: &str) -> Value {
    let backend = json!({"name": "cloud", "modelRef": {"name": "x"}, "modelOverride": model});
    json!({"targets": {"backends": [backend]}})
}

#[test]
fn an_override_with_a_star_reaches_the_gateway_beside_its_pattern() {
    let models = ["fireworks/*", "exact"];
    let route = route("r", 1, &models, &renamed("accounts/fireworks/models/*"));
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let told: Vec<_> = entries
        .iter()
        .map(|entry| (&entry.models[..], entry.targets[0].model.as_str()))
        .collect();
    let model = "accounts/fireworks/models/*";
    let [exact, pattern] = ["exact", "fireworks/*"].map(|name| vec![name.to_owned()]);
    assert_eq!(told, [(&exact[..], model), (&pattern[..], model)]);
}

#[test]
fn two_stars_cannot_be_filled_in() {
    let valid = validate(&route("r", 1, &["p/*"], &renamed("*/*")), &world()).expect("valid");
    let [(reason, message)] = &valid.unresolved[..] else {
        panic!("{:?}", valid.unresolved)
    };
    assert_eq!(*reason, Reason::Invalid);
    assert!(message.contains("spec.targets.backends[0].modelRef") && message.contains("`*/*`"));
}
