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
    for name in object.keys() {
        let is_tier =
            name.contains("_above_") || name.contains("_priority") || name.contains("_flex");
        if is_tier && name.contains("cost") && said.is_some() {
            warnings.push(format!("{at}: the price `{name}` has no counterpart"));
        }
    }
    Some(Value::Object(prices))
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

    use super::per_million;

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
