//! What a request asks for, whatever API it came in, and what is answered to it. Pure.
//!
//! A last message `fail 429` asks for an error of that status, `hang` for nothing for ever, `stall` for a beginning without
//! an end. Tools are called until one has answered; a schema gets a value of its kind; everything else is said again.

use serde_json::{Map, Value, json};

/// Tokens of every prompt that were cached.
pub(super) const CACHED_TOKENS: usize = 2;
/// Deepest level of a sample: a schema may contain itself.
const DEPTH_MAX: usize = 16;

/// What is asked for.
#[derive(Debug, Default)]
pub(super) struct Question {
    /// The last text of the user.
    pub(super) text: String,
    /// The images beside it, as media types or addresses.
    pub(super) images: Vec<String>,
    /// What the last tool answered, if that is the last message.
    pub(super) result: Option<String>,
    /// The tools to call, by name, with the schemas of their arguments.
    pub(super) tools: Vec<(String, Value)>,
    /// The schema that the answer must have.
    pub(super) schema: Option<Value>,
    /// Whether thoughts are to be shown.
    pub(super) shows_thought: bool,
    /// Most words of the answer.
    pub(super) words_max: Option<usize>,
}

/// What happens with a request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It is answered.
    Answer(Reply),
    /// An answer begins and never ends.
    Stall(Reply),
    /// Nothing comes.
    Hang,
    /// An error of this status.
    Fail(u16),
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// What was thought before, if that is shown.
    pub(super) thought: Option<String>,
    /// What is said, unless tools are called.
    pub(super) text: String,
    /// The calls of tools: name and arguments.
    pub(super) calls: Vec<(String, Value)>,
    /// Whether the text was cut at the length asked for.
    pub(super) is_cut: bool,
    /// Tokens of the prompt.
    pub(super) prompt_tokens: usize,
}

impl Reply {
    /// Tokens of the answer: a word counts as one, a call as five.
    pub(super) fn tokens(&self) -> usize {
        let thought = self.thought.as_deref().map_or(0, words);
        thought + words(&self.text) + 5 * self.calls.len()
    }

    /// The text word by word.
    pub(super) fn pieces(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(' ')
    }
}

impl Question {
    /// What happens with it.
    pub(super) fn verdict(self) -> Verdict {
        let status = self.text.strip_prefix("fail ");
        if let Some(status) = status.and_then(|status| status.parse().ok()) {
            return Verdict::Fail(status);
        }
        match self.text.as_str() {
            "hang" => Verdict::Hang,
            "stall" => Verdict::Stall(self.reply()),
            _ => Verdict::Answer(self.reply()),
        }
    }

    fn reply(self) -> Reply {
        let calls: Vec<(String, Value)> = match &self.result {
            Some(_) => Vec::new(),
            None => self
                .tools
                .iter()
                .map(|(name, schema)| (name.clone(), sample(schema)))
                .collect(),
        };
        let mut text = match (&self.schema, &self.result) {
            _ if !calls.is_empty() => String::new(),
            (Some(schema), _) => sample(schema).to_string(),
            (None, Some(result)) => format!("The tool says: {result}"),
            (None, None) => format!("You say „{}“ and show {}.", self.text, shown(&self.images)),
        };
        let whole = words(&text);
        if let Some(words_max) = self.words_max {
            let kept: Vec<&str> = text.split_inclusive(' ').take(words_max).collect();
            text = kept.concat();
        }
        Reply {
            thought: self
                .shows_thought
                .then(|| "That needs a thought.".to_owned()),
            is_cut: words(&text) < whole,
            text,
            calls,
            prompt_tokens: CACHED_TOKENS + words(&self.text),
        }
    }
}

fn shown(images: &[String]) -> String {
    if images.is_empty() {
        return "nothing".to_owned();
    }
    images.join(" and ")
}

/// How many words a text has.
pub(super) fn words(text: &str) -> usize {
    text.split_whitespace().count()
}

/// The media type of an image in a `data:` URL, or its address.
pub(super) fn image(url: &str) -> String {
    let inside = url.strip_prefix("data:");
    let media = inside.and_then(|inside| inside.split_once(';'));
    media.map_or(url, |(media, _)| media).to_owned()
}

/// The words of all texts in a value.
pub(super) fn words_in(value: &Value) -> usize {
    match value {
        Value::String(text) => words(text),
        Value::Array(entries) => entries.iter().map(words_in).sum(),
        Value::Object(fields) => fields.values().map(words_in).sum(),
        _ => 0,
    }
}

/// A value that a schema allows.
pub(super) fn sample(schema: &Value) -> Value {
    sample_in(schema, schema, 0)
}

fn sample_in(root: &Value, schema: &Value, depth: usize) -> Value {
    if DEPTH_MAX < depth {
        return Value::Null;
    }
    let inside = |schema: &Value| sample_in(root, schema, depth + 1);
    if let Some(reference) = schema["$ref"].as_str() {
        let target = reference
            .strip_prefix('#')
            .and_then(|path| root.pointer(path));
        return target.map_or(Value::Null, inside);
    }
    for several in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema[several].get(0) {
            return inside(first);
        }
    }
    if let Some(first) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return first.clone();
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match kind {
        Some(kind) if kind.eq_ignore_ascii_case("string") => json!("Zürich"),
        Some(kind) if kind.eq_ignore_ascii_case("integer") => json!(7),
        Some(kind) if kind.eq_ignore_ascii_case("number") => json!(7.5),
        Some(kind) if kind.eq_ignore_ascii_case("boolean") => json!(true),
        Some(kind) if kind.eq_ignore_ascii_case("array") => json!([inside(&schema["items"])]),
        Some(kind) if kind.eq_ignore_ascii_case("null") => Value::Null,
        _ => {
            let properties = schema["properties"].as_object();
            let fields = properties.into_iter().flatten();
            let fields = fields.map(|(name, schema)| (name.clone(), inside(schema)));
            Value::Object(fields.collect::<Map<_, _>>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Question, Verdict, sample};
    use serde_json::json;

    #[test]
    fn a_sample_is_what_its_schema_allows() {
        let schema = json!({"type": "object", "$defs": {"size": {"enum": ["small", "big"]}}, "properties": {
            "name": {"type": "string"}, "size": {"$ref": "#/$defs/size"}, "tags": {"type": "array", "items": {"type": "integer"}},
            "more": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}}});
        let expected = json!({"name": "Zürich", "size": "small", "tags": [7], "more": true});
        assert_eq!(sample(&schema), expected);
    }

    #[test]
    fn an_answer_is_cut_at_the_length_asked_for() {
        let question = Question {
            text: "one two three".to_owned(),
            words_max: Some(2),
            ..Question::default()
        };
        let Verdict::Answer(reply) = question.verdict() else {
            panic!("no answer");
        };
        assert_eq!((reply.text.as_str(), reply.is_cut), ("You say ", true));
    }
}
