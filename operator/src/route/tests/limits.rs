//! Limits of backends: what the gateway learns of them, and what is wrong with them.

use protocol::snapshot::{Rate, TargetLimits};
use serde_json::{Value, json};

use super::{build, check_refused, in_order, route, validate, world};

fn limited(limits: &Value) -> Value {
    let backend = json!({"name": "local", "modelRef": {"name": "m"}, "limits": limits});
    json!({"targets": {"backends": [backend]}})
}

#[test]
fn limits_of_a_backend_reach_the_gateway() {
    let limits = json!({"requests": {"limit": 500, "window": "1m"}, "concurrency": 8});
    let route = route("r", 1, &["chat"], &limited(&limits));
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let expected = TargetLimits {
        requests: Some(Rate {
            limit: 500,
            window_millis: 60_000,
        }),
        tokens: None,
        concurrency: Some(8),
    };
    assert_eq!(entries[0].targets[0].limits, Some(expected));
}

#[test]
fn a_window_that_is_no_time_is_refused_with_its_path() {
    let limits = json!({"tokens": {"limit": 1, "window": "0s"}});
    check_refused(
        &limited(&limits),
        "spec.targets.backends[0].limits.tokens.window",
    );
}
