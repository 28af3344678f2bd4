//! Finds the top-level fields that the gateway acts on, and where they lie in the body, in one pass without a tree.

use std::ops::Range;

use bytes::Bytes;
use protocol::openai::ErrorKind;
use serde::Deserialize;

use super::{
    members::{InvalidObject, Member, Members},
    splice::{Edit, splice},
};
use crate::fault::Fault;

/// Bytes of a model's name: routes with patterns take any, and each is in the ledger.
pub(super) const MODEL_BYTES_MAX: usize = 1024;
/// Bytes of an end user's name: it is in the ledger.
const USER_BYTES_MAX: usize = 256;

/// The fields that decide what a request may do and what it costs.
const DECISIVE: [&str; 7] = [
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
];

/// What the gateway acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    /// The model that is asked for.
    pub(crate) model: String,
    /// Where its value lies in the body, quotes included.
    pub(crate) model_range: Range<usize>,
    /// Whether the answer is to be streamed.
    pub(crate) stream: bool,
    /// `stream_options`, if they are there; they may be null.
    pub(crate) stream_options: Option<StreamOptions>,
    /// Tokens that the answer may have at most, over all its choices, if the request says so.
    pub(crate) output_max: Option<u64>,
    /// Whom the client says that it asks for.
    pub(crate) user: Option<String>,
    /// `metadata.tags`: a list, or a text with commas.
    pub(crate) tags: Vec<String>,
    /// Where the value of `fallbacks` lies in the body, if it is there.
    pub(crate) fallbacks: Option<Range<usize>>,
    /// Where the first field begins: right after the opening brace.
    pub(crate) first_field: usize,
}

/// `stream_options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StreamOptions {
    /// Where its value lies in the body.
    pub(crate) range: Range<usize>,
    /// Whether the client asked for the usage.
    pub(crate) include_usage: bool,
}

/// Finds the fields.
///
/// # Errors
/// The body is not a JSON object, has no model, or says something twice that must be said once.
pub(crate) fn find(body: &[u8]) -> Result<Fields, Fault> {
    let raw = RawFields::find(body)?;
    let model = raw
        .model
        .as_ref()
        .ok_or_else(|| invalid("model", "The parameter `model` is missing."))?;
    let name: String = serde_json::from_slice(model.text)
        .map_err(|_| invalid("model", "The parameter `model` must be a string."))?;
    if MODEL_BYTES_MAX < name.len() {
        let message = format!("The parameter `model` is longer than {MODEL_BYTES_MAX} bytes.");
        return Err(Fault::of(ErrorKind::InvalidRequest, "model", message));
    }
    let stream = match raw.stream.as_ref().map(|stream| stream.text) {
        None | Some(b"false" | b"null") => false,
        Some(b"true") => true,
        Some(_) => {
            return Err(invalid(
                "stream",
                "The parameter `stream` must be a boolean.",
            ));
        }
    };
    let stream_options = raw.stream_options.as_ref().map(|raw| {
        let options: Option<protocol::openai::StreamOptions> = serde_json::from_slice(raw.text).map_err(|_| {
            invalid("stream_options", "The parameter `stream_options` must be an object like {\"include_usage\": true}.")
        })?;
        let include_usage = options.is_some_and(|options| options.include_usage);
        Ok(StreamOptions { range: raw.range.clone(), include_usage })
    });
    Ok(Fields {
        model: name,
        model_range: model.range.clone(),
        stream,
        stream_options: stream_options.transpose()?,
        output_max: output_max(&raw),
        user: raw.user.as_ref().and_then(end_user),
        tags: raw.metadata.as_ref().map(tags).unwrap_or_default(),
        fallbacks: raw.fallbacks.map(|raw| raw.range),
        first_field: raw.first_field,
    })
}

/// All members: their names, and where their values lie.
///
/// # Errors
/// The body is not a JSON object.
pub(super) fn members(body: &[u8]) -> Result<Vec<(String, Range<usize>)>, Fault> {
    let mut members = Members::of(body).map_err(|error| malformed(&error))?;
    let mut found = Vec::new();
    while let Some(Member { name, range }) = members.next().map_err(|error| malformed(&error))? {
        found.push((name.into_owned(), range));
    }
    Ok(found)
}

fn malformed(error: &InvalidObject) -> Fault {
    let message = format!("The request's body is not valid JSON: {error}.");
    Fault::new(ErrorKind::InvalidRequest, message)
}

/// What is no number is left to the upstream to refuse.
fn output_max(raw: &RawFields<'_>) -> Option<u64> {
    let number = |raw: &Option<Value<'_>>| number(raw.as_ref()?.text);
    let limits = [
        &raw.max_completion_tokens,
        &raw.max_output_tokens,
        &raw.max_tokens,
    ];
    let each = limits.into_iter().find_map(number)?;
    Some(each.saturating_mul(number(&raw.n).unwrap_or(1)))
}

/// A count as generous parsers take it, written as `1e3` or in quotes too: it must not pass for an absent one.
fn number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"');
    let fraction = || text.parse::<f64>().ok().filter(|number| 0.0 <= *number);
    text.parse()
        .ok()
        .or_else(|| Some(fraction()?.ceil() as u64))
}

/// What is no text, or too long for the ledger, is left to the upstream.
fn end_user(raw: &Value<'_>) -> Option<String> {
    let user = serde_json::from_slice::<String>(raw.text).ok()?;
    (user.len() <= USER_BYTES_MAX).then_some(user)
}

/// The tags of a request. What is in another shape is somebody else's.
fn tags(raw: &Value<'_>) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Tags {
        List(Vec<String>),
        Text(String),
    }
    #[derive(Deserialize)]
    struct Metadata {
        tags: Tags,
    }
    match serde_json::from_slice(raw.text) {
        Ok(Metadata {
            tags: Tags::List(tags),
        }) => tags,
        Ok(Metadata {
            tags: Tags::Text(tags),
        }) => tags.split(',').map(|tag| tag.trim().to_owned()).collect(),
        Err(_) => Vec::new(),
    }
}

/// The body with the model of the path, or with the default one if it names none.
///
/// # Errors
/// The body is not a JSON object, or names its model twice.
pub(super) fn name_model(
    body: &Bytes,
    of_path: Option<&str>,
    default: Option<&str>,
) -> Result<Bytes, Fault> {
    let raw = RawFields::find(body)?;
    let named = raw.model.as_ref().filter(|model| model.text != b"null");
    let name = match (of_path, named) {
        (Some(name), _) => name,
        (None, Some(_)) => return Ok(body.clone()),
        (None, None) => default.unwrap_or_default(),
    };
    let name = serde_json::Value::from(name);
    let edit = match raw.model {
        Some(model) => Edit {
            range: model.range,
            replacement: name.to_string(),
        },
        None => {
            let at = raw.first_field;
            let rest = body.get(at..).unwrap_or_default();
            let is_empty = rest.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'}');
            let comma = if is_empty { "" } else { "," };
            Edit {
                range: at..at,
                replacement: format!("\"model\":{name}{comma}"),
            }
        }
    };
    Ok(splice(body, vec![edit]))
}

fn invalid(param: &'static str, message: &str) -> Fault {
    Fault::of(ErrorKind::InvalidRequest, param, message)
}

/// The values, as the bytes that they are in the body.
#[derive(Default)]
struct RawFields<'a> {
    model: Option<Value<'a>>,
    stream: Option<Value<'a>>,
    stream_options: Option<Value<'a>>,
    max_tokens: Option<Value<'a>>,
    max_completion_tokens: Option<Value<'a>>,
    max_output_tokens: Option<Value<'a>>,
    n: Option<Value<'a>>,
    user: Option<Value<'a>>,
    metadata: Option<Value<'a>>,
    fallbacks: Option<Value<'a>>,
    /// Where the first field begins: right after the opening brace.
    first_field: usize,
}

/// A value as it is written, and where.
#[derive(Clone)]
struct Value<'a> {
    text: &'a [u8],
    range: Range<usize>,
}

impl<'a> RawFields<'a> {
    /// Finds them.
    ///
    /// # Errors
    /// The body is not a JSON object, or says something twice that must be said once.
    fn find(body: &'a [u8]) -> Result<Self, Fault> {
        let mut members = Members::of(body).map_err(|error| malformed(&error))?;
        let mut fields = Self {
            first_field: members.at(),
            ..Self::default()
        };
        while let Some(Member { name, range }) =
            members.next().map_err(|error| malformed(&error))?
        {
            let Some(field) = fields.field(&name) else {
                check_spelling(&name)?;
                continue;
            };
            let text = body.get(range.clone()).unwrap_or_default();
            // Parsers differ in which of two equal keys they believe: the upstream could serve what was not allowed.
            if field.replace(Value { text, range }).is_some() {
                let message = format!("The field `{name}` appears twice in the request's body.");
                return Err(Fault::new(ErrorKind::InvalidRequest, message));
            }
        }
        Ok(fields)
    }

    fn field(&mut self, name: &str) -> Option<&mut Option<Value<'a>>> {
        Some(match name {
            "model" => &mut self.model,
            "stream" => &mut self.stream,
            "stream_options" => &mut self.stream_options,
            "max_tokens" => &mut self.max_tokens,
            "max_completion_tokens" => &mut self.max_completion_tokens,
            "max_output_tokens" => &mut self.max_output_tokens,
            "n" => &mut self.n,
            "user" => &mut self.user,
            "metadata" => &mut self.metadata,
            "fallbacks" => &mut self.fallbacks,
            _ => return None,
        })
    }
}

/// Refuses a name that only differs from one of these by its case: some parsers take it for that one, as those of Go do,
/// and the upstream could serve what was not allowed.
fn check_spelling(name: &str) -> Result<(), Fault> {
    if name
        .bytes()
        .all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
    {
        return Ok(());
    }
    // The only other characters whose lower or upper case is a letter of these names: the Kelvin sign and the long s.
    let folded = |letter: char| match letter {
        '\u{212a}' => 'k',
        '\u{17f}' => 's',
        other => other.to_ascii_lowercase(),
    };
    let is_same = |known: &&&str| name.chars().map(folded).eq(known.chars());
    match DECISIVE.iter().find(is_same) {
        None => Ok(()),
        Some(known) => {
            let message = format!("The field `{known}` must be written in lower case.");
            Err(Fault::of(ErrorKind::InvalidRequest, known, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use protocol::openai::ErrorKind;

    use super::{find, name_model};

    #[track_caller]
    fn check(body: &str, model: &str, stream: bool, include_usage: Option<bool>) {
        let fields = find(body.as_bytes()).unwrap();
        assert_eq!((fields.model.as_str(), fields.stream), (model, stream));
        let at_model: String = serde_json::from_str(&body[fields.model_range]).unwrap();
        assert_eq!(at_model, model);
        assert_eq!(
            fields
                .stream_options
                .as_ref()
                .map(|options| options.include_usage),
            include_usage
        );
        if let Some(options) = fields.stream_options {
            assert!(body[options.range].starts_with(['{', 'n']));
        }
        assert_eq!(&body[fields.first_field - 1..fields.first_field], "{");
    }

    #[test]
    fn top_level_fields_are_found_where_they_lie() {
        check(r#"{"model":"a"}"#, "a", false, None);
        check(
            r#"  { "messages": [{"model": "inner"}], "model" : "a" , "stream": true}"#,
            "a",
            true,
            None,
        );
        check(
            r#"{"mod\u0065l":"gr\u00fc\"n","stream":false,"stream_options":null}"#,
            "grü\"n",
            false,
            Some(false),
        );
        check(
            r#"{"model":"a","stream":true,"stream_options": {"include_usage": true, "x": 1}}"#,
            "a",
            true,
            Some(true),
        );
        check(
            r#"{"stream_options":{},"model":"a"}"#,
            "a",
            false,
            Some(false),
        );
    }

    #[track_caller]
    fn check_refused(body: &str, param: Option<&str>, part: &str) {
        let fault = find(body.as_bytes()).unwrap_err();
        assert_eq!(
            (fault.kind, fault.param),
            (ErrorKind::InvalidRequest, param)
        );
        assert!(fault.message.contains(part), "{}", fault.message);
    }

    #[test]
    fn what_is_malformed_or_ambiguous_is_refused() {
        check_refused("", None, "not valid");
        check_refused("{\"model\": ", None, "not valid");
        check_refused("[1]", None, "a JSON object");
        check_refused("{\"model\":\"a\"} x", None, "not valid");
        check_refused(r#"{"model":"a","model":"b"}"#, None, "twice");
        check_refused(r#"{"model":"a","m\u006fdel":"b"}"#, None, "twice");
        check_refused(r#"{"messages":[]}"#, Some("model"), "missing");
        check_refused(r#"{"model":1}"#, Some("model"), "string");
        check_refused(r#"{"model":"a","stream":"yes"}"#, Some("stream"), "boolean");
        check_refused(
            r#"{"model":"a","stream_options":7}"#,
            Some("stream_options"),
            "object",
        );
    }

    #[test]
    fn a_second_model_in_another_case_is_refused() {
        for name in ["Model", "MODEL", "moDel", "m\\u004fdel"] {
            let body = format!(r#"{{"model":"a","{name}":"b"}}"#);
            check_refused(&body, Some("model"), "lower case");
            let body = format!(r#"{{"{name}":"b"}}"#);
            check_refused(&body, Some("model"), "lower case");
        }
        let kelvin = r#"{"model":"a","max_to\u212aens":9}"#;
        check_refused(kelvin, Some("max_tokens"), "lower case");
        check_refused(
            r#"{"model":"a","ſtream":true}"#,
            Some("stream"),
            "lower case",
        );
        check_refused(r#"{"model":"a","N":9}"#, Some("n"), "lower case");
        // What decides nothing is written as its author likes.
        check(
            r#"{"model":"a","User":"b","models":1,"mödel":2}"#,
            "a",
            false,
            None,
        );
        check(
            r#"{"model":"a","messages":[{"Model":"b"}]}"#,
            "a",
            false,
            None,
        );
    }

    #[track_caller]
    fn check_output(fields: &str, expected: Option<u64>) {
        let body = format!(r#"{{"model":"a",{fields}}}"#);
        assert_eq!(find(body.as_bytes()).unwrap().output_max, expected);
    }

    #[test]
    fn the_length_of_an_answer_is_found_whatever_it_is_called() {
        check_output(r#""x":1"#, None);
        check_output(r#""max_tokens":7"#, Some(7));
        check_output(r#""max_completion_tokens":null,"max_tokens":7"#, Some(7));
        check_output(r#""max_output_tokens":7"#, Some(7));
        check_output(r#""max_tokens":7,"n":3"#, Some(21));
        check_output(r#""max_tokens":18446744073709551615,"n":2"#, Some(u64::MAX));
        check_output(r#""max_tokens":-1"#, None);
        check_output(r#""max_tokens":1e3"#, Some(1000));
        check_output(r#""max_tokens":7.0,"n":"2""#, Some(14));
        check_output(r#""max_tokens":1e400"#, Some(u64::MAX));
        check_output(r#""max_tokens":"many""#, None);
        check_output(r#""max_tokens":[7]"#, None);
    }

    #[track_caller]
    fn check_tags(metadata: &str, expected: &[&str]) {
        let body = format!(r#"{{"model":"a","user":"ann","metadata":{metadata}}}"#);
        let fields = find(body.as_bytes()).unwrap();
        assert_eq!(
            (fields.tags, fields.user.as_deref()),
            (
                expected.iter().map(|tag| (*tag).to_owned()).collect(),
                Some("ann")
            )
        );
    }

    #[test]
    fn tags_are_found_in_the_metadata_in_either_shape() {
        check_tags(r#"{"tags":["a","b"],"x":1}"#, &["a", "b"]);
        check_tags(r#"{"x":"1","tags":"a, b"}"#, &["a", "b"]);
        check_tags(r#"{"tags":{"a":1}}"#, &[]);
        check_tags("null", &[]);
        check_tags("7", &[]);
    }

    #[test]
    fn a_name_that_no_ledger_holds_is_refused() {
        let body = |length: usize| format!(r#"{{"model":"{}"}}"#, "m".repeat(length));
        assert!(find(body(1024).as_bytes()).is_ok());
        check_refused(&body(1025), Some("model"), "longer than 1024 bytes");
    }

    #[track_caller]
    fn check_named(body: &'static str, of_path: Option<&str>, expected: &str) {
        let body = Bytes::from_static(body.as_bytes());
        let named = name_model(&body, of_path, Some("de\"fault")).unwrap();
        assert_eq!(named, expected);
        find(&named).unwrap();
    }

    #[test]
    fn a_model_is_put_in_where_there_is_none_or_where_the_path_names_another() {
        check_named("{}", None, r#"{"model":"de\"fault"}"#);
        check_named(" { }", Some("x"), r#" {"model":"x" }"#);
        check_named(r#"{"a":1}"#, None, r#"{"model":"de\"fault","a":1}"#);
        check_named(r#"{"model":null}"#, None, r#"{"model":"de\"fault"}"#);
        check_named(r#"{"model": "a"}"#, None, r#"{"model": "a"}"#);
        check_named(r#"{"model": "a"}"#, Some("x"), r#"{"model": "x"}"#);
        let twice = Bytes::from_static(br#"{"model":"a","model":"b"}"#);
        assert!(name_model(&twice, Some("x"), None).is_err());
    }

    #[test]
    fn depth_is_no_danger() {
        let deep = format!(
            "{{\"model\":\"a\",\"x\":{}1{}}}",
            "[".repeat(100_000),
            "]".repeat(100_000)
        );
        assert_eq!(find(deep.as_bytes()).unwrap().model, "a");
    }
}
