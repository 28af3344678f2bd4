//! Routes that take tokens.

use std::sync::Arc;

use protocol::snapshot::{Access, Jwt, TokenIssuer};
use serde_json::{Value, json};

use super::{World, build, in_order, route, validate, world};
use crate::route::{jwt::contradicted, validate::InvalidRoute};

fn taking(name: &str, created: i64, jwt: &Value) -> crds::Route {
    route(name, created, &[name], &json!({"auth": {"jwt": jwt}}))
}

#[test]
fn a_route_names_the_issuer_whose_tokens_it_takes_besides_keys() {
    let jwt = json!({"issuer": "https://login.example", "audience": "gateway", "teamClaim": "groups", "teams": ["eng"]});
    let entries = in_order(build(
        &validate(&taking("r", 1, &jwt), &world()).expect("valid"),
    ));
    let expected = Jwt {
        issuer: TokenIssuer {
            issuer: "https://login.example".to_owned(),
            audience: "gateway".to_owned(),
            keys_url: None,
            user_claim: "sub".to_owned(),
            team_claim: "groups".to_owned(),
        },
        teams: vec!["eng".to_owned()],
    };
    assert_eq!(entries[0].jwt, Some(expected));
    assert_eq!(entries[0].access, Access::AnyKey);
}

#[test]
fn keys_of_an_issuer_are_not_fetched_from_metadata_services() {
    let url = "http://169.254.169.254/keys";
    let jwt = json!({"issuer": "https://login.example", "audience": "g", "keysURL": url});
    let outcome = validate(&taking("r", 1, &jwt), &world()).map(|_| ());
    let expected = InvalidRoute::Address {
        path: "spec.auth.jwt.keysURL".to_owned(),
        url: url.to_owned(),
    };
    assert_eq!(outcome, Err(expected));
}

#[test]
fn who_comes_later_cannot_say_where_anothers_issuer_publishes_its_keys() {
    let with = |name: &str, created, keys_url: &str, audience: &str| {
        let jwt =
            json!({"issuer": "https://login.example", "audience": audience, "keysURL": keys_url});
        Arc::new(taking(name, created, &jwt))
    };
    let first = with("first", 1, "https://login.example/keys", "gateway");
    let same = with("same", 2, "https://login.example/keys", "gateway");
    let evil = with("evil", 2, "https://evil.example/keys", "gateway");
    let apart = with("apart", 2, "https://evil.example/keys", "another");
    let all = [&first, &same, &evil, &apart].map(Arc::clone);
    assert_eq!(contradicted(&first, &all), None);
    assert_eq!(contradicted(&same, &all), None);
    assert_eq!(contradicted(&apart, &all), None);
    let by = contradicted(&evil, &all);
    assert_eq!(by.as_deref(), Some("n/first"));
    let world = World {
        contradicted: by,
        ..world()
    };
    let outcome = validate(&evil, &world).map(|_| ());
    let route = "n/first".to_owned();
    assert_eq!(outcome, Err(InvalidRoute::Contradicted { route }));
}
