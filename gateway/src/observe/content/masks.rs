//! Masks: what guards have put in the place of texts of a request, to be put there again in an answer.

use serde_json::{Map, Value};

/// Pairs of a text that must not be told and what stands in for it; longer texts come first.
#[derive(Debug, Default)]
pub(crate) struct Masks(Vec<(String, String)>);

impl Masks {
    /// The masks of these texts, each with what stands in for it.
    pub(crate) fn new(pairs: impl Iterator<Item = (String, String)>) -> Self {
        let mut all = Vec::new();
        for (text, placeholder) in pairs.filter(|(text, _)| !text.is_empty()) {
            // In a text that is JSON itself quotes are escaped.
            let quoted = Value::String(text.clone()).to_string();
            let inner = quoted.get(1..quoted.len() - 1).unwrap_or_default();
            if inner != text {
                all.push((inner.to_owned(), placeholder.clone()));
            }
            all.push((text, placeholder));
        }
        // One that is a part of another must not take the other's place.
        all.sort_by(|(left, _), (right, _)| right.len().cmp(&left.len()).then(left.cmp(right)));
        Self(all)
    }

    /// Puts the masks back in all texts of a value.
    pub(super) fn put_back(&self, value: &mut Value) {
        if self.0.is_empty() {
            return;
        }
        match value {
            Value::String(text) => self.mask(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.put_back(value)),
            Value::Object(fields) => {
                let masked = std::mem::take(fields)
                    .into_iter()
                    .map(|(mut name, mut value)| {
                        self.mask(&mut name);
                        self.put_back(&mut value);
                        (name, value)
                    });
                *fields = masked.collect::<Map<_, _>>();
            }
            Value::Number(number) => {
                // A number of a phone or a card may stand in arguments as it is.
                let mut text = number.to_string();
                self.mask(&mut text);
                if text != number.to_string() {
                    *value = Value::String(text);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    fn mask(&self, text: &mut String) {
        for (masked, placeholder) in &self.0 {
            if text.contains(masked.as_str()) {
                *text = text.replace(masked.as_str(), placeholder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::Masks;

    #[track_caller]
    fn check(pairs: &[(&str, &str)], mut value: Value, expected: &Value) {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(text, mask)| ((*text).to_owned(), (*mask).to_owned()));
        Masks::new(pairs).put_back(&mut value);
        assert_eq!(&value, expected);
    }

    #[test]
    fn masks_come_back_wherever_a_text_can_stand() {
        let mail = ("a@b.org", "[EMAIL_1]");
        check(
            &[mail],
            json!("to a@b.org, a@b.org"),
            &json!("to [EMAIL_1], [EMAIL_1]"),
        );
        check(&[mail], json!([{"a@b.org": 1}]), &json!([{"[EMAIL_1]": 1}]));
        check(
            &[("4111", "[CARD_1]")],
            json!({"card": 4111}),
            &json!({"card": "[CARD_1]"}),
        );
        // The longer one first, whatever the order.
        let longer = ("xa@b.org", "[EMAIL_2]");
        check(
            &[mail, longer],
            json!("xa@b.org a@b.org"),
            &json!("[EMAIL_2] [EMAIL_1]"),
        );
        // In a text of JSON.
        check(
            &[("a\"b", "[X_1]")],
            json!("{\"x\":\"a\\\"b\"}"),
            &json!("{\"x\":\"[X_1]\"}"),
        );
        check(&[], json!("a@b.org"), &json!("a@b.org"));
    }
}
