//! Rules of backends, and of the providers that they name.

use serde_json::{Value, json};

use super::{check, check_external};

#[test]
fn limits_of_a_backend_limit_something() {
    let limited = |limits: Value| {
        let backend = json!({"name": "b", "modelRef": {"name": "m"}, "limits": limits});
        json!({"match": {"models": ["a"]}, "targets": {"backends": [backend]}})
    };
    check("Route", &limited(json!({"concurrency": 1})), None);
    let requests = json!({"requests": {"limit": 500, "window": "1m"}});
    check("Route", &limited(requests), None);
    let empty = Some("need requests, tokens or concurrency");
    check("Route", &limited(json!({})), empty);
}

#[test]
fn the_examples_of_providers_in_the_documentation_are_accepted() {
    let page = include_str!("../../../../docs/concepts/gateway-providers.md");
    let blocks = page.split("```yaml\n").skip(1);
    let texts = blocks.filter_map(|block| block.split("```").next());
    let examples: Vec<Value> = texts
        .flat_map(|text| text.split("---\n"))
        .map(|example| serde_norway::from_str(example).expect("an example is YAML"))
        .collect();
    assert_eq!(examples.len(), 11);
    for example in examples {
        match example["kind"].as_str() {
            Some(kind) => check(kind, &example["spec"], None),
            None => check_external(&example, None),
        }
    }
}
