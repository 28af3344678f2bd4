//! Label and field selectors: parsed once, matched often.

use serde_json::{Map, Value};

use crate::status::{ApiError, quoted};

/// A conjunction of label requirements; empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector {
    requirements: Vec<Requirement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
    Greater(i64),
    Less(i64),
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = value.and_then(|text| text.parse::<i64>().ok());
        match &self.test {
            Test::In(values) => value.is_some_and(|value| values.iter().any(|one| one == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|one| one != value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
            Test::Greater(bound) => number.is_some_and(|number| number > *bound),
            Test::Less(bound) => number.is_some_and(|number| number < *bound),
        }
    }
}

impl LabelSelector {
    /// Reads the form of the query parameter: `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// 400 in the real server's words.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut tokens = Tokens::new(text);
        let mut requirements = Vec::new();
        if tokens.peek() == Token::End {
            return Ok(Self::default());
        }
        loop {
            requirements.push(requirement(&mut tokens)?);
            match tokens.next() {
                Token::End => break,
                Token::Comma if tokens.peek() != Token::End => {}
                Token::Comma => return Err(unparsable("found '', expected: identifier after ','")),
                other => {
                    return Err(unparsable(&format!(
                        "found '{}', expected: ',' or 'end of string'",
                        other.text()
                    )));
                }
            }
        }
        requirements.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(Self { requirements })
    }

    /// Reads a `metav1.LabelSelector` (`matchLabels`, `matchExpressions`).
    ///
    /// # Errors
    /// 400 for an unknown operator.
    pub fn from_object(selector: &Value) -> Result<Self, ApiError> {
        let mut requirements = Vec::new();
        for (key, value) in selector
            .get("matchLabels")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
        {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement {
                key: key.clone(),
                test: Test::In(vec![value]),
            });
        }
        for expression in selector
            .get("matchExpressions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let key = expression
                .get("key")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let values = expression
                .get("values")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let values: Vec<String> = values
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect();
            let test = match expression
                .get("operator")
                .and_then(Value::as_str)
                .unwrap_or_default()
            {
                "In" => Test::In(values),
                "NotIn" => Test::NotIn(values),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Missing,
                other => {
                    return Err(ApiError::bad_request(format!(
                        "{} is not a valid label selector operator",
                        quoted(other)
                    )));
                }
            };
            requirements.push(Requirement { key, test });
        }
        Ok(Self { requirements })
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether an object with these `metadata.labels` is selected.
    pub fn matches(&self, labels: Option<&Value>) -> bool {
        let labels = labels.and_then(Value::as_object);
        self.matches_map(labels)
    }

    fn matches_map(&self, labels: Option<&Map<String, Value>>) -> bool {
        self.requirements.iter().all(|requirement| {
            requirement.holds(
                labels
                    .and_then(|labels| labels.get(&requirement.key))
                    .and_then(Value::as_str),
            )
        })
    }

    /// Whether labels kept as plain text are selected.
    pub fn matches_by(&self, label: impl Fn(&str) -> Option<String>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.holds(label(&requirement.key).as_deref()))
    }
}

fn unparsable(why: &str) -> ApiError {
    ApiError::bad_request(format!("unable to parse requirement: {why}"))
}

fn requirement(tokens: &mut Tokens<'_>) -> Result<Requirement, ApiError> {
    let negated = tokens.peek() == Token::Not;
    if negated {
        tokens.next();
    }
    let key = match tokens.next() {
        Token::Word(word) => word,
        other => {
            return Err(unparsable(&format!(
                "found '{}', expected: !, identifier, or 'end of string'",
                other.text()
            )));
        }
    };
    check_key(&key)?;
    if negated {
        return Ok(Requirement {
            key,
            test: Test::Missing,
        });
    }
    if matches!(tokens.peek(), Token::End | Token::Comma) {
        return Ok(Requirement {
            key,
            test: Test::Exists,
        });
    }
    let operator = tokens.next();
    let test = match operator.text() {
        "=" | "==" => Test::In(vec![tokens.value()?]),
        "!=" => Test::NotIn(vec![tokens.value()?]),
        "in" => Test::In(tokens.values()?),
        "notin" => Test::NotIn(tokens.values()?),
        ">" | "gt" => Test::Greater(bound(&tokens.value()?)?),
        "<" | "lt" => Test::Less(bound(&tokens.value()?)?),
        other => {
            return Err(unparsable(&format!(
                "found '{other}', expected: in, notin, =, ==, !=, gt, lt"
            )));
        }
    };
    Ok(Requirement { key, test })
}

fn bound(text: &str) -> Result<i64, ApiError> {
    text.parse().map_err(|_| {
        unparsable(&format!(
            "values[0]: Invalid value: {}: for 'Gt', 'Lt' operators, the value must be an integer",
            quoted(text)
        ))
    })
}

/// Keys are qualified names.
fn check_key(key: &str) -> Result<(), ApiError> {
    let name = key.rsplit('/').next().unwrap_or(key);
    let is_edge = |symbol: char| symbol.is_ascii_alphanumeric();
    let fits = !name.is_empty()
        && name.len() <= 63
        && name.starts_with(is_edge)
        && name.ends_with(is_edge)
        && name
            .chars()
            .all(|symbol| is_edge(symbol) || matches!(symbol, '-' | '_' | '.'));
    if fits {
        return Ok(());
    }
    let rule = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    Err(unparsable(&format!(
        "key: Invalid value: {}: {rule}",
        quoted(key)
    )))
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Symbol(&'static str),
    Comma,
    Not,
    Open,
    Close,
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Self::Word(word) => word,
            Self::Symbol(symbol) => symbol,
            Self::Comma => ",",
            Self::Not => "!",
            Self::Open => "(",
            Self::Close => ")",
            Self::End => "",
        }
    }
}

struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Tokens<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text }
    }

    fn split(&self) -> (Token, &'a str) {
        const SYMBOLS: [&str; 5] = ["==", "!=", "=", ">", "<"];
        let text = self.rest.trim_start();
        for symbol in SYMBOLS {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (Token::Symbol(symbol), rest);
            }
        }
        for (symbol, token) in [
            (',', Token::Comma),
            ('!', Token::Not),
            ('(', Token::Open),
            (')', Token::Close),
        ] {
            if let Some(rest) = text.strip_prefix(symbol) {
                return (token, rest);
            }
        }
        let is_end = |symbol: char| symbol.is_whitespace() || "=!,()><".contains(symbol);
        let (word, rest) = text.split_at(text.find(is_end).unwrap_or(text.len()));
        if word.is_empty() {
            (Token::End, rest)
        } else {
            (Token::Word(word.to_owned()), rest)
        }
    }

    fn peek(&self) -> Token {
        self.split().0
    }

    fn next(&mut self) -> Token {
        let (token, rest) = self.split();
        self.rest = rest;
        token
    }

    fn value(&mut self) -> Result<String, ApiError> {
        match self.peek() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.next();
                Ok(word)
            }
            other => Err(unparsable(&format!(
                "found '{}', expected: identifier",
                other.text()
            ))),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, ApiError> {
        let opening = self.next();
        if opening != Token::Open {
            return Err(unparsable(&format!(
                "found '{}' expected: '('",
                opening.text()
            )));
        }
        let mut out = Vec::new();
        loop {
            match self.next() {
                Token::Word(word) => out.push(word),
                Token::Comma => {}
                Token::Close => return Ok(out),
                other => {
                    return Err(unparsable(&format!(
                        "found '{}', expected: ',', ')' or identifier",
                        other.text()
                    )));
                }
            }
        }
    }
}

/// One term of a field selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Field label, for example `metadata.name`.
    pub path: String,
    /// The wanted (or unwanted) value.
    pub value: String,
    /// `!=` rather than `=`.
    pub is_negated: bool,
}

/// A conjunction of comparisons of fields; empty selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

impl FieldSelector {
    /// Reads the form of the query parameter: `a=b,c!=d`, with `\` escaping `,`, `=` and itself.
    ///
    /// # Errors
    /// 400 when a term has no operator.
    pub fn parse(text: &str) -> Result<Self, ApiError> {
        let mut terms = Vec::new();
        for part in split_terms(text) {
            if part.is_empty() {
                continue;
            }
            terms.push(term(&part).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid field selector: invalid selector: '{text}'; can't understand '{part}'"
                ))
            })?);
        }
        Ok(Self { terms })
    }

    /// The comparisons, to check that their fields are selectable.
    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    /// Whether everything is selected.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that a field must have, if a term says so.
    pub fn exact(&self, path: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|term| term.path == path && !term.is_negated)
            .map(|term| term.value.as_str())
    }

    /// Whether an object with these field values is selected.
    pub fn matches(&self, field: impl Fn(&str) -> String) -> bool {
        self.terms
            .iter()
            .all(|term| (field(&term.path) == term.value) != term.is_negated)
    }
}

fn split_terms(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut is_escaped = false;
    for symbol in text.chars() {
        if symbol == ',' && !is_escaped {
            parts.push(String::new());
            continue;
        }
        if let Some(last) = parts.last_mut() {
            last.push(symbol);
        }
        is_escaped = symbol == '\\' && !is_escaped;
    }
    parts
}

fn term(part: &str) -> Option<Term> {
    let mut is_escaped = false;
    for (at, symbol) in part.char_indices() {
        let rest = part.get(at..)?;
        if !is_escaped {
            for (operator, is_negated) in [("!=", true), ("==", false), ("=", false)] {
                if let Some(value) = rest.strip_prefix(operator) {
                    let path = part.get(..at)?.to_owned();
                    return Some(Term {
                        path,
                        value: unescaped(value),
                        is_negated,
                    });
                }
            }
        }
        is_escaped = symbol == '\\' && !is_escaped;
    }
    None
}

fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut symbols = text.chars();
    while let Some(symbol) = symbols.next() {
        let next = if symbol == '\\' { symbols.next() } else { None };
        out.push(next.unwrap_or(symbol));
    }
    out
}

#[cfg(test)]
mod tests;
