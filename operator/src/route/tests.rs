//! A Route's plans and statuses, without a client.

mod adapters;
mod batches;
mod examples;
mod jwt;
mod kv_events;
mod limits;
mod mirror;
mod pools;
mod prices;
mod prompts;
mod tools;
mod webhook;
mod wildcards;

use std::{collections::BTreeMap, sync::Arc};

use crds::{Route, condition::Reason};
use jiff::Timestamp;
use protocol::{
    secret::SecretString,
    snapshot::{
        Access, Action, Cache, CacheStore, Guard, GuardRule, Mode, Per, Phases, PiiKind, Prices,
    },
};
use serde_json::{Value, json};

use super::{
    build::{build, in_order},
    dereference::{FoundKey, FoundModel, World, claimed},
    status::{Observed, status},
    validate::{InvalidRoute, validate},
};
use crate::{conditions::Verdict, snapshots::Programmed};

fn route(name: &str, created: i64, models: &[&str], extra: &Value) -> Route {
    let created = Timestamp::from_second(created).expect("a time").to_string();
    let meta = json!({"name": name, "namespace": "n", "uid": name, "generation": 4, "creationTimestamp": created});
    let mut spec = json!({
        "match": {"models": models},
        "targets": {"backends": [{"name": "local", "modelRef": {"name": "m"}}, {"name": "cloud", "modelRef": {"name": "x"}, "modelOverride": "big"}]}
    });
    for (key, value) in extra.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    serde_json::from_value(json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Route", "metadata": meta, "spec": spec})).expect("a route")
}

fn found(spec: &Value, endpoints: &[&str]) -> FoundModel {
    let object = json!({"apiVersion": "quarterdeck.dev/v1alpha1", "kind": "Model", "metadata": {"name": "m", "namespace": "n"}, "spec": spec});
    FoundModel {
        model: Arc::new(serde_json::from_value(object).expect("a model")),
        secrets: BTreeMap::new(),
        endpoints: endpoints.iter().map(|url| (*url).to_owned()).collect(),
    }
}

fn world() -> World {
    let native = found(
        &json!({"servedName": "served", "source": {"uri": "file:///w"}}),
        &["http://10.0.0.1:8000/v1"],
    );
    let external = found(
        &json!({"engine": {"type": "External", "external": {"baseURL": "https://llm.example/v1"}}}),
        &[],
    );
    let key = |id: &str, team: &str, is_agent| FoundKey {
        id: id.to_owned(),
        labels: BTreeMap::from([("team".to_owned(), team.to_owned())]),
        is_agent,
    };
    World {
        models: BTreeMap::from([
            ("m".to_owned(), Some(native)),
            ("x".to_owned(), Some(external)),
        ]),
        pools: BTreeMap::from([(
            "vllm".to_owned(),
            Some(pools::found(&json!({}), &["http://10.0.0.9:8000/v1"])),
        )]),
        claimed: BTreeMap::new(),
        contradicted: None,
        secrets: BTreeMap::new(),
        config_maps: BTreeMap::new(),
        keys: vec![
            key("n/a", "a", false),
            key("n/b", "b", false),
            key("n/agent", "", true),
        ],
    }
}

#[test]
fn an_entry_has_addresses_names_and_limits() {
    let route = route(
        "r",
        1,
        &["chat"],
        &json!({"timeouts": {"request": "1m", "firstToken": "5s", "streamIdle": "500ms"}}),
    );
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let [entry] = &entries[..] else {
        panic!("{} entries", entries.len())
    };
    assert_eq!((entry.generation, &entry.access), (4, &Access::AnyKey));
    let targets: Vec<_> = entry
        .targets
        .iter()
        .map(|target| (&*target.name, &*target.model, target.endpoints.join(",")))
        .collect();
    assert_eq!(
        targets,
        [
            ("local", "served", "http://10.0.0.1:8000/v1".to_owned()),
            ("cloud", "big", "https://llm.example/v1".to_owned())
        ]
    );
    let timeouts = entry.timeouts;
    assert_eq!(
        (
            timeouts.request_millis,
            timeouts.first_byte_millis,
            timeouts.stream_idle_millis
        ),
        (60_000, 5_000, 500)
    );
}

/// A world with the URL of a Redis in a Secret.
fn with_redis(url: &str) -> World {
    let data = BTreeMap::from([("url".to_owned(), url.to_owned())]);
    World {
        secrets: BTreeMap::from([("redis".to_owned(), Some(data)), ("none".to_owned(), None)]),
        ..world()
    }
}

#[test]
fn the_store_of_a_cache_reaches_the_gateway_or_is_told_to_be_missing() {
    let check = |store: Value, url: &str, expected: Result<u64, &str>| {
        let cache = json!({"cache": {"ttl": "1m", "store": store}});
        let route = route("r", 1, &["chat"], &cache);
        let valid = validate(&route, &with_redis(url)).expect("valid");
        let cache = in_order(build(&valid)).remove(0).cache.expect("a cache");
        let faults = format!("{:?}", valid.unresolved);
        assert!(!faults.contains("p4ss"), "{faults}");
        match expected {
            Ok(timeout_millis) => {
                let url = SecretString::new(url.to_owned());
                let store = CacheStore {
                    url,
                    timeout_millis,
                };
                assert_eq!((cache.store, &*faults), (Some(store), "[]"));
            }
            Err(fault) => {
                assert!(faults.contains(fault), "{faults}");
                // The rest of the cache is there.
                assert_eq!((cache.ttl_millis, cache.store), (60_000, None));
            }
        }
    };
    let named = |name: &str| json!({"secretRef": {"name": name, "key": "url"}});
    check(named("redis"), "rediss://u:p4ss@r:1/2", Ok(50));
    let timed = json!({"secretRef": {"name": "redis", "key": "url"}, "timeout": "1s"});
    check(timed, "redis://r", Ok(1000));
    check(
        named("none"),
        "redis://r",
        Err("spec.cache.store.secretRef"),
    );
    check(named("redis"), "p4ss", Err("holds no URL of a Redis"));
    check(
        named("redis"),
        "redis://:p4ss@169.254.169.254",
        Err("no request may go to"),
    );
    let slow = json!({"secretRef": {"name": "redis", "key": "url"}, "timeout": "11s"});
    let route = route(
        "r",
        1,
        &["chat"],
        &json!({"cache": {"ttl": "1m", "store": slow}}),
    );
    let fault = validate(&route, &world()).expect_err("a fault").to_string();
    assert!(fault.contains("spec.cache.store.timeout"), "{fault}");
}

#[track_caller]
fn check_guard(guard: &Value, expected: Result<Guard, &str>) {
    let route = route("r", 1, &["chat"], &json!({ "guards": [guard] }));
    match (validate(&route, &world()), expected) {
        (Ok(valid), Ok(expected)) => {
            assert_eq!(in_order(build(&valid))[0].guards, [expected]);
        }
        (Err(fault), Err(part)) => assert!(fault.to_string().contains(part), "{fault}"),
        (found, expected) => panic!("{found:?} is not {expected:?}"),
    }
}

#[test]
fn guards_reach_the_gateway_or_say_what_is_wrong_with_them() {
    let guard = |rule| Guard {
        name: "g".to_owned(),
        on: Phases::Both,
        action: Action::Block,
        mode: Mode::Enforce,
        rule,
    };
    check_guard(
        &json!({"name": "g", "type": "Secrets"}),
        Ok(guard(GuardRule::Secrets)),
    );
    let kinds = vec![PiiKind::Iban, PiiKind::UsSsn];
    check_guard(
        &json!({"name": "g", "type": "PII", "action": "Mask", "mode": "Shadow", "on": "Answers",
            "pii": {"kinds": ["IBAN", "USSSN"]}}),
        Ok(Guard {
            on: Phases::Answers,
            action: Action::Mask,
            mode: Mode::Shadow,
            ..guard(GuardRule::Pii { kinds })
        }),
    );
    check_guard(
        &json!({"name": "g", "type": "PromptInjection"}),
        Ok(Guard {
            on: Phases::Requests,
            ..guard(GuardRule::PromptInjection { threshold: 60 })
        }),
    );
    let regex = |pattern: &str| json!({"name": "g", "type": "Regex", "regex": {"patterns": ["ok", pattern]}});
    check_guard(&regex("(a"), Err("spec.guards[0].regex.patterns[1]"));
    check_guard(&regex("a*"), Err("matches the empty text"));
    check_guard(&regex(r"\w{9999}"), Err("size"));
}

#[test]
fn a_cache_reaches_the_gateway_in_its_units() {
    let check = |cache: Value, expected: Cache| {
        let route = route("r", 1, &["chat"], &json!({ "cache": cache }));
        let entries = in_order(build(&validate(&route, &world()).expect("valid")));
        assert_eq!(entries[0].cache, Some(expected));
    };
    let expected = Cache {
        ttl_millis: 600_000,
        bytes_max: 64 << 20,
        per: Per::Key,
        store: None,
    };
    check(json!({"ttl": "10m"}), expected);
    let expected = Cache {
        ttl_millis: 1500,
        bytes_max: 1 << 20,
        per: Per::Route,
        store: None,
    };
    check(
        json!({"ttl": "1s500ms", "maxBytes": 1 << 20, "per": "Route"}),
        expected,
    );
    let route = route("r", 1, &["chat"], &json!({"cache": {"ttl": "0s"}}));
    let fault = validate(&route, &world()).expect_err("a fault").to_string();
    assert!(fault.contains("spec.cache.ttl"), "{fault}");
}

#[test]
fn what_takes_over_reaches_the_gateway() {
    let extra = json!({
        "fallbacks": [{"on": ["ContextWindow", "ColdStart"], "model": "big"}, {"on": ["Error"]}],
        "timeouts": {"connect": "250ms"},
    });
    let route = route("r", 1, &["chat"], &extra);
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let told = json!([{"on": ["ContextWindow", "ColdStart"], "model": "big"}, {"on": ["Error"]}]);
    assert_eq!(json!(entries[0].fallbacks), told);
    assert_eq!(entries[0].timeouts.connect_millis, 250);
}

#[test]
fn what_chooses_reaches_the_gateway() {
    let extra = json!({
        "match": {"models": ["chat"], "when": "tools > 0"},
        "targets": {
            "strategy": "LeastBusy",
            "session": {"by": "Header", "name": "X-Session"},
            "backends": [{"name": "local", "modelRef": {"name": "m"}, "when": "promptBytes < 4000"}],
        },
        "retries": {"hedging": {"after": "p95"}},
    });
    let entry = |extra: &Value| {
        let route = route("r", 1, &["chat"], extra);
        Ok::<_, InvalidRoute>(in_order(build(&validate(&route, &world())?)).remove(0))
    };
    let told = json!(entry(&extra).expect("valid"));
    assert_eq!(told["strategy"], "LeastBusy");
    assert_eq!(told["session"], json!({"Header": "x-session"}));
    assert_eq!(told["when"], "tools > 0");
    assert_eq!(told["targets"][0]["when"], "promptBytes < 4000");
    assert_eq!(told["hedging"], json!({"permille": 20}));
    let mut fixed = extra.clone();
    fixed["retries"]["hedging"] = json!({"after": "250ms", "percent": 5});
    let told = json!(entry(&fixed).expect("valid"));
    assert_eq!(told["hedging"], json!({"afterMillis": 250, "permille": 50}));
    let mut broken = extra;
    broken["targets"]["backends"][0]["when"] = json!("promptBytes <");
    let fault = entry(&broken).expect_err("no condition").to_string();
    let path = "spec.targets.backends[0].when is `promptBytes <`";
    assert!(fault.starts_with(path), "{fault}");
}

#[test]
fn where_requests_wait_reaches_the_gateway() {
    let told = |extra: &Value| {
        let route = route("r", 1, &["chat"], extra);
        let entry = in_order(build(&validate(&route, &world()).expect("valid"))).remove(0);
        (json!(entry.queue), entry.cold_start_millis)
    };
    let plain =
        json!({"concurrency": 4, "length": 1000, "timeoutMillis": 30_000, "fairness": "Key"});
    assert_eq!(told(&json!({"queue": {"concurrency": 4}})), (plain, None));
    let queue = json!({"concurrency": 4, "length": 9, "timeout": "2s", "fairness": "Team", "priorityHeader": "x-p"});
    let full = json!({"concurrency": 4, "length": 9, "timeoutMillis": 2000, "fairness": "Team", "priorityHeader": "x-p"});
    let extra = json!({"queue": queue, "coldStart": {"timeout": "5m"}});
    assert_eq!(told(&extra), (full, Some(300_000)));
    assert_eq!(told(&json!({})), (Value::Null, None));
}

#[test]
fn limits_budgets_and_prices_reach_the_gateway_in_its_units() {
    let backends = json!({"backends": [{"name": "local", "modelRef": {"name": "m"},
        "prices": {"inputPerMillion": "0.20", "outputPerMillion": "1"}}]});
    let extra = json!({
        "targets": backends,
        "limits": [{"name": "l", "requests": {"limit": 20, "window": "1s"}, "concurrency": 8},
            {"name": "watch", "per": "Route", "tokens": {"limit": 2_000_000, "window": "1h"}, "mode": "Shadow"}],
        "budgets": [{"name": "monthly", "per": "Route", "amount": "500.5", "window": "720h"}],
    });
    let route = route("r", 1, &["chat"], &extra);
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let entry = &entries[0];
    let prices = Prices {
        input_nanos: 200_000_000,
        cached_input_nanos: None,
        output_nanos: 1_000_000_000,
        ..Prices::default()
    };
    assert_eq!(entry.targets[0].prices, Some(prices));
    let expected = json!([
        {"name": "l", "per": "Key", "requests": {"limit": 20, "windowMillis": 1000}, "concurrency": 8, "mode": "Enforce"},
        {"name": "watch", "per": "Route", "tokens": {"limit": 2_000_000, "windowMillis": 3_600_000}, "mode": "Shadow"},
    ]);
    assert_eq!(
        serde_json::to_value(&entry.limits).expect("limits"),
        expected
    );
    let expected = json!([{"name": "monthly", "per": "Route", "amountNanos": 500_500_000_000_u64,
        "windowMillis": 2_592_000_000_u64, "mode": "Enforce"}]);
    assert_eq!(
        serde_json::to_value(&entry.budgets).expect("budgets"),
        expected
    );
}

#[track_caller]
fn check_refused(extra: &Value, path: &str) {
    let fault = validate(&route("r", 1, &["chat"], extra), &world()).expect_err("a fault");
    assert_eq!(fault.reason(), Reason::Invalid);
    assert!(fault.to_string().starts_with(path), "{fault}");
}

#[test]
fn what_no_gateway_can_count_is_refused_with_its_path() {
    let budget = |amount: &str, window: &str| json!({"budgets": [{"name": "b", "amount": amount, "window": window}]});
    check_refused(&budget("0.0000000001", "24h"), "spec.budgets[0].amount");
    check_refused(&budget("99999999999999", "24h"), "spec.budgets[0].amount");
    check_refused(&budget("1", "0h"), "spec.budgets[0].window");
    let limit = json!({"limits": [{"name": "l", "tokens": {"limit": 1, "window": "0s"}}]});
    check_refused(&limit, "spec.limits[0].tokens.window");
    let prices = json!({"inputPerMillion": "1", "outputPerMillion": "1.0000000000"});
    let backend = json!({"name": "local", "modelRef": {"name": "m"}, "prices": prices});
    check_refused(
        &json!({"targets": {"backends": [backend]}}),
        "spec.targets.backends[0].prices.outputPerMillion",
    );
}

#[test]
fn the_most_exact_pattern_of_all_routes_comes_first() {
    let entries = |name: &str, created, models: &[&str]| {
        build(&validate(&route(name, created, models, &json!({})), &world()).expect("valid"))
    };
    let mut all = entries("old", 1, &["*", "gpt-4o", "gpt-*"]);
    all.extend(entries("new", 2, &["gpt-4o-*", "a-very-long-exact-name"]));
    let order: Vec<_> = in_order(all)
        .into_iter()
        .map(|entry| format!("{} {}", entry.name, entry.models.join(",")))
        .collect();
    assert_eq!(
        order,
        [
            "old gpt-4o",
            "new a-very-long-exact-name",
            "new gpt-4o-*",
            "old gpt-*",
            "old *"
        ]
    );
}

#[test]
fn the_older_route_keeps_a_pattern() {
    let old = Arc::new(route("old", 1, &["chat", "code"], &json!({})));
    let new = Arc::new(route("new", 2, &["chat"], &json!({})));
    let all = [Arc::clone(&old), Arc::clone(&new)];
    assert!(claimed(&old, &all).is_empty());
    let world = World {
        claimed: claimed(&new, &all),
        ..world()
    };
    let fault = validate(&new, &world).expect_err("a conflict");
    assert_eq!(
        fault,
        InvalidRoute::Conflict {
            pattern: "chat".to_owned(),
            route: "n/old".to_owned()
        }
    );
}

#[track_caller]
fn check_access(auth: &Value, expected: &Access) {
    let route = route("r", 1, &["chat"], &json!({"auth": auth}));
    assert_eq!(
        &validate(&route, &world()).expect("valid").access,
        expected,
        "{auth}"
    );
}

#[test]
fn access_is_any_key_selected_keys_or_open() {
    let selected = json!({"selector": {"matchLabels": {"team": "a"}}});
    let keys = |ids: &[&str]| Access::Keys(ids.iter().map(|id| (*id).to_owned()).collect());
    check_access(&json!({}), &Access::AnyKey);
    check_access(&json!({"anonymous": true}), &Access::Open);
    check_access(&json!({"apiKeys": selected}), &keys(&["n/a", "n/agent"]));
    check_access(
        &json!({"apiKeys": selected, "agents": false}),
        &keys(&["n/a"]),
    );
}

#[test]
fn a_duration_that_is_too_long_is_refused_with_its_path() {
    let route = route(
        "r",
        1,
        &["chat"],
        &json!({"timeouts": {"request": "9999h"}}),
    );
    let fault = validate(&route, &world()).expect_err("a fault").to_string();
    assert!(
        fault.contains("spec.timeouts.request") && fault.contains("9999h"),
        "{fault}"
    );
}

#[track_caller]
fn check_status(route: &Route, world: &World, programmed: Verdict, expected: &[&str]) {
    let valid = validate(route, world);
    let programmed = Programmed {
        version: Some("v1".to_owned()),
        verdict: programmed,
        is_current: true,
        is_settling: false,
    };
    let status = status(&Observed {
        route,
        valid: valid.as_ref(),
        programmed: &programmed,
        now: Timestamp::UNIX_EPOCH,
    });
    let lines = status.conditions.iter().map(|condition| {
        format!(
            "{}={} {}",
            condition.kind,
            condition.status.as_str(),
            condition.reason
        )
    });
    assert_eq!(lines.collect::<Vec<_>>(), expected);
}

#[test]
fn a_route_is_ready_when_the_gateway_has_it_and_a_backend_can_answer() {
    let route = route("r", 1, &["chat"], &json!({}));
    let acked = || Verdict::holds(Reason::Programmed, "");
    check_status(
        &route,
        &world(),
        acked(),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True MinimumReplicasAvailable",
            "Ready=True Ready",
        ],
    );
    check_status(
        &route,
        &world(),
        Verdict::waits(Reason::Pending, ""),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=False Pending",
            "Available=Unknown Blocked",
            "Ready=False Pending",
            "Reconciling=True Progressing",
        ],
    );
    let mut missing = world();
    missing.models.insert("x".to_owned(), None);
    check_status(
        &route,
        &missing,
        acked(),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=False RefNotFound",
            "Programmed=Unknown Blocked",
            "Available=Unknown Blocked",
            "Ready=False RefNotFound",
            "Reconciling=True Progressing",
        ],
    );
    // A missing backend does not take the others down.
    assert_eq!(build(&validate(&route, &missing).expect("valid")).len(), 1);
}

#[test]
fn a_route_without_a_live_backend_is_not_ready() {
    let mut route = route("r", 1, &["chat"], &json!({}));
    route.spec.targets.backends.truncate(1);
    let mut world = world();
    if let Some(Some(model)) = world.models.get_mut("m") {
        model.endpoints.clear();
    }
    check_status(
        &route,
        &world,
        Verdict::holds(Reason::Programmed, ""),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=False MinimumReplicasUnavailable",
            "Ready=False MinimumReplicasUnavailable",
            "Reconciling=True Progressing",
        ],
    );
}

#[test]
fn a_backend_that_sleeps_names_its_model_to_the_gateway() {
    let mut world = world();
    let sleeper = found(
        &json!({"source": {"uri": "file:///w"}, "scaling": {"min": 0}}),
        &[],
    );
    world.models.insert("m".to_owned(), Some(sleeper));
    let route = route("r", 1, &["chat"], &json!({}));
    let entries = in_order(build(&validate(&route, &world).expect("valid")));
    let named = entries[0]
        .targets
        .iter()
        .map(|target| target.on_demand.as_deref());
    assert_eq!(named.collect::<Vec<_>>(), [Some("n/m"), None]);
    // It can answer, since the next request starts it.
    let mut alone = route;
    alone.spec.targets.backends.truncate(1);
    check_status(
        &alone,
        &world,
        Verdict::holds(Reason::Programmed, ""),
        &[
            "Accepted=True Accepted",
            "ResolvedRefs=True ResolvedRefs",
            "Programmed=True Programmed",
            "Available=True MinimumReplicasAvailable",
            "Ready=True Ready",
        ],
    );
}
