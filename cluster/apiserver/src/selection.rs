//! Which objects of a shelf a request means: by namespace, labels and fields.

use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use crate::api::call::Call;
use crate::machinery::selector::{FieldSelector, LabelSelector};
use crate::registry::Resource;
use crate::status::ApiError;
use crate::store::{Entry, Snapshot};

/// The objects that a list, a watch or a collection's deletion is about.
#[derive(Debug, Clone)]
pub(crate) struct Selection {
    resource: Arc<Resource>,
    namespace: Option<String>,
    name: Option<String>,
    labels: LabelSelector,
    fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a request.
    pub(crate) fn of(call: &Call) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(call.query.get("labelSelector").unwrap_or_default())?;
        let fields = FieldSelector::parse(call.query.get("fieldSelector").unwrap_or_default())?;
        let resource = Arc::clone(&call.resource);
        for term in fields.terms() {
            let known = matches!(term.path.as_str(), "metadata.name" | "metadata.namespace")
                || resource.field_labels.contains(&term.path);
            if !known {
                return Err(unknown_field(&resource, &term.path));
            }
        }
        let name = call
            .target
            .name
            .clone()
            .or_else(|| fields.exact("metadata.name").map(str::to_owned));
        Ok(Self {
            resource,
            namespace: call.target.namespace.clone(),
            name,
            labels,
            fields,
        })
    }

    /// Whether objects are told apart by more than their place.
    pub(crate) fn has_selectors(&self) -> bool {
        !self.labels.is_empty() || !self.fields.is_empty()
    }

    /// What keys of the selected namespace start with.
    pub(crate) fn prefix(&self) -> String {
        match &self.namespace {
            Some(namespace) if self.resource.namespaced => format!("{namespace}/"),
            _ => String::new(),
        }
    }

    /// The objects of a snapshot in the namespace whose keys come after `after`, with their keys.
    pub(crate) fn range<'a>(
        &'a self,
        snapshot: &'a Snapshot,
        after: Option<&'a str>,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Arc<Entry>)> {
        let prefix = self.prefix();
        let start = match after {
            Some(after) => format!("{prefix}{after}"),
            None => prefix.clone(),
        };
        let bounds = (Bound::Included(start.as_str()), Bound::Unbounded);
        let found = snapshot.entries.range::<str, _>(bounds);
        found.take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// Whether the object under the key is selected.
    pub(crate) fn selects(&self, key: &str, entry: &Entry) -> bool {
        let (namespace, name) = split(key);
        if self.resource.namespaced
            && self
                .namespace
                .as_deref()
                .is_some_and(|wanted| wanted != namespace)
        {
            return false;
        }
        if self.name.as_deref().is_some_and(|wanted| wanted != name) {
            return false;
        }
        if !self.labels.is_empty()
            && !self
                .labels
                .matches_by(|label| entry.labels.get(label).cloned())
        {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let only_place = self
            .fields
            .terms()
            .iter()
            .all(|term| term.path.starts_with("metadata."));
        let object = if only_place {
            Value::Null
        } else {
            entry.value()
        };
        self.fields.matches(|field| match field {
            "metadata.name" => name.to_owned(),
            "metadata.namespace" => namespace.to_owned(),
            other => field_value(&object, other),
        })
    }
}

/// Namespace (or nothing) and name of a key.
pub(crate) fn split(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

fn unknown_field(resource: &Resource, field: &str) -> ApiError {
    if resource.custom().is_some() || !resource.field_labels.is_empty() {
        return ApiError::bad_request(format!("field label not supported: {field}"));
    }
    ApiError::bad_request(format!(
        "\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
    ))
}

/// The value of a selectable field as text; empty when it is missing.
fn field_value(object: &Value, field: &str) -> String {
    // Events are stored in their core form; the newer kind names some fields otherwise.
    let path = match field {
        "source" => "source.component".to_owned(),
        "reportingController" => "reportingComponent".to_owned(),
        "status.podIPs" => "status.podIP".to_owned(),
        other => other.replacen("regarding.", "involvedObject.", 1),
    };
    let found = path
        .split('.')
        .try_fold(object, |value, part| value.get(part));
    match found {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) if matches!(field, "spec.hostNetwork" | "spec.unschedulable") => {
            "false".to_owned()
        }
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    }
}
