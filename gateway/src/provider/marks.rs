//! Marks for caches in requests of Anthropic's API that pass as they are: every byte stays but for the marks.

use bytes::Bytes;
use memchr::memmem;
use serde_json::value::RawValue;

use super::object::Object;

/// The field of a mark; a client that writes it marks its requests itself.
const FIELD: &str = "cache_control";
/// The mark, as the last field of an object that has others.
const MARK: &str = r#","cache_control":{"type":"ephemeral"}}"#;

/// A body with marks behind the tools, the system's texts and the last user's turn.
pub(super) fn put_in(body: Bytes) -> Bytes {
    if memmem::find(&body, FIELD.as_bytes()).is_some() {
        return body;
    }
    let Ok(Object(fields)) = serde_json::from_slice::<Object<'_>>(&body) else {
        return body;
    };
    let marked = fields.iter().map(|(name, value)| match &**name {
        "system" => marked_content(value.get()),
        "tools" => with_last(value.get(), marked_object),
        "messages" => with_last(value.get(), marked_turn),
        _ => None,
    });
    let marked: Vec<Option<Box<RawValue>>> = marked
        .map(|text| RawValue::from_string(text?).ok())
        .collect();
    let fields = fields.iter().zip(&marked);
    let fields = fields.map(|((name, value), marked)| {
        let value = marked.as_deref().unwrap_or(value);
        (name.clone(), value)
    });
    let shaped = serde_json::to_vec(&Object(fields.collect()));
    shaped.map_or_else(|_| body.clone(), Bytes::from)
}

/// The list with another last item; `None` if there is none, or nothing is to be marked in it.
fn with_last(list: &str, mark: impl FnOnce(&str) -> Option<String>) -> Option<String> {
    let mut items: Vec<&RawValue> = serde_json::from_str(list).ok()?;
    let marked = mark(items.pop()?.get())?;
    let mut written = String::with_capacity(list.len() + MARK.len());
    written.push('[');
    for item in items {
        written.push_str(item.get());
        written.push(',');
    }
    written.push_str(&marked);
    written.push(']');
    Some(written)
}

fn marked_object(object: &str) -> Option<String> {
    let open = object.strip_prefix('{')?.strip_suffix('}')?;
    // Servers refuse marks at thoughts and at empty texts.
    let Object(fields) = serde_json::from_str(object).ok()?;
    let is = |name: &str, values: &[&str]| {
        let mut fields = fields.iter();
        fields.any(|(field, value)| field == name && values.contains(&value.get()))
    };
    let thoughts = ["\"thinking\"", "\"redacted_thinking\""];
    if fields.is_empty() || is("type", &thoughts) || is("text", &["\"\""]) {
        return None;
    }
    Some(format!("{{{}{MARK}", open.trim_end()))
}

/// Content with a mark at its end: a text becomes a list of one.
fn marked_content(content: &str) -> Option<String> {
    match content {
        "\"\"" => None,
        text if text.starts_with('"') => {
            Some(format!("[{{\"type\":\"text\",\"text\":{text}{MARK}]"))
        }
        list => with_last(list, marked_object),
    }
}

/// A turn of a user with a mark at its end.
fn marked_turn(message: &str) -> Option<String> {
    let Object(fields) = serde_json::from_str(message).ok()?;
    let is_users = |(name, value): &(_, &RawValue)| *name == "role" && value.get() == "\"user\"";
    if !fields.iter().any(is_users) {
        return None;
    }
    let (_, content) = fields.iter().find(|(name, _)| name == "content")?;
    let content = RawValue::from_string(marked_content(content.get())?).ok()?;
    let fields = fields.iter().map(|(name, value)| {
        let value = if name == "content" { &*content } else { *value };
        (name.clone(), value)
    });
    serde_json::to_string(&Object(fields.collect())).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::put_in;

    #[track_caller]
    fn check(body: &'static str, expected: &str) {
        assert_eq!(put_in(Bytes::from_static(body.as_bytes())), expected);
    }

    #[test]
    fn only_marks_are_put_in() {
        check(
            r#"{"x":1.50,"system":"s","tools":[{"name":"f"},{"name":"g"}],"messages":[{"role":"user","content":"a"}]}"#,
            r#"{"x":1.50,"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"tools":[{"name":"f"},{"name":"g","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}}]}]}"#,
        );
        check(
            r#"{"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b" }]}]}"#,
            r#"{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}],"messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b","cache_control":{"type":"ephemeral"}}]}]}"#,
        );
    }

    #[test]
    fn what_has_marks_or_nothing_to_mark_stays() {
        for body in [
            r#"{"system":"s", "messages":[{"role":"user","content":[{"type":"text","text":"a","cache_control":null}]}]}"#,
            r#"{"system":"","tools":[],"messages":[{"role":"assistant","content":"a"}]}"#,
            r#"{"messages":[{"role":"user","content":[{"type":"text","text":""}]}]}"#,
            "[1]",
        ] {
            check(body, body);
        }
    }
}
