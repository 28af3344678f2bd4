//! Prices: what the gateway learns of them, and what is wrong with them.

use protocol::snapshot::{LongPrompts, Prices, Rates};
use serde_json::{Value, json};

use super::{build, check_refused, in_order, route, validate, world};

fn priced(prices: &Value) -> Value {
    let backend = json!({"name": "local", "modelRef": {"name": "m"}, "prices": prices});
    json!({"targets": {"backends": [backend]}})
}

#[test]
fn prices_of_long_prompts_and_batches_reach_the_gateway() {
    let route = route(
        "r",
        1,
        &["chat"],
        &priced(&json!({
            "inputPerMillion": "1.25", "outputPerMillion": "10", "marginPercent": -15,
            "longPrompts": {"aboveTokens": 200_000, "inputPerMillion": "2.5", "outputPerMillion": "15"},
            "batches": {"inputPerMillion": "0.625", "cachedInputPerMillion": "0.1", "outputPerMillion": "5"},
        })),
    );
    let entries = in_order(build(&validate(&route, &world()).expect("valid")));
    let expected = Prices {
        input_nanos: 1_250_000_000,
        cached_input_nanos: None,
        output_nanos: 10_000_000_000,
        long_prompts: Some(LongPrompts {
            above_tokens: 200_000,
            rates: Rates {
                input_nanos: 2_500_000_000,
                cached_input_nanos: None,
                output_nanos: 15_000_000_000,
            },
        }),
        batches: Some(Rates {
            input_nanos: 625_000_000,
            cached_input_nanos: Some(100_000_000),
            output_nanos: 5_000_000_000,
        }),
        margin_percent: -15,
    };
    assert_eq!(entries[0].targets[0].prices, Some(expected));
}

#[test]
fn prices_that_nobody_can_count_are_refused_with_their_path() {
    let rates = json!({"inputPerMillion": "1", "outputPerMillion": "1.0000000000"});
    for (name, above) in [("batches", None), ("longPrompts", Some(1))] {
        let mut wrong = rates.clone();
        if let Some(above) = above {
            wrong["aboveTokens"] = json!(above);
        }
        let mut prices = json!({"inputPerMillion": "1", "outputPerMillion": "1"});
        prices[name] = wrong;
        let path = format!("spec.targets.backends[0].prices.{name}.outputPerMillion");
        check_refused(&priced(&prices), &path);
    }
}
