//! Fallbacks of a request's own: models that the client wants to be asked when the first one gives no answer.
//!
//! They are the gateway's business, so the field does not go to an upstream.

use std::ops::Range;

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

use super::{
    fields::MODEL_BYTES_MAX,
    splice::{Edit, splice},
};

/// Models that one request may name; the others are not asked.
const MODELS_MAX: usize = 8;
/// The header that names them, with commas between them.
const HEADER: &str = "x-gateway-fallbacks";
/// The field's name as it is written.
const FIELD: &[u8] = b"\"fallbacks\"";

/// A model, as a name or as LiteLLM's clients write it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Named {
    Name(String),
    Object { model: String },
}

/// The models that the field with this value names, and the body without it; `None` if it means something else.
pub(super) fn take(body: &Bytes, value: Range<usize>) -> Option<(Vec<String>, Bytes)> {
    let named: Vec<Named> = serde_json::from_slice(body.get(value.clone())?).ok()?;
    let models = named.into_iter().map(|named| match named {
        Named::Name(model) | Named::Object { model } => model,
    });
    let before = body.get(..value.start)?.trim_ascii_end();
    let before = before.strip_suffix(b":")?.trim_ascii_end();
    let before = before.strip_suffix(FIELD)?.trim_ascii_end();
    let behind = body.get(value.end..)?.trim_ascii_start();
    let range = match (before.strip_suffix(b","), behind.strip_prefix(b",")) {
        (Some(before), _) => before.len()..value.end,
        (None, Some(behind)) => before.len()..body.len() - behind.len(),
        (None, None) => before.len()..value.end,
    };
    let replacement = String::new();
    let rest = splice(body, vec![Edit { range, replacement }]);
    Some((bounded(models), rest))
}

/// The models that a request's headers name.
pub(crate) fn of_headers(headers: &HeaderMap) -> Vec<String> {
    let Some(value) = headers.get(HEADER) else {
        return Vec::new();
    };
    let names = value.to_str().unwrap_or_default().split(',');
    bounded(names.map(|name| name.trim().to_owned()))
}

fn bounded(models: impl Iterator<Item = String>) -> Vec<String> {
    models
        .filter(|model| !model.is_empty() && model.len() <= MODEL_BYTES_MAX)
        .take(MODELS_MAX)
        .collect()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::take;
    use crate::decode::fields::find;

    #[track_caller]
    fn check(body: &'static str, expected: Option<(&[&str], &str)>) {
        let bytes = Bytes::from_static(body.as_bytes());
        let value = find(&bytes).unwrap().fallbacks.unwrap();
        let taken = take(&bytes, value);
        let expected = expected.map(|(models, rest)| {
            let models: Vec<String> = models.iter().map(|model| (*model).to_owned()).collect();
            (models, Bytes::copy_from_slice(rest.as_bytes()))
        });
        assert_eq!(taken, expected);
        if let Some((_, rest)) = taken {
            assert_eq!(find(&rest).unwrap().fallbacks, None);
        }
    }

    #[test]
    fn the_field_is_taken_out_and_the_rest_stays_byte_for_byte() {
        check(
            r#"{"model": "a", "fallbacks" : ["b", {"model": "c"}] , "x":1.50}"#,
            Some((&["b", "c"], r#"{"model": "a" , "x":1.50}"#)),
        );
        check(
            r#"{ "fallbacks":["b"], "model":"a" }"#,
            Some((&["b"], r#"{ "model":"a" }"#)),
        );
        check(
            r#"{"model":"a","fallbacks":[]}"#,
            Some((&[], r#"{"model":"a"}"#)),
        );
        let nine = r#"{"model":"a","fallbacks":["1","2","3","4","5","6","7","8","9",""]}"#;
        let eight = &["1", "2", "3", "4", "5", "6", "7", "8"];
        check(nine, Some((eight, r#"{"model":"a"}"#)));
    }

    #[test]
    fn what_means_something_else_is_left_alone() {
        check(r#"{"model":"a","fallbacks":"b"}"#, None);
        check(r#"{"model":"a","fallbacks":[1]}"#, None);
        check(r#"{"model":"a","fall\u0062acks":["b"]}"#, None);
    }
}
