//! Sets of field paths, and their `FieldsV1` form.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::shape::Type;

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Into a field of an object.
    Field(String),
    /// To the item of a list with these key fields; values are kept as JSON text.
    Key(Vec<(String, String)>),
    /// To the item of a set, kept as JSON text.
    Value(String),
    /// To an item by position.
    Index(usize),
}

impl Step {
    fn parse(text: &str) -> Option<Self> {
        let (prefix, rest) = text.split_once(':')?;
        Some(match prefix {
            "f" => Self::Field(rest.to_owned()),
            "v" => Self::Value(serde_json::from_str::<Value>(rest).ok()?.to_string()),
            "i" => Self::Index(rest.parse().ok()?),
            "k" => {
                let Ok(Value::Object(keys)) = serde_json::from_str::<Value>(rest) else {
                    return None;
                };
                let mut keys: Vec<_> = keys
                    .into_iter()
                    .map(|(name, value)| (name, value.to_string()))
                    .collect();
                keys.sort();
                Self::Key(keys)
            }
            _ => return None,
        })
    }

    fn encode(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(text) => format!("v:{text}"),
            Self::Index(at) => format!("i:{at}"),
            Self::Key(keys) => {
                let parts: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{}:{value}", json!(name)))
                    .collect();
                format!("k:{{{}}}", parts.join(","))
            }
        }
    }

    /// The step as it stands in messages.
    pub(super) fn display(&self) -> String {
        match self {
            Self::Field(name) => format!(".{name}"),
            Self::Value(text) => format!("[={text}]"),
            Self::Index(at) => format!("[{at}]"),
            Self::Key(keys) => {
                let parts: Vec<String> = keys
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                format!("[{}]", parts.join(","))
            }
        }
    }
}

/// A set of paths, as a tree: members end here, children go on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FieldSet {
    members: BTreeSet<Step>,
    children: BTreeMap<Step, Self>,
}

impl FieldSet {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.values().all(Self::is_empty)
    }

    pub(super) fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(super) fn insert_fields(&mut self, path: &[&str]) {
        let steps: Vec<Step> = path
            .iter()
            .map(|name| Step::Field((*name).to_owned()))
            .collect();
        self.insert(&steps);
    }

    pub(super) fn has_member(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    /// What the set says about what lies behind a step.
    pub(super) fn below(&self, step: &Step) -> Option<&Self> {
        self.children.get(step).filter(|set| !set.is_empty())
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.members.extend(other.members.iter().cloned());
        for (step, set) in &other.children {
            let child = out.children.entry(step.clone()).or_default();
            *child = child.union(set);
        }
        out
    }

    pub(super) fn intersection(&self, other: &Self) -> Self {
        let members = self.members.intersection(&other.members).cloned().collect();
        let shared = self
            .children
            .iter()
            .filter_map(|(step, set)| Some((step, set, other.children.get(step)?)));
        let children = shared
            .map(|(step, set, theirs)| (step.clone(), set.intersection(theirs)))
            .filter(|(_, set)| !set.is_empty())
            .collect();
        Self { members, children }
    }

    /// The paths of this set that are not in the other; what lies below a path of the other stays.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let members = self.members.difference(&other.members).cloned().collect();
        let children = self
            .children
            .iter()
            .map(|(step, set)| {
                (
                    step.clone(),
                    other
                        .children
                        .get(step)
                        .map_or_else(|| set.clone(), |theirs| set.difference(theirs)),
                )
            })
            .filter(|(_, set)| !set.is_empty())
            .collect();
        Self { members, children }
    }

    pub(super) fn strip(&mut self, other: &Self) {
        *self = self.difference(other);
    }

    /// Without these fields of the object and all below them.
    pub(super) fn without_top_level(mut self, names: &[&str]) -> Self {
        let is_named =
            |step: &Step| matches!(step, Step::Field(name) if names.contains(&name.as_str()));
        self.members.retain(|step| !is_named(step));
        self.children.retain(|step, _| !is_named(step));
        self
    }

    /// With every declared field on the way to a path as a path of its own.
    pub(super) fn with_named_fields(&self, kind: Type<'_>) -> Self {
        let mut members = self.members.clone();
        let mut children = BTreeMap::new();
        for (step, set) in &self.children {
            if let Step::Field(name) = step
                && kind.declares(name)
            {
                members.insert(step.clone());
            }
            let below = match step {
                Step::Field(name) => kind.field(name),
                Step::Key(_) | Step::Value(_) | Step::Index(_) => kind.item(),
            };
            children.insert(step.clone(), set.with_named_fields(below));
        }
        Self { members, children }
    }

    /// All paths in order, as they stand in messages.
    pub(super) fn display(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect("", &mut out);
        out
    }

    fn collect(&self, prefix: &str, out: &mut Vec<String>) {
        let path = |step: &Step| format!("{prefix}{}", step.display());
        out.extend(self.members.iter().map(path));
        for (step, child) in &self.children {
            child.collect(&path(step), out);
        }
    }

    /// Reads the `FieldsV1` form.
    pub(super) fn decode(fields: &Value) -> Option<Self> {
        let mut out = Self::default();
        for (text, below) in fields.as_object()? {
            if text == "." {
                continue;
            }
            let step = Step::parse(text)?;
            let child = Self::decode(below)?;
            let is_member = child.is_empty() || below.get(".").is_some();
            if is_member {
                out.members.insert(step.clone());
            }
            if !child.is_empty() {
                out.children.insert(step, child);
            }
        }
        Some(out)
    }

    /// Writes the `FieldsV1` form.
    pub(super) fn encode(&self) -> Value {
        let mut out = Map::new();
        let steps: BTreeSet<&Step> = self.members.iter().chain(self.children.keys()).collect();
        for step in steps {
            let below = match self.below(step).map(Self::encode) {
                Some(Value::Object(below)) => {
                    let mut with_self = Map::new();
                    if self.members.contains(step) {
                        with_self.insert(".".to_owned(), json!({}));
                    }
                    with_self.extend(below);
                    with_self
                }
                _ if self.members.contains(step) => Map::new(),
                _ => continue,
            };
            out.insert(step.encode(), Value::Object(below));
        }
        Value::Object(out)
    }
}
