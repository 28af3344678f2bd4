//! A call written as a JSON object, read as it comes: `{"name": "f", "arguments": {…}}`.
//!
//! Only as much is understood as is needed to find the name and the arguments; the arguments are passed on as they
//! are. Nothing recurses, so no depth is too deep.

use super::calls::{Found, NotACall};

const NAME_BYTES_MAX: usize = 128;
const KEY_BYTES_MAX: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    KeyOrEnd,
    Key,
    InKey { is_escaped: bool },
    Colon,
    BeforeValue(Role),
    Value(Role),
    AfterValue,
}

/// What a value is to the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Name,
    Arguments,
    Other,
}

/// One call, up to its closing brace.
#[derive(Debug)]
pub(super) struct ObjectCall {
    place: Place,
    /// The key or the value that is being read, if it is needed as a whole.
    text: String,
    value: Value,
    has_name: bool,
    has_arguments: bool,
    /// Arguments that came before the name.
    early: String,
}

impl ObjectCall {
    pub(super) const fn new() -> Self {
        Self {
            place: Place::Start,
            text: String::new(),
            value: Value::Scalar,
            has_name: false,
            has_arguments: false,
            early: String::new(),
        }
    }

    /// A call whose name is known already and whose arguments are the object that follows.
    pub(super) fn arguments_of_named() -> Self {
        Self {
            place: Place::BeforeValue(Role::Arguments),
            has_name: true,
            ..Self::new()
        }
    }

    pub(super) fn feed(&mut self, next: char, found: &mut Vec<Found>) -> Result<(), NotACall> {
        let is_space = next.is_ascii_whitespace();
        match self.place {
            Place::InKey { is_escaped } => return self.feed_key(next, is_escaped),
            Place::Value(role) => return self.feed_value(role, next, found),
            Place::BeforeValue(role) if !is_space => return self.begin_value(role, next, found),
            _ if is_space => {}
            Place::Start if next == '{' => self.place = Place::KeyOrEnd,
            Place::KeyOrEnd | Place::Key if next == '"' => {
                self.text.clear();
                self.text.push(next);
                self.place = Place::InKey { is_escaped: false };
            }
            Place::Colon if next == ':' => self.place = Place::BeforeValue(self.role()?),
            Place::AfterValue if next == ',' => self.place = Place::Key,
            Place::KeyOrEnd | Place::AfterValue if next == '}' => return self.end(found),
            _ => return Err(NotACall),
        }
        Ok(())
    }

    fn feed_key(&mut self, next: char, is_escaped: bool) -> Result<(), NotACall> {
        self.text.push(next);
        if KEY_BYTES_MAX < self.text.len() {
            return Err(NotACall);
        }
        self.place = match next {
            '"' if !is_escaped => Place::Colon,
            _ => Place::InKey {
                is_escaped: next == '\\' && !is_escaped,
            },
        };
        Ok(())
    }

    /// What the value of the key just read is.
    fn role(&self) -> Result<Role, NotACall> {
        let key: String = serde_json::from_str(&self.text).map_err(|_| NotACall)?;
        Ok(match key.as_str() {
            "name" if !self.has_name => Role::Name,
            "arguments" | "parameters" if !self.has_arguments => Role::Arguments,
            _ => Role::Other,
        })
    }

    fn begin_value(
        &mut self,
        role: Role,
        next: char,
        found: &mut Vec<Found>,
    ) -> Result<(), NotACall> {
        self.value = Value::begin(next);
        self.text.clear();
        self.place = Place::Value(role);
        match (role, &self.value) {
            (Role::Name, Value::Text { .. }) | (Role::Arguments | Role::Other, _) => {}
            (Role::Name, _) => return Err(NotACall),
        }
        self.keep(role, next, found)
    }

    fn feed_value(
        &mut self,
        role: Role,
        next: char,
        found: &mut Vec<Found>,
    ) -> Result<(), NotACall> {
        match self.value.feed(next) {
            Step::Inside => self.keep(role, next, found),
            Step::Last => {
                self.keep(role, next, found)?;
                self.end_value(role, found)
            }
            Step::Behind => {
                self.end_value(role, found)?;
                self.feed(next, found)
            }
        }
    }

    /// Passes arguments on, keeps what is needed as a whole, and forgets the rest.
    fn keep(&mut self, role: Role, next: char, found: &mut Vec<Found>) -> Result<(), NotACall> {
        match role {
            Role::Arguments if self.is_object() => {
                if self.has_name {
                    Found::add(found, next);
                } else {
                    self.early.push(next);
                }
            }
            Role::Name | Role::Arguments => self.text.push(next),
            Role::Other => {}
        }
        if role == Role::Name && 6 * NAME_BYTES_MAX < self.text.len() {
            return Err(NotACall);
        }
        Ok(())
    }

    const fn is_object(&self) -> bool {
        matches!(
            self.value,
            Value::Nested {
                is_object: true,
                ..
            }
        )
    }

    fn end_value(&mut self, role: Role, found: &mut Vec<Found>) -> Result<(), NotACall> {
        match role {
            Role::Name => {
                let name: String = serde_json::from_str(&self.text).map_err(|_| NotACall)?;
                if name.is_empty() || NAME_BYTES_MAX < name.len() {
                    return Err(NotACall);
                }
                found.push(Found::Name(name));
                self.has_name = true;
                if !self.early.is_empty() {
                    found.push(Found::Arguments(std::mem::take(&mut self.early)));
                }
            }
            Role::Arguments => {
                self.has_arguments = true;
                if !self.is_object() {
                    let text = plain_arguments(&self.text);
                    if self.has_name {
                        found.push(Found::Arguments(text));
                    } else {
                        self.early = text;
                    }
                }
            }
            Role::Other => {}
        }
        self.place = Place::AfterValue;
        Ok(())
    }

    fn end(&mut self, found: &mut Vec<Found>) -> Result<(), NotACall> {
        if !self.has_name {
            return Err(NotACall);
        }
        if !self.has_arguments {
            found.push(Found::Arguments("{}".to_owned()));
        }
        found.push(Found::End);
        Ok(())
    }

    /// Whether the arguments of a named call are complete: nothing closes such a call but their own end.
    pub(super) fn is_behind_arguments(&self) -> bool {
        self.place == Place::AfterValue
    }
}

/// Arguments that are no object: text with an object in it, as some models write, or nothing.
fn plain_arguments(text: &str) -> String {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::String(inner)) => inner,
        Ok(serde_json::Value::Null) => "{}".to_owned(),
        _ => text.to_owned(),
    }
}

/// A value while it is read.
#[derive(Debug)]
enum Value {
    Text {
        is_escaped: bool,
    },
    Nested {
        is_object: bool,
        depth: usize,
        in_text: bool,
        is_escaped: bool,
    },
    Scalar,
}

/// Where a character of a value stands.
enum Step {
    Inside,
    Last,
    Behind,
}

impl Value {
    const fn begin(first: char) -> Self {
        match first {
            '"' => Self::Text { is_escaped: false },
            '{' | '[' => Self::Nested {
                is_object: first == '{',
                depth: 1,
                in_text: false,
                is_escaped: false,
            },
            _ => Self::Scalar,
        }
    }

    fn feed(&mut self, next: char) -> Step {
        match self {
            Self::Scalar if ",}]".contains(next) || next.is_ascii_whitespace() => Step::Behind,
            Self::Scalar => Step::Inside,
            Self::Text { is_escaped } => match next {
                '"' if !*is_escaped => Step::Last,
                _ => {
                    *is_escaped = next == '\\' && !*is_escaped;
                    Step::Inside
                }
            },
            Self::Nested {
                depth,
                in_text,
                is_escaped,
                ..
            } => {
                match next {
                    '"' if !*is_escaped => *in_text = !*in_text,
                    '{' | '[' if !*in_text => *depth += 1,
                    '}' | ']' if !*in_text => *depth -= 1,
                    _ => {}
                }
                *is_escaped = *in_text && next == '\\' && !*is_escaped;
                if *depth == 0 {
                    Step::Last
                } else {
                    Step::Inside
                }
            }
        }
    }
}
