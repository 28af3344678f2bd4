//! The JSONPath of printer columns and selectable fields: `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// A parsed path.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
    Descendants(String),
    Filter { path: Vec<Self>, test: Test },
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Exists,
    Compare(&'static str, Value),
}

impl JsonPath {
    /// Parses a path with or without braces and `$`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or(text);
        let text = text.strip_prefix(['$', '@']).unwrap_or(text);
        Ok(Self {
            steps: steps(text)?,
        })
    }

    /// All values at the path.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        follow(&self.steps, value)
    }

    /// The first value at the path.
    pub fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.find(value).into_iter().next()
    }
}

fn steps(text: &str) -> Result<Vec<Step>, String> {
    let mut out = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let end = closing(inner).ok_or_else(|| format!("unterminated array in {text}"))?;
            out.push(bracket(inner.get(..end).unwrap_or_default().trim())?);
            rest = inner.get(end + 1..).unwrap_or_default();
            continue;
        }
        let is_recursive = rest.starts_with("..");
        rest = rest.trim_start_matches('.');
        let (name, after) = field(rest);
        if name.is_empty() && !rest.starts_with('[') && !rest.is_empty() {
            return Err(format!("unrecognized character in {text}"));
        }
        if is_recursive {
            out.push(Step::Descendants(name));
        } else if name == "*" {
            out.push(Step::All);
        } else if !name.is_empty() {
            out.push(Step::Field(name));
        }
        rest = after;
    }
    Ok(out)
}

/// A field name, in which `\` escapes dots, and what follows it.
fn field(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut symbols = text.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '\\' => name.extend(symbols.next().map(|(_, symbol)| symbol)),
            '.' | '[' => return (name, text.get(at..).unwrap_or_default()),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Where the bracket that is open ends, quotes and inner brackets aside.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_usize, None);
    for (at, symbol) in text.char_indices() {
        match (quote, symbol) {
            (Some(open), symbol) if open == symbol => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(symbol),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(at),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn bracket(text: &str) -> Result<Step, String> {
    if text == "*" {
        return Ok(Step::All);
    }
    if let Some(inner) = text
        .strip_prefix("?(")
        .and_then(|text| text.strip_suffix(')'))
    {
        return filter(inner);
    }
    if let Some(name) = unquoted(text) {
        return Ok(Step::Field(name));
    }
    if let Some((from, to)) = text.split_once(':') {
        let bound = |text: &str| {
            if text.is_empty() {
                Ok(None)
            } else {
                text.parse()
                    .map(Some)
                    .map_err(|_| format!("invalid array index {text}"))
            }
        };
        return Ok(Step::Slice(bound(from)?, bound(to)?));
    }
    text.parse()
        .map(Step::Index)
        .map_err(|_| format!("invalid array index {text}"))
}

fn unquoted(text: &str) -> Option<String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text
            .strip_prefix(quote)
            .and_then(|text| text.strip_suffix(quote))
        {
            return Some(inner.replace("\\.", "."));
        }
    }
    None
}

fn filter(text: &str) -> Result<Step, String> {
    for operator in ["==", "!=", "<=", ">=", "<", ">"] {
        if let Some((left, right)) = text.split_once(operator) {
            let right = right.trim();
            let literal = match unquoted(right) {
                Some(text) => Value::String(text),
                None => serde_json::from_str(right)
                    .map_err(|_| format!("cannot compare with {right}"))?,
            };
            return Ok(Step::Filter {
                path: JsonPath::parse(left)?.steps,
                test: Test::Compare(operator, literal),
            });
        }
    }
    Ok(Step::Filter {
        path: JsonPath::parse(text)?.steps,
        test: Test::Exists,
    })
}

fn follow<'a>(steps: &[Step], value: &'a Value) -> Vec<&'a Value> {
    let mut current = vec![value];
    for step in steps {
        current = current
            .into_iter()
            .flat_map(|value| take(step, value))
            .collect();
    }
    current
}

fn take<'a>(step: &Step, value: &'a Value) -> Vec<&'a Value> {
    let children = |value: &'a Value| -> Vec<&'a Value> {
        match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(fields) => fields.values().collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        }
    };
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    match step {
        Step::Field(name) => value.get(name).into_iter().collect(),
        Step::All => children(value),
        Step::Index(at) => position(*at, items.len())
            .and_then(|at| items.get(at))
            .into_iter()
            .collect(),
        Step::Slice(from, to) => {
            let from = from
                .map_or(Some(0), |from| position(from, items.len()))
                .unwrap_or(items.len());
            let to = to
                .and_then(|to| position(to, items.len()))
                .unwrap_or(items.len());
            items.get(from..to).unwrap_or_default().iter().collect()
        }
        Step::Descendants(name) => {
            let mut out: Vec<&Value> = value.get(name).into_iter().collect();
            for child in children(value) {
                out.extend(take(step, child));
            }
            out
        }
        Step::Filter { path, test } => children(value)
            .into_iter()
            .filter(|item| holds(test, follow(path, item).first().copied()))
            .collect(),
    }
}

/// A position from the start, of one that may count from the end.
fn position(at: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    usize::try_from(if at < 0 { at + length } else { at }).ok()
}

fn holds(test: &Test, value: Option<&Value>) -> bool {
    let (Test::Compare(operator, literal), Some(value)) = (test, value) else {
        return matches!(test, Test::Exists) && value.is_some();
    };
    let order = match (value, literal) {
        (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
        (Value::Number(left), Value::Number(right)) => left.as_f64().partial_cmp(&right.as_f64()),
        (left, right) => (left == right).then_some(std::cmp::Ordering::Equal),
    };
    match *operator {
        "==" => value == literal,
        "!=" => value != literal,
        "<" => order.is_some_and(std::cmp::Ordering::is_lt),
        ">" => order.is_some_and(std::cmp::Ordering::is_gt),
        "<=" => order.is_some_and(std::cmp::Ordering::is_le),
        _ => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: &Value) {
        let object = json!({"metadata": {"name": "n", "labels": {"a.b/c": "x"}},
            "status": {"conditions": [{"type": "A", "status": "False"}, {"type": "Ready", "status": "True"}], "n": [1, 2, 3]}});
        let found = JsonPath::parse(path)
            .unwrap()
            .find(&object)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>();
        assert_eq!(Value::Array(found), *expected, "{path}");
    }

    #[test]
    fn paths_find_values() {
        check(".metadata.name", &json!(["n"]));
        check("{.metadata.name}", &json!(["n"]));
        check("$.metadata.name", &json!(["n"]));
        check(
            ".status.conditions[?(@.type==\"Ready\")].status",
            &json!(["True"]),
        );
        check(
            ".status.conditions[?(@.type=='Ready')].status",
            &json!(["True"]),
        );
        check(
            ".status.conditions[?(@.type!=\"Ready\")].type",
            &json!(["A"]),
        );
        check(".status.conditions[*].type", &json!(["A", "Ready"]));
        check(".status.conditions[-1].type", &json!(["Ready"]));
        check(".status.n[0]", &json!([1]));
        check(".status.n[1:]", &json!([2, 3]));
        check(".metadata.labels.a\\.b/c", &json!(["x"]));
        check(".metadata.labels['a\\.b/c']", &json!(["x"]));
        check(".missing.field", &json!([]));
        check("..type", &json!(["A", "Ready"]));
    }

    #[test]
    fn broken_paths_are_refused() {
        for path in [".a[", ".a[x]", ".a[?(@.b==)]"] {
            assert!(JsonPath::parse(path).is_err(), "{path}");
        }
    }
}
