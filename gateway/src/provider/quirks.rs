//! Quirks: fields that a vendor knows by another name or refuses, brought into its form; every other byte stays.

use std::borrow::Cow;

use bytes::Bytes;
use memchr::memmem;
use protocol::vendor::Quirks;
use serde_json::value::RawValue;

use super::object::Object;

/// How long an answer may be, in the words of before.
const MAX_TOKENS: &str = "max_tokens";
/// The field of chats whose messages have roles.
const MESSAGES: &str = "messages";

/// A body in a vendor's form; one that is not an object is left to the vendor to refuse.
pub(super) fn apply(quirks: &Quirks, body: Bytes) -> Bytes {
    if !minds(quirks, &body) {
        return body;
    }
    let Ok(Object(fields)) = serde_json::from_slice::<Object<'_>>(&body) else {
        return body;
    };
    let has = |name: &str| fields.iter().any(|(field, _)| field == name);
    let mut shaped = Vec::with_capacity(fields.len());
    let messages = fields.iter().find(|(name, _)| name == MESSAGES);
    let developer = messages
        .filter(|_| quirks.no_developer_role)
        .and_then(|(_, messages)| without_developer(messages));
    for (name, value) in &fields {
        if quirks.drops(name) {
            continue;
        }
        // Completions of before there were chats know no other name.
        let renamed = quirks.rename.get(&**name);
        let renamed = renamed.filter(|_| name != MAX_TOKENS || messages.is_some());
        let (name, value) = match (renamed, &developer) {
            // Who wrote both names meant the one that the vendor knows.
            (Some(renamed), _) if has(renamed) => continue,
            (Some(renamed), _) => (Cow::Borrowed(&**renamed), *value),
            (None, Some(messages)) if name == MESSAGES => (name.clone(), &**messages),
            (None, _) => (name.clone(), *value),
        };
        shaped.push((name, value));
    }
    serde_json::to_vec(&Object(shaped)).map_or(body, Bytes::from)
}

/// Whether a body may hold something that the vendor minds: most do not, and are not read further.
fn minds(quirks: &Quirks, body: &[u8]) -> bool {
    let has = |word: &str| memmem::find(body, word.as_bytes()).is_some();
    let names = quirks.rename.keys().chain(&quirks.drop);
    names.into_iter().any(|name| has(name)) || (quirks.no_developer_role && has("developer"))
}

/// The messages with `system` for `developer`; `None` if there is none.
fn without_developer(messages: &RawValue) -> Option<Box<RawValue>> {
    memmem::find(messages.get().as_bytes(), b"\"developer\"")?;
    let messages: Vec<Object<'_>> = serde_json::from_str(messages.get()).ok()?;
    let system: Box<RawValue> = serde_json::value::to_raw_value("system").ok()?;
    let shaped = messages.iter().map(|Object(fields)| {
        let fields = fields.iter().map(|(name, value)| {
            let is_developer = name == "role" && value.get() == "\"developer\"";
            (name.clone(), if is_developer { &*system } else { *value })
        });
        Object(fields.collect())
    });
    serde_json::value::to_raw_value(&shaped.collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::vendor::Quirks;

    use super::apply;

    #[track_caller]
    fn check(body: &'static str, expected: &str) {
        let rename = [
            ("max_completion_tokens", "max_tokens"),
            ("seed", "random_seed"),
        ];
        let quirks = Quirks {
            rename: rename
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .into(),
            drop: vec!["stream_options".to_owned(), "logit_bias".to_owned()],
            no_developer_role: true,
        };
        assert_eq!(
            apply(&quirks, Bytes::from_static(body.as_bytes())),
            expected
        );
    }

    #[test]
    fn only_what_the_vendor_minds_changes() {
        check(
            r#"{"model":"m","x":1.50,"y":[ 1 ]}"#,
            r#"{"model":"m","x":1.50,"y":[ 1 ]}"#,
        );
        check(
            r#"{"seed":7,"stream_options":{"include_usage":true},"max_completion_tokens":9,"logit_bias":{}}"#,
            r#"{"random_seed":7,"max_tokens":9}"#,
        );
        check(
            r#"{"max_completion_tokens":9,"max_tokens":8}"#,
            r#"{"max_tokens":8}"#,
        );
        check(
            r#"{"messages":[{"role":"developer","content":"\"developer\" 1.0"},{"role":"user","n":1.0}]}"#,
            r#"{"messages":[{"role":"system","content":"\"developer\" 1.0"},{"role":"user","n":1.0}]}"#,
        );
        check("[1]", "[1]");
    }

    #[test]
    fn a_name_of_chats_is_not_put_into_completions() {
        let rename = [("max_tokens", "max_completion_tokens")];
        let quirks = Quirks {
            rename: rename
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .into(),
            ..Quirks::default()
        };
        for (body, expected) in [
            (
                r#"{"messages":[],"max_tokens":9}"#,
                r#"{"messages":[],"max_completion_tokens":9}"#,
            ),
            (
                r#"{"prompt":"x","max_tokens":9}"#,
                r#"{"prompt":"x","max_tokens":9}"#,
            ),
        ] {
            let body = Bytes::from_static(body.as_bytes());
            assert_eq!(apply(&quirks, body), expected);
        }
    }
}
