//! Tool servers and agents of a Route.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{check_refused, route, world};
use crate::{
    conditions::Verdict,
    route::{
        build::{build, in_order},
        dereference::World,
        validate::validate,
    },
};

/// A Route without models.
fn tools(extra: &Value) -> crds::Route {
    let mut route = route("r", 1, &[], extra);
    route.spec.targets.backends.clear();
    route
}

fn with_secret(data: &[(&str, &str)]) -> World {
    let data = data
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    World {
        secrets: BTreeMap::from([("s".to_owned(), Some(data.collect()))]),
        ..world()
    }
}

#[test]
fn tool_servers_and_agents_reach_the_gateway_with_their_credentials() {
    let world = with_secret(&[("token", "t"), ("client-id", "i"), ("client-secret", "c")]);
    let token = json!({"name": "s", "key": "token"});
    let oauth = json!({"tokenURL": "https://login.example/token", "secretRef": {"name": "s"}, "scopes": ["a", "b"]});
    let filter = json!({"deny": ["drop_*"], "perKey": [{"selector": {"matchLabels": {"team": "a"}}, "allow": ["*"]}]});
    let route = tools(&json!({
        "mcp": {"servers": [
            {"name": "one", "url": "https://one.example/mcp", "secretRef": token, "tools": filter},
            {"name": "two", "url": "http://two:8080/mcp", "secretRef": token, "header": "X-Key", "timeout": "5m"},
            {"name": "three", "url": "http://three/mcp", "oauth": oauth},
            {"name": "four", "url": "http://four/mcp"},
        ], "allowedOrigins": ["https://app.example"], "toolSearch": true},
        "a2a": {"agents": [{"name": "travel", "url": "https://agents.example/travel/"}]},
    }));
    let entries = in_order(build(&validate(&route, &world).expect("valid")));
    assert_eq!(entries.len(), 1);
    let entry = serde_json::to_value(&entries[0]).expect("an entry");
    let header = |name: &str, value: &str| json!({"header": {"name": name, "value": value}});
    let fetched = json!({"clientCredentials": {"tokenUrl": "https://login.example/token", "clientId": "i",
        "clientSecret": "c", "scope": "a b"}});
    let rules = json!([{"keys": ["n/a"], "allow": ["*"]}, {"deny": ["drop_*"]}]);
    let expected = json!({"servers": [
        {"name": "one", "url": "https://one.example/mcp", "auth": header("Authorization", "Bearer t"), "tools": rules,
            "timeoutMillis": 60_000},
        {"name": "two", "url": "http://two:8080/mcp", "auth": header("X-Key", "t"), "timeoutMillis": 300_000},
        {"name": "three", "url": "http://three/mcp", "auth": fetched, "timeoutMillis": 60_000},
        {"name": "four", "url": "http://four/mcp", "auth": "none", "timeoutMillis": 60_000},
    ], "allowedOrigins": ["https://app.example"], "toolSearch": true});
    assert_eq!(entry["mcp"], expected);
    let agents = json!([{"name": "travel", "url": "https://agents.example/travel", "auth": "none",
        "timeoutMillis": 60_000}]);
    assert_eq!(entry["a2a"], json!({"agents": agents}));
    assert_eq!(
        (&entry["models"], &entry["targets"]),
        (&json!([]), &json!([]))
    );
}

#[test]
fn models_and_tools_of_one_route_are_entries_of_their_own() {
    let extra = json!({"mcp": {"servers": [{"name": "one", "url": "http://one/mcp"}]}});
    let route = route("r", 1, &["chat", "gpt-*"], &extra);
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let shown = entries
        .iter()
        .map(|entry| (entry.models.join(","), entry.mcp.is_some()));
    let mut shown: Vec<_> = shown.collect();
    shown.sort();
    let expected = [("", true), ("chat", false), ("gpt-*", false)];
    assert_eq!(
        shown,
        expected.map(|(models, has_tools)| (models.to_owned(), has_tools))
    );
}

#[test]
fn a_server_without_its_secret_is_left_out_and_told_of() {
    let servers = json!([
        {"name": "one", "url": "http://one/mcp", "secretRef": {"name": "s", "key": "absent"}},
        {"name": "two", "url": "http://two/mcp"},
    ]);
    let route = tools(&json!({"mcp": {"servers": servers}}));
    let valid = validate(&route, &with_secret(&[("token", "t")])).expect("valid");
    let message = "the Secret `s` that spec.mcp.servers[0].secretRef names has no key `absent`";
    assert_eq!(valid.unresolved[0].1, message);
    let left = valid.mcp.expect("servers").servers;
    assert_eq!(left.len(), 1);
    super::check_status(
        &route,
        &with_secret(&[("absent", "t")]),
        Verdict::holds(crds::condition::Reason::Programmed, ""),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True MinimumReplicasAvailable",
            "Ready=True Ready",
        ],
    );
}

#[test]
fn metadata_services_are_no_tool_servers_agents_or_token_endpoints() {
    let bad = "http://169.254.169.254/mcp";
    let mcp = |server: Value| json!({"mcp": {"servers": [server]}});
    check_refused(
        &mcp(json!({"name": "one", "url": bad})),
        "spec.mcp.servers[0].url",
    );
    let oauth = json!({"tokenURL": bad, "secretRef": {"name": "s"}});
    let server = json!({"name": "one", "url": "http://one/mcp", "oauth": oauth});
    check_refused(&mcp(server), "spec.mcp.servers[0].oauth.tokenURL");
    let server = json!({"name": "one", "url": "http://one/mcp", "timeout": "0s"});
    check_refused(&mcp(server), "spec.mcp.servers[0].timeout");
    let agent = json!({"name": "one", "url": "http://metadata.google.internal"});
    check_refused(
        &json!({"a2a": {"agents": [agent]}}),
        "spec.a2a.agents[0].url",
    );
}

/// Checks all examples of a page.
#[track_caller]
fn check_examples(page: &str) {
    let examples = page.split("```yaml\n").skip(1);
    let examples: Vec<_> = examples.map(|rest| rest.split_once("```")).collect();
    assert!(!examples.is_empty());
    for example in examples {
        check_example(example.expect("its end").0);
    }
}

#[track_caller]
fn check_example(example: &str) {
    let route: crds::Route = serde_norway::from_str(example).expect("a route");
    let secret = |data: &[(&str, &str)]| {
        let data = data
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Some(data.collect())
    };
    let client = secret(&[("client-id", "i"), ("client-secret", "c")]);
    let secrets = BTreeMap::from([
        ("tickets".to_owned(), secret(&[("token", "t")])),
        ("travel".to_owned(), secret(&[("token", "t")])),
        ("search-client".to_owned(), client),
    ]);
    let world = World { secrets, ..world() };
    let valid = validate(&route, &world).expect("valid");
    assert_eq!(valid.unresolved, []);
    assert_eq!(build(&valid).len(), 1);
}

#[test]
fn the_examples_in_the_documentation_are_valid() {
    check_examples(include_str!("../../../../docs/concepts/gateway-mcp.md"));
    check_examples(include_str!("../../../../docs/concepts/gateway-a2a.md"));
}

#[test]
fn prices_of_tools_reach_the_gateway_and_wrong_ones_are_refused_with_their_path() {
    let priced = |price: &str| {
        let prices = json!({"perCall": "0.002", "tools": [{"name": "report_*", "perCall": price}]});
        json!({"mcp": {"servers": [{"name": "one", "url": "http://one/mcp", "prices": prices}]}})
    };
    let valid = validate(&tools(&priced("0.05")), &world()).expect("valid");
    let entry = serde_json::to_value(&in_order(build(&valid))[0]).expect("an entry");
    let expected = json!({"perCallNanos": 2_000_000, "tools": [{"name": "report_*", "perCallNanos": 50_000_000}]});
    assert_eq!(entry["mcp"]["servers"][0]["prices"], expected);
    let path = "spec.mcp.servers[0].prices.tools[0].perCall";
    check_refused(&priced("0.0000000001"), path);
}
