//! Prices: LiteLLM's dollars for a token, as dollars for a million, from a file's `model_info` or a cost map.

use serde_json::{Map, Value, json};

/// Digits behind the point of a price.
const DECIMALS: usize = 9;

/// A cost map of LiteLLM's, as `model_prices_and_context_window.json`.
#[derive(Debug, Default)]
pub(crate) struct CostMap(Map<String, Value>);

impl CostMap {
    /// Reads the file's text.
    ///
    /// # Errors
    /// It is no JSON object.
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }

    /// What is known of a model, by the first of these names that is in the map.
    fn find<'a>(&'a self, names: &[&str]) -> Option<&'a Map<String, Value>> {
        names.iter().find_map(|name| self.0.get(*name)?.as_object())
    }
}

/// A backend's `prices`: what the file says, or else the cost map. Prices that have no counterpart are told.
pub(super) fn prices(
    given: &[&Map<String, Value>],
    costs: &CostMap,
    names: &[&str],
    at: &str,
    warnings: &mut Vec<String>,
) -> Option<Value> {
    let is_priced = |object: &&&Map<String, Value>| object.contains_key("input_cost_per_token");
    let said = given.iter().find(is_priced).copied();
    let object = said.or_else(|| costs.find(names))?;
    let price = |name: &str| per_million(object.get(name)?);
    let mut prices = Map::new();
    prices.insert(
        "inputPerMillion".to_owned(),
        json!(price("input_cost_per_token")?),
    );
    let output = price("output_cost_per_token").unwrap_or_else(|| "0".to_owned());
    prices.insert("outputPerMillion".to_owned(), json!(output));
    if let Some(cached) = price("cache_read_input_token_cost") {
        prices.insert("cachedInputPerMillion".to_owned(), json!(cached));
    }
    let (long, above) = long_prompts(object);
    prices.extend(long.map(|long| ("longPrompts".to_owned(), long)));
    prices.extend(batches(object).map(|batches| ("batches".to_owned(), batches)));
    for name in object.keys().filter(|name| !is_of(name, above.as_deref())) {
        let is_tier =
            name.contains("_above_") || name.contains("_priority") || name.contains("_flex");
        if is_tier && name.contains("cost") && said.is_some() {
            warnings.push(format!("{at}: the price `{name}` has no counterpart"));
        }
    }
    Some(Value::Object(prices))
}

/// The prices of long prompts, those of the lowest number of tokens, and what their names end with.
fn long_prompts(object: &Map<String, Value>) -> (Option<Value>, Option<String>) {
    let tiers = object.keys().filter_map(|name| {
        let thousands = name.strip_prefix("input_cost_per_token_above_")?;
        let thousands: u64 = thousands.strip_suffix("k_tokens")?.parse().ok()?;
        (thousands <= 1_000_000).then_some(thousands)
    });
    let Some(thousands) = tiers.min() else {
        return (None, None);
    };
    let ending = format!("_above_{thousands}k_tokens");
    let price = |name: &str| {
        let tier = object.get(&format!("{name}{ending}"));
        // What has no price of this tier costs what it costs below.
        per_million(tier.or_else(|| object.get(name))?)
    };
    let Some(mut long) = rates(&price) else {
        return (None, None);
    };
    long.insert("aboveTokens".to_owned(), json!(thousands * 1000));
    (Some(Value::Object(long)), Some(ending))
}

/// The prices of lines of batches.
fn batches(object: &Map<String, Value>) -> Option<Value> {
    object.get("input_cost_per_token_batches")?;
    let price = |name: &str| {
        let batched = object.get(&format!("{name}_batches"));
        per_million(batched.or_else(|| object.get(name))?)
    };
    // The cached tokens of a batch cost no more than its others.
    let mut batches = rates(&price)?;
    batches.remove("cachedInputPerMillion");
    Some(Value::Object(batches))
}

fn rates(price: &impl Fn(&str) -> Option<String>) -> Option<Map<String, Value>> {
    let mut rates = Map::new();
    let output = price("output_cost_per_token").unwrap_or_else(|| "0".to_owned());
    rates.insert(
        "inputPerMillion".to_owned(),
        json!(price("input_cost_per_token")?),
    );
    rates.insert("outputPerMillion".to_owned(), json!(output));
    if let Some(cached) = price("cache_read_input_token_cost") {
        rates.insert("cachedInputPerMillion".to_owned(), json!(cached));
    }
    Some(rates)
}

/// Whether a price is one of the tier that is taken over.
fn is_of(name: &str, ending: Option<&str>) -> bool {
    let names = [
        "input_cost_per_token",
        "output_cost_per_token",
        "cache_read_input_token_cost",
    ];
    let base = ending.and_then(|ending| name.strip_suffix(ending));
    base.is_some_and(|base| names.contains(&base))
}

/// Dollars for a million tokens, without an exponent.
fn per_million(value: &Value) -> Option<String> {
    let token = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.parse().ok()?,
        _ => return None,
    };
    let million = token * 1_000_000.0;
    if !(0.0..1e6).contains(&million) {
        return None;
    }
    let text = format!("{million:.DECIMALS$}");
    Some(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{CostMap, per_million, prices};

    #[test]
    fn tiers_and_batches_of_a_cost_map_are_taken_over() {
        let costs = CostMap::read(
            r#"{"g": {"input_cost_per_token": 1.25e-06, "output_cost_per_token": 1e-05,
                "cache_read_input_token_cost": 3.1e-07, "input_cost_per_token_above_200k_tokens": 2.5e-06,
                "output_cost_per_token_above_200k_tokens": 1.5e-05, "input_cost_per_token_batches": 6.25e-07,
                "output_cost_per_token_batches": 5e-06, "input_cost_per_token_above_1000k_tokens": 9e-06,
                "input_cost_per_token_priority": 3e-06}}"#,
        );
        let mut warnings = Vec::new();
        let map = costs.unwrap();
        let found = prices(&[], &map, &["g"], "at", &mut warnings);
        let expected = json!({
            "inputPerMillion": "1.25", "outputPerMillion": "10", "cachedInputPerMillion": "0.31",
            "longPrompts": {"aboveTokens": 200_000, "inputPerMillion": "2.5", "outputPerMillion": "15",
                "cachedInputPerMillion": "0.31"},
            "batches": {"inputPerMillion": "0.625", "outputPerMillion": "5"},
        });
        assert_eq!(found, Some(expected));
        assert_eq!(warnings, Vec::<String>::new());
        let given = map.0["g"].as_object().unwrap();
        prices(&[given], &map, &[], "at", &mut warnings);
        let left = [
            "input_cost_per_token_above_1000k_tokens",
            "input_cost_per_token_priority",
        ];
        let expected = left.map(|name| format!("at: the price `{name}` has no counterpart"));
        assert_eq!(warnings, expected);
    }

    #[test]
    fn prices_are_told_for_a_million_tokens() {
        let cases = [
            (json!(2.5e-6), Some("2.5")),
            (json!("0.00001"), Some("10")),
            (json!(1.5e-7), Some("0.15")),
            (json!(0), Some("0")),
            (json!(7.5e-13), Some("0.00000075")),
            (json!(-1), None),
            (json!(null), None),
        ];
        for (value, expected) in cases {
            assert_eq!(per_million(&value).as_deref(), expected, "{value}");
        }
    }
}
