//! External engines: where they are, what they answer, and which keys of a Secret let the gateway in.

use std::collections::BTreeMap;

use protocol::{
    provider::{Api, Application, Credential, Provider, Role, Workload},
    secret::SecretString,
    vendor::PLAIN,
};
use serde_json::{Value, json};

use super::{Case, model, settings};
use crate::model::{
    build::build,
    external::ExternalEngine,
    validate::{Secrets, ValidEngine, validate},
};

fn secrets(data: &[(&str, &str)]) -> Secrets {
    let data = data
        .iter()
        .map(|(key, text)| ((*key).to_owned(), (*text).to_owned()));
    BTreeMap::from([("llm".to_owned(), Some(data.collect()))])
}

fn spec(external: &Value) -> Value {
    json!({"engine": {"type": "External", "external": external}})
}

fn engine(external: &Value, secrets: &Secrets) -> Result<ExternalEngine, String> {
    let valid = validate(&model(&spec(external)), secrets).map_err(|fault| fault.to_string())?;
    assert!(build(&valid, &settings()).is_none());
    match valid.engine {
        ValidEngine::External(engine) => Ok(*engine),
        ValidEngine::Native(_) => panic!("not external"),
    }
}

fn token(text: &str) -> Option<Credential> {
    Some(Credential::Token(SecretString::new(text.to_owned())))
}

#[test]
fn a_provider_is_where_the_model_says_and_answers_what_every_server_does() {
    let url = json!({"baseURL": "https://llm.example/v1/", "credentialsRef": {"name": "llm", "key": "token"}});
    let expected = ExternalEngine {
        adapters: Vec::new(),
        base_url: "https://llm.example/v1".to_owned(),
        model: "smollm2".to_owned(),
        provider: Provider::OpenAI,
        vendor: None,
        apis: PLAIN.to_vec(),
        headers: Vec::new(),
        credential: token("t"),
    };
    assert_eq!(engine(&url, &secrets(&[("token", "t\n")])), Ok(expected));
    let fault = |secrets: &Secrets| engine(&url, secrets).expect_err("a fault");
    let nothing = BTreeMap::from([("llm".to_owned(), None)]);
    assert!(fault(&nothing).contains("does not exist"));
    assert!(fault(&secrets(&[("other", "t")])).contains("has no key `token`"));
}

#[track_caller]
fn check_place(external: &Value, expected: Result<(&str, Option<&str>, &[Api]), &str>) {
    let keys = secrets(&[
        ("API_KEY", "k"),
        ("AWS_BEARER_TOKEN_BEDROCK", "b"),
        ("service-account.json", r#"{"private_key": "p"}"#),
    ]);
    match (engine(external, &keys), expected) {
        (Ok(engine), Ok(expected)) => assert_eq!(
            (&*engine.base_url, engine.vendor.as_deref(), &*engine.apis),
            expected
        ),
        (Err(fault), Err(part)) => assert!(fault.contains(part), "{fault}"),
        (found, expected) => panic!("{found:?} is not {expected:?}"),
    }
}

#[test]
fn an_address_comes_from_the_model_the_vendor_or_the_provider() {
    let groq = "https://api.groq.com/openai/v1";
    let apis = &*protocol::vendor::find("groq").expect("known").apis;
    check_place(&json!({"vendor": "groq"}), Ok((groq, Some("groq"), apis)));
    check_place(&json!({"baseURL": groq}), Ok((groq, Some("groq"), apis)));
    let own = json!({"vendor": "groq", "baseURL": "http://proxy.svc/groq", "apis": ["Chat", "Responses"]});
    check_place(
        &own,
        Ok((
            "http://proxy.svc/groq",
            Some("groq"),
            &[Api::Chat, Api::Responses],
        )),
    );
    check_place(
        &json!({"provider": "Anthropic"}),
        Ok(("https://api.anthropic.com/v1", None, &[])),
    );
    let secret = json!({"name": "llm"});
    check_place(
        &json!({"provider": "Bedrock", "bedrock": {"region": "us-east-1"}, "credentialsRef": secret}),
        Ok(("https://bedrock-runtime.us-east-1.amazonaws.com", None, &[])),
    );
    check_place(
        &json!({"provider": "VertexAI", "vertex": {"project": "p", "location": "europe-west1"}, "credentialsRef": secret}),
        Ok((
            "https://europe-west1-aiplatform.googleapis.com/v1",
            None,
            &[],
        )),
    );
    check_place(&json!({}), Err("baseURL is missing"));
    check_place(&json!({"provider": "Ollama"}), Err("baseURL is missing"));
    check_place(
        &json!({"provider": "Anthropic", "vendor": "groq"}),
        Err("baseURL is missing"),
    );
    check_place(
        &json!({"vendor": "nobody"}),
        Err("`nobody`, which is not known"),
    );
}

#[test]
fn metadata_services_are_no_providers() {
    for host in [
        "169.254.169.254",
        "[fd00:ec2::254]",
        "metadata.google.internal.",
    ] {
        let url = json!({"baseURL": format!("http://{host}/v1")});
        check_place(&url, Err("metadata services"));
    }
    check_place(
        &json!({"baseURL": "http://127.0.0.1:8000/v1"}),
        Ok(("http://127.0.0.1:8000/v1", None, &PLAIN)),
    );
}

#[track_caller]
fn check_credential(
    provider: &Value,
    key: Option<&str>,
    data: &[(&str, &str)],
    expected: Result<Option<Credential>, &str>,
) {
    let mut external = provider.clone();
    external["baseURL"] = json!("https://llm.example");
    external["credentialsRef"] = json!({"name": "llm"});
    if let Some(key) = key {
        external["credentialsRef"]["key"] = json!(key);
    }
    let found = engine(&external, &secrets(data)).map(|engine| engine.credential);
    match (found, expected) {
        (Err(fault), Err(part)) => assert!(fault.contains(part), "{fault}"),
        (found, expected) => assert_eq!(found, expected.map_err(str::to_owned)),
    }
}

#[test]
fn credentials_have_documented_keys() {
    let secret = |text: &str| SecretString::new(text.to_owned());
    let openai = json!({});
    check_credential(&openai, None, &[("API_KEY", "k")], Ok(token("k")));
    check_credential(&openai, Some("x"), &[("x", "k")], Ok(token("k")));
    check_credential(&openai, None, &[("x", "k")], Err("has no key `API_KEY`"));

    let bedrock = json!({"provider": "Bedrock", "bedrock": {"region": "r"}});
    let keys = [("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s")];
    let aws = |session_token| {
        Some(Credential::Aws {
            access_key_id: secret("i"),
            secret_access_key: secret("s"),
            session_token,
            role: None,
        })
    };
    check_credential(&bedrock, None, &keys, Ok(aws(None)));
    let ending = [keys[0], keys[1], ("AWS_SESSION_TOKEN", "t")];
    check_credential(&bedrock, None, &ending, Ok(aws(Some(secret("t")))));
    let bearer = [keys[0], keys[1], ("AWS_BEARER_TOKEN_BEDROCK", "b")];
    check_credential(&bedrock, None, &bearer, Ok(token("b")));
    check_credential(&bedrock, Some("x"), &[("x", "k")], Ok(token("k")));
    check_credential(
        &bedrock,
        None,
        &keys[..1],
        Err("has no key `AWS_SECRET_ACCESS_KEY`"),
    );

    let taken = [
        keys[0],
        keys[1],
        ("AWS_ROLE_ARN", "r"),
        ("AWS_EXTERNAL_ID", "e"),
    ];
    let mut expected = aws(None);
    if let Some(Credential::Aws { role, .. }) = &mut expected {
        *role = Some(Role {
            arn: "r".to_owned(),
            external_id: Some(secret("e")),
        });
    }
    check_credential(&bedrock, None, &taken, Ok(expected));
}

#[test]
fn credentials_of_azure_and_google_have_documented_keys() {
    let secret = |text: &str| SecretString::new(text.to_owned());
    let azure = json!({"provider": "AzureOpenAI"});
    let application = [
        ("AZURE_TENANT_ID", "t"),
        ("AZURE_CLIENT_ID", "c"),
        ("AZURE_CLIENT_SECRET", "s"),
    ];
    let entra = Credential::Entra(Application {
        tenant_id: "t".to_owned(),
        client_id: "c".to_owned(),
        client_secret: secret("s"),
        authority: None,
    });
    check_credential(&azure, None, &application, Ok(Some(entra)));
    let both = [application[0], application[2], ("API_KEY", "k")];
    check_credential(&azure, None, &both, Ok(token("k")));
    let missing = &application[1..];
    check_credential(&azure, None, missing, Err("has no key `AZURE_TENANT_ID`"));
    check_credential(&azure, None, &[("x", "k")], Err("has no key `API_KEY`"));

    let vertex = json!({"provider": "VertexAI", "vertex": {"project": "p", "location": "l"}});
    let person = r#"{"type": "authorized_user", "refresh_token": "r"}"#;
    let agreed = Some(Credential::ServiceAccount {
        service_account: secret(person),
    });
    check_credential(&vertex, Some("x"), &[("x", person)], Ok(agreed));
    // It would name files of the gateway's.
    let elsewhere = r#"{"type": "external_account", "credential_source": {"file": "/etc/passwd"}}"#;
    check_credential(
        &vertex,
        Some("x"),
        &[("x", elsewhere)],
        Err("is not the key file of a Google service account"),
    );
    let file = r#"{"private_key": "p"}"#;
    let account = Some(Credential::ServiceAccount {
        service_account: secret(file),
    });
    check_credential(
        &vertex,
        None,
        &[("service-account.json", file)],
        Ok(account.clone()),
    );
    check_credential(&vertex, Some("x"), &[("x", file)], Ok(account));
    check_credential(
        &vertex,
        Some("x"),
        &[("x", "a token")],
        Err("is not the key file of a Google service account"),
    );
}

#[test]
fn the_gateways_own_identity_needs_no_secret() {
    let arn = "arn:aws:iam::111122223333:role/models";
    let external = json!({
        "provider": "Bedrock", "bedrock": {"region": "us-east-1"}, "workloadIdentity": {"roleARN": arn}
    });
    let found = engine(&external, &BTreeMap::new()).expect("an engine");
    let workload_identity = Workload {
        role_arn: Some(arn.to_owned()),
        ..Workload::default()
    };
    assert_eq!(
        found.credential,
        Some(Credential::Workload { workload_identity })
    );
}

#[test]
fn the_status_tells_what_is_wrong_with_a_provider() {
    let ready = [
        "Accepted=True Accepted",
        "ResolvedRefs=True ResolvedRefs",
        "Available=True MinimumReplicasAvailable",
        "Ready=True Ready",
    ];
    let case = |external: &Value| Case::of(model(&spec(external)), vec![], vec![]);
    case(&json!({"vendor": "groq"})).check(&ready);
    case(&json!({"vendor": "nobody"})).check(&[
        "Accepted=False Invalid",
        "ResolvedRefs=Unknown Blocked",
        "Ready=False Invalid",
        "Stalled=True Invalid",
    ]);
}
