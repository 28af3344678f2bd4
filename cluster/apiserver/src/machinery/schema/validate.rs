//! Validation: the faults of an object, worded and ordered as the real server does.
//!
//! What an update leaves as it was is not complained about again (ratcheting).

use serde_json::{Map, Value};

use super::lists::canonical;
use super::{Additional, Kind, ListType, Node, Structural, child, formats, index};
use crate::machinery::crd::ScalePaths;
use crate::status::Cause;

/// What the caller knows besides the schema.
#[derive(Debug, Default)]
pub struct Context<'a> {
    /// Faults of type and metadata, which come first.
    pub before: Vec<Cause>,
    /// The scale subresource, whose replica counts must not be negative.
    pub scale: Option<&'a ScalePaths>,
}

const UNCHECKED: &str = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";

impl Structural {
    /// All faults of an object; `old` is what an update replaces.
    pub fn validate(&self, value: &Value, old: Option<&Value>, context: Context<'_>) -> Vec<Cause> {
        let mut causes = context.before;
        self.check_values(value, old, "", &mut causes);
        if let Some(scale) = context.scale {
            causes.extend(scale.check(value));
        }
        self.check_embedded(value, "", false, &mut causes);
        let mut old_faults = Vec::new();
        if let Some(old) = old {
            self.check_lists(old, "", &mut old_faults);
        }
        if old_faults.is_empty() {
            self.check_lists(value, "", &mut causes);
        }
        if !self.has_rules() {
            return causes;
        }
        if causes.iter().any(is_blocking) {
            causes.push(Cause::invalid("<nil>", &Value::Null, UNCHECKED));
        } else {
            self.check_rules(value, old, "", &mut causes);
        }
        causes
    }

    /// Faults of types and limits, of a value that stands at `path`.
    pub(super) fn check_values(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        if old == Some(value) {
            return;
        }
        if value.is_null() && self.is_nullable {
            return;
        }
        let has_type = self.check_type(value, path, causes);
        self.check_branches(value, path, causes);
        match value {
            Value::String(text) => self.check_string(text, path, causes),
            Value::Number(number) => {
                self.check_number(number.as_f64().unwrap_or_default(), value, path, causes);
            }
            Value::Array(items) => self.check_array(items, value, old, path, causes),
            Value::Null | Value::Bool(_) | Value::Object(_) => {}
        }
        if !self.limits.allowed.is_empty() && !self.limits.allowed.contains(value) {
            let supported: Vec<String> = self.limits.allowed.iter().map(plain).collect();
            causes.push(Cause::not_supported(path, value, &supported));
        }
        if let Value::Object(fields) = value
            && has_type
        {
            self.check_object(fields, old, path, causes);
        }
    }

    fn check_type(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) -> bool {
        let actual = type_name(value);
        let (fits, expected) = if self.is_int_or_string {
            (matches!(actual, "integer" | "string"), "integer,string")
        } else {
            match self.kind {
                None => (true, ""),
                Some(Kind::Object) => (actual == "object", "object"),
                Some(Kind::Array) => (actual == "array", "array"),
                Some(Kind::String) => (actual == "string", "string"),
                Some(Kind::Integer) => (actual == "integer", "integer"),
                Some(Kind::Number) => (matches!(actual, "integer" | "number"), "number"),
                Some(Kind::Boolean) => (actual == "boolean", "boolean"),
            }
        };
        if !fits {
            let detail = format!("{path} in body must be of type {expected}: \"{actual}\"");
            causes.push(Cause::type_invalid(
                path,
                &Value::String(actual.to_owned()),
                &detail,
            ));
            return false;
        }
        let is_int32 = self.limits.format.as_deref() == Some("int32");
        if is_int32
            && value
                .as_i64()
                .is_some_and(|number| i32::try_from(number).is_err())
        {
            let detail = format!("{path} in body must be of type int32: \"int64\"");
            causes.push(Cause::type_invalid(
                path,
                &Value::String("int64".to_owned()),
                &detail,
            ));
        }
        true
    }

    fn check_string(&self, text: &str, path: &str, causes: &mut Vec<Cause>) {
        let limits = &self.limits;
        let value = Value::String(text.to_owned());
        let length = text.chars().count() as u64;
        if let Some(max) = limits.length_max
            && length > max
        {
            causes.push(Cause::too_long(
                path,
                &format!("may not be more than {max} {}", plural(max, "character")),
            ));
        }
        if let Some(min) = limits.length_min
            && length < min
        {
            let detail = format!("{path} in body should be at least {min} chars long");
            causes.push(Cause::invalid(path, &value, &detail));
        }
        if limits
            .pattern
            .as_ref()
            .is_some_and(|pattern| !pattern.is_match(text))
        {
            let detail = format!("{path} in body should match '{}'", limits.pattern_text);
            causes.push(Cause::invalid(path, &value, &detail));
        }
        if let Some(format) = &limits.format
            && !self.is_int_or_string
            && !formats::holds(format, text)
        {
            let detail = format!(
                "{path} in body must be of type {format}: {}",
                crate::status::quoted(text)
            );
            causes.push(Cause::type_invalid(path, &value, &detail));
        }
    }

    fn check_number(&self, number: f64, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let limits = &self.limits;
        let mut complain = |detail: String| {
            causes.push(Cause::invalid(
                path,
                value,
                &format!("{path} in body should be {detail}"),
            ));
        };
        if let Some(unit) = limits.multiple_of
            && unit > 0.0
            && ((number / unit) - (number / unit).round()).abs() > 1e-9
        {
            complain(format!("a multiple of {unit}"));
        }
        if let Some(max) = limits.maximum {
            if limits.is_maximum_exclusive && number >= max {
                complain(format!("less than {max}"));
            } else if !limits.is_maximum_exclusive && number > max {
                complain(format!("less than or equal to {max}"));
            }
        }
        if let Some(min) = limits.minimum {
            if limits.is_minimum_exclusive && number <= min {
                complain(format!("greater than {min}"));
            } else if !limits.is_minimum_exclusive && number < min {
                complain(format!("greater than or equal to {min}"));
            }
        }
    }

    fn check_array(
        &self,
        items: &[Value],
        value: &Value,
        old: Option<&Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        let limits = &self.limits;
        let length = items.len() as u64;
        if let Some(node) = &self.items {
            for (at, item) in items.iter().enumerate() {
                node.schema().check_values(
                    item,
                    self.old_item(old, item),
                    &index(path, at),
                    causes,
                );
            }
        }
        if let Some(min) = limits.items_min
            && length < min
        {
            causes.push(Cause::invalid(
                path,
                value,
                &format!("{path} in body should have at least {min} items"),
            ));
        }
        if let Some(max) = limits.items_max
            && length > max
        {
            causes.push(Cause::too_many(path, items.len(), max));
        }
        if limits.has_unique_items {
            let mut seen = std::collections::HashSet::new();
            if !items.iter().all(|item| seen.insert(canonical(item))) {
                causes.push(Cause::invalid(
                    path,
                    value,
                    &format!("{path} in body shouldn't contain duplicates"),
                ));
            }
        }
    }

    fn check_object(
        &self,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: &str,
        causes: &mut Vec<Cause>,
    ) {
        let limits = &self.limits;
        let length = fields.len() as u64;
        let value = || Value::Object(fields.clone());
        if let Some(min) = limits.properties_min
            && length < min
        {
            causes.push(Cause::invalid(
                path,
                &value(),
                &format!("{path} in body should have at least {min} properties"),
            ));
        }
        if let Some(max) = limits.properties_max
            && length > max
        {
            causes.push(Cause::too_many(path, fields.len(), max));
        }
        for name in &limits.required {
            if !fields.contains_key(name) {
                causes.push(Cause::required(child(path, name), ""));
            }
        }
        for (name, field) in fields {
            let Some(node) = self.validated(name, path) else {
                continue;
            };
            let old = old.and_then(|old| old.get(name));
            node.schema()
                .check_values(field, old, &child(path, name), causes);
        }
    }

    /// The schema of a field, unless the caller validates it by other rules.
    fn validated(&self, name: &str, path: &str) -> Option<&Node> {
        let is_meta = name == "metadata" && (path.is_empty() || self.is_embedded);
        if is_meta { None } else { self.field(name) }
    }

    fn check_branches(&self, value: &Value, path: &str, causes: &mut Vec<Cause>) {
        let limits = &self.limits;
        let faults = |branch: &Self| {
            let mut faults = Vec::new();
            branch.check_values(value, None, path, &mut faults);
            faults
        };
        let composite = |detail: &str| {
            Cause::invalid(
                path,
                &Value::String(String::new()),
                &format!("{} must {detail}", crate::status::quoted(path)),
            )
        };
        if !limits.any_of.is_empty() {
            let all: Vec<_> = limits.any_of.iter().map(faults).collect();
            if all.iter().all(|faults| !faults.is_empty()) {
                causes.push(composite("validate at least one schema (anyOf)"));
                causes.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
            }
        }
        if !limits.one_of.is_empty() {
            let all: Vec<_> = limits.one_of.iter().map(faults).collect();
            match all.iter().filter(|faults| faults.is_empty()).count() {
                0 => {
                    causes.push(composite(
                        "validate one and only one schema (oneOf). Found none valid",
                    ));
                    causes.extend(all.into_iter().min_by_key(Vec::len).unwrap_or_default());
                }
                1 => {}
                many => {
                    let detail = format!(
                        "validate one and only one schema (oneOf). Found {many} valid alternatives"
                    );
                    causes.push(composite(&detail));
                }
            }
        }
        if !limits.all_of.is_empty() {
            let all: Vec<_> = limits.all_of.iter().flat_map(faults).collect();
            if !all.is_empty() {
                causes.extend(all);
                causes.push(composite("validate all the schemas (allOf)"));
            }
        }
        if let Some(not) = &limits.not
            && faults(not).is_empty()
        {
            causes.push(composite("not validate the schema (not)"));
        }
    }

    /// The item that an item replaces, where lists tell their items apart.
    pub(super) fn old_item<'a>(&self, old: Option<&'a Value>, item: &Value) -> Option<&'a Value> {
        let ListType::Map(keys) = &self.list_type else {
            return None;
        };
        let fields = item.as_object()?;
        old?.as_array()?
            .iter()
            .find(|one| keys.iter().all(|key| one.get(key) == fields.get(key)))
    }

    /// Embedded objects must say what they are.
    fn check_embedded(&self, value: &Value, path: &str, is_nested: bool, causes: &mut Vec<Cause>) {
        match value {
            Value::Object(fields) => {
                if self.is_embedded && is_nested {
                    for name in ["apiVersion", "kind"] {
                        let is_empty = fields
                            .get(name)
                            .and_then(Value::as_str)
                            .is_none_or(str::is_empty);
                        if is_empty {
                            causes.push(Cause::required(child(path, name), "must not be empty"));
                        }
                    }
                }
                for (name, field) in fields {
                    let node = self.properties.get(name).or(match &self.additional {
                        Additional::Schema(node) => Some(node),
                        Additional::None | Additional::Any => None,
                    });
                    if let Some(node) = node {
                        node.schema()
                            .check_embedded(field, &child(path, name), true, causes);
                    }
                }
            }
            Value::Array(items) => {
                let Some(node) = &self.items else { return };
                for (at, item) in items.iter().enumerate() {
                    node.schema()
                        .check_embedded(item, &index(path, at), true, causes);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Faults after which rules would only complain about their consequences.
fn is_blocking(cause: &Cause) -> bool {
    matches!(
        cause.reason,
        "FieldValueNotSupported"
            | "FieldValueRequired"
            | "FieldValueTooLong"
            | "FieldValueTooMany"
            | "FieldValueTypeInvalid"
    )
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

/// An enum value as it stands in the list of supported values.
fn plain(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The JSON type of a value.
pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
