//! Rules of the addresses and headers of providers, and the examples of them.

use serde_json::{Value, json};

use super::{check, check_external};

#[test]
fn a_provider_is_no_metadata_service_and_holds_no_password() {
    let url = |url: &str| json!({"baseURL": url});
    check_external(&url("http://169.254.169.254/v1"), Some("metadata service"));
    check_external(
        &url("http://metadata.google.internal/v1"),
        Some("metadata service"),
    );
    check_external(&url("http://[fe80::1]/v1"), Some("link-local"));
    check_external(
        &url("https://user:pass@llm.example/v1"),
        Some("must not hold a password"),
    );
    check_external(&url("http://127.0.0.1:8000/v1"), None);
    let header = |name: &str| json!({"vendor": "groq", "headers": [{"name": name, "value": "v"}]});
    check_external(&header("OpenAI-Organization"), None);
    check_external(&header("Host"), Some("belongs to the gateway"));
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
    assert_eq!(examples.len(), 9);
    for example in examples {
        match example["kind"].as_str() {
            Some(kind) => check(kind, &example["spec"], None),
            None => check_external(&example, None),
        }
    }
}
