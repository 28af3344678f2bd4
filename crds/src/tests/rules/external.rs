//! External engines: where they may be, and what the gateway itself is at a cloud, in the place of a Secret.

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
fn the_gateways_own_identity_takes_the_place_of_a_secret_at_three_clouds() {
    let azure = |identity: Value| json!({"provider": "AzureOpenAI", "baseURL": "https://r.openai.azure.com", "workloadIdentity": identity});
    let bedrock = |identity: Value| json!({"provider": "Bedrock", "bedrock": {"region": "us-east-1"}, "workloadIdentity": identity});
    let vertex = |identity: Value| json!({"provider": "VertexAI", "vertex": {"project": "p", "location": "global"}, "workloadIdentity": identity});
    let application = json!({"tenantID": "contoso.onmicrosoft.com", "clientID": "11111111-2222"});
    let role = json!({"roleARN": "arn:aws:iam::111122223333:role/models/bedrock"});
    let account = json!({"serviceAccount": "models@p.iam.gserviceaccount.com"});
    for accepted in [
        azure(json!({})),
        azure(application.clone()),
        bedrock(json!({})),
        bedrock(role.clone()),
        vertex(json!({})),
        vertex(account.clone()),
    ] {
        check_external(&accepted, None);
    }
    check_external(&bedrock(application), Some("AzureOpenAI only"));
    check_external(&vertex(role), Some("Bedrock only"));
    check_external(&azure(account), Some("VertexAI only"));
    let gemini = json!({"provider": "Gemini", "workloadIdentity": {}});
    check_external(&gemini, Some("use credentialsRef"));
    let mut both = bedrock(json!({}));
    both["credentialsRef"] = json!({"name": "s"});
    check_external(&both, Some("takes the place of a Secret"));
}

#[test]
fn the_examples_of_identities_in_the_documentation_are_accepted() {
    let page = include_str!("../../../../docs/concepts/gateway-identities.md");
    let blocks = page.split("```yaml\n").skip(1);
    let texts = blocks.filter_map(|block| block.split("```").next());
    let examples: Vec<Value> = texts
        .flat_map(|text| text.split("---\n"))
        .map(|example| serde_norway::from_str(example).expect("an example is YAML"))
        .collect();
    assert_eq!(examples.len(), 4);
    for example in examples {
        match example["kind"].as_str() {
            Some(kind) => check(kind, &example["spec"], None),
            None => check_external(&example, None),
        }
    }
}
