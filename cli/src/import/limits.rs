//! Limits: what LiteLLM sends a deployment in a minute and at once, as a backend's limits.

use serde_json::{Map, Value, json};

/// LiteLLM's rates are those of a minute.
const WINDOW: &str = "1m";
/// The highest rate that a Route takes.
const RATE_MAX: u64 = 1_000_000_000_000;
/// Requests at once that a Route takes at most.
const CONCURRENCY_MAX: u64 = 1_000_000;

/// A backend's `limits`, if the deployment has any.
pub(super) fn limits(
    parameters: &Map<String, Value>,
    at: &str,
    warnings: &mut Vec<String>,
) -> Option<Value> {
    let mut limits = Map::new();
    let mut number = |name: &str, most: u64| {
        let value = parameters.get(name).filter(|value| !value.is_null())?;
        let number = match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        let number = number.filter(|number| (1..=most).contains(number));
        if number.is_none() {
            warnings.push(format!(
                "{at}.litellm_params.{name} is no number above zero; it is left out"
            ));
        }
        number
    };
    for (name, field) in [("rpm", "requests"), ("tpm", "tokens")] {
        if let Some(limit) = number(name, RATE_MAX) {
            let rate = json!({"limit": limit, "window": WINDOW});
            limits.insert(field.to_owned(), rate);
        }
    }
    if let Some(count) = number("max_parallel_requests", CONCURRENCY_MAX) {
        limits.insert("concurrency".to_owned(), json!(count));
    }
    (!limits.is_empty()).then_some(Value::Object(limits))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::limits;

    #[track_caller]
    fn check(parameters: &Value, expected: Option<&Value>, warned: usize) {
        let mut warnings = Vec::new();
        let found = limits(parameters.as_object().unwrap(), "at", &mut warnings);
        assert_eq!(found.as_ref(), expected);
        assert_eq!(warnings.len(), warned, "{warnings:?}");
    }

    #[test]
    fn rates_of_a_minute_and_requests_at_once_are_taken_over() {
        let both = json!({"rpm": 500, "tpm": "200000", "max_parallel_requests": 8});
        let expected = json!({
            "requests": {"limit": 500, "window": "1m"},
            "tokens": {"limit": 200_000, "window": "1m"},
            "concurrency": 8,
        });
        check(&both, Some(&expected), 0);
        check(&json!({"rpm": null}), None, 0);
        check(
            &json!({"rpm": 0, "tpm": -1, "max_parallel_requests": 1.5}),
            None,
            3,
        );
    }
}
