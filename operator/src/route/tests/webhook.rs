//! Guards that ask a service.

use std::collections::BTreeMap;

use protocol::{
    secret::SecretString,
    snapshot::{GuardRule, OnFailure},
};
use serde_json::{Value, json};

use super::{World, build, in_order, route, validate, world};
use crate::{
    model::BadCredential,
    route::{guards::secret_names, validate::InvalidRoute},
};

fn asking(webhook: &Value) -> crds::Route {
    let guard = json!({"name": "g", "type": "Webhook", "webhook": webhook});
    route("r", 1, &["chat"], &json!({"guards": [guard]}))
}

fn rule(webhook: &Value, world: &World) -> Result<GuardRule, InvalidRoute> {
    let valid = validate(&asking(webhook), world)?;
    let entries = in_order(build(&valid));
    Ok(entries[0].guards[0].rule.clone())
}

#[test]
fn a_service_is_asked_with_the_secrets_signature() {
    let webhook = json!({"url": "https://guard.example/judge", "timeout": "500ms", "onFailure": "Ignore",
        "secretRef": {"name": "guard", "key": "hmac"}});
    assert_eq!(
        secret_names(&asking(&webhook).spec.guards).collect::<Vec<_>>(),
        ["guard"]
    );
    let data = BTreeMap::from([("hmac".to_owned(), "whsec".to_owned())]);
    let mut world = world();
    world.secrets.insert("guard".to_owned(), Some(data));
    let expected = GuardRule::Webhook {
        url: "https://guard.example/judge".to_owned(),
        timeout_millis: 500,
        on_failure: OnFailure::Ignore,
        secret: Some(SecretString::new("whsec".to_owned())),
    };
    assert_eq!(rule(&webhook, &world), Ok(expected));
    let plain = GuardRule::Webhook {
        url: "http://guard:8080".to_owned(),
        timeout_millis: 2000,
        on_failure: OnFailure::Fail,
        secret: None,
    };
    assert_eq!(
        rule(&json!({"url": "http://guard:8080"}), &world),
        Ok(plain)
    );
}

#[test]
fn a_route_whose_service_cannot_be_asked_is_not_used() {
    let url = "http://169.254.169.254/latest";
    let refused = InvalidRoute::Address {
        path: "spec.guards[0].webhook.url".to_owned(),
        url: url.to_owned(),
    };
    assert_eq!(rule(&json!({"url": url}), &world()), Err(refused));
    for timeout in ["0ms", "31s"] {
        let refused = InvalidRoute::WebhookTimeout {
            path: "spec.guards[0].webhook.timeout".to_owned(),
            value: timeout.to_owned(),
        };
        let webhook = json!({"url": "http://guard", "timeout": timeout});
        assert_eq!(rule(&webhook, &world()), Err(refused));
    }
    // Without its Secret the guard could not be trusted, and without the guard everything would pass.
    let webhook = json!({"url": "http://guard", "secretRef": {"name": "gone", "key": "hmac"}});
    let refused = InvalidRoute::Credential(BadCredential::NoSecret {
        path: "spec.guards[0].webhook.secretRef".to_owned(),
        name: "gone".to_owned(),
    });
    assert_eq!(rule(&webhook, &world()), Err(refused));
}
