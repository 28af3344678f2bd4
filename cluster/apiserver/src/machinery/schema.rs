//! Structural schemas: one tree that prunes, defaults, validates, merges and describes objects.
//!
//! Custom resources bring theirs in their definition; built-in kinds take theirs from [`super::builtin`], whose nodes refer
//! to each other by name because some are recursive.

mod cel;
mod check;
mod default;
mod formats;
mod lists;
mod parse;
mod path;
mod prune;
mod validate;

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;
use serde_json::Value;

use super::builtin;
use crate::status::Cause;

pub use self::validate::Context;

pub(crate) use self::check::check_crd_schema;
pub(crate) use self::parse::parse_definition;
pub(crate) use self::path::{child, index};

/// What a schema says a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A JSON object.
    Object,
    /// A JSON array.
    Array,
    /// A string.
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
}

/// How the items of a list are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ListType {
    /// Not at all: the list is one value.
    #[default]
    Atomic,
    /// By their value.
    Set,
    /// By these of their fields.
    Map(Vec<String>),
}

/// What may stand in an object beside its declared properties.
#[derive(Debug, Clone, Default)]
pub enum Additional {
    /// Nothing.
    #[default]
    None,
    /// Anything.
    Any,
    /// Values of this schema.
    Schema(Node),
}

/// What strategic merge patch does with a field.
#[derive(Debug, Clone, Default)]
pub struct PatchHints {
    /// Merge lists item by item rather than replace them.
    pub is_merged: bool,
    /// Fields that the patch does not list in `$retainKeys` go.
    pub retains_keys: bool,
    /// The field that identifies an item of a merged list.
    pub merge_key: Option<String>,
}

/// A schema as it stands under a property, as items or as additional properties.
#[derive(Debug, Clone)]
pub struct Node {
    target: Target,
    /// Hints of strategic merge patch, which belong to the place and not to the type.
    pub patch: PatchHints,
    /// Default of this place.
    pub default: Option<Value>,
}

#[derive(Debug, Clone)]
enum Target {
    Here(Box<Structural>),
    Named(String),
}

impl Node {
    /// The schema itself.
    pub fn schema(&self) -> &Structural {
        match &self.target {
            Target::Here(schema) => schema,
            Target::Named(name) => builtin::definition(name),
        }
    }

    /// The name of its definition, if it is not declared in place.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.target {
            Target::Here(_) => None,
            Target::Named(name) => Some(name),
        }
    }

    /// The default of this place, or else of its type.
    pub fn default_value(&self) -> Option<&Value> {
        self.default.as_ref().or(self.schema().default.as_ref())
    }
}

/// Limits on a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    pub(crate) format: Option<String>,
    pub(crate) pattern: Option<Regex>,
    pub(crate) pattern_text: String,
    pub(crate) allowed: Vec<Value>,
    pub(crate) length_min: Option<u64>,
    pub(crate) length_max: Option<u64>,
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) is_minimum_exclusive: bool,
    pub(crate) is_maximum_exclusive: bool,
    pub(crate) multiple_of: Option<f64>,
    pub(crate) items_min: Option<u64>,
    pub(crate) items_max: Option<u64>,
    pub(crate) has_unique_items: bool,
    pub(crate) properties_min: Option<u64>,
    pub(crate) properties_max: Option<u64>,
    pub(crate) required: Vec<String>,
    pub(crate) all_of: Vec<Structural>,
    pub(crate) any_of: Vec<Structural>,
    pub(crate) one_of: Vec<Structural>,
    pub(crate) not: Option<Box<Structural>>,
}

/// A schema node.
#[derive(Debug, Clone, Default)]
pub struct Structural {
    /// The declared type; `None` when any will do.
    pub kind: Option<Kind>,
    /// `null` is a value of it.
    pub is_nullable: bool,
    /// A whole number or a string.
    pub is_int_or_string: bool,
    /// Undeclared fields are kept.
    pub preserves_unknown: bool,
    /// The object is a Kubernetes object itself.
    pub is_embedded: bool,
    /// The object is one value to server-side apply.
    pub is_atomic_map: bool,
    /// How items are told apart.
    pub list_type: ListType,
    /// Declared fields.
    pub properties: BTreeMap<String, Node>,
    /// Undeclared fields.
    pub additional: Additional,
    /// Schema of list items.
    pub items: Option<Node>,
    /// Value of a missing field.
    pub default: Option<Value>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) rules: Option<Arc<cel::Rules>>,
    pub(crate) has_rules_below: bool,
    /// The schema of a built-in kind.
    pub is_builtin: bool,
}

impl Structural {
    /// Reads the `openAPIV3Schema` of a custom resource definition; the fields that every object has are added.
    ///
    /// # Errors
    /// A cause per place where the schema is not structural.
    pub fn from_crd_schema(schema: &Value) -> Result<Self, Vec<Cause>> {
        let causes = check_crd_schema(schema, "spec.validation.openAPIV3Schema");
        if causes.is_empty() {
            Ok(parse::parse_root(schema))
        } else {
            Err(causes)
        }
    }

    /// The schema of one of an object's fields.
    pub fn field(&self, name: &str) -> Option<&Node> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(node) => Some(node),
            Additional::None | Additional::Any => None,
        })
    }
}

#[cfg(test)]
mod tests;
