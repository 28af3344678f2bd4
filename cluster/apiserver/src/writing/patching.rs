//! The four kinds of patches.

use serde_json::{Value, json};

use super::{FieldValidation, WriteOptions, complete, update};
use crate::api::call::Call;
use crate::clock;
use crate::machinery::apply;
use crate::machinery::json::{ParseError, parse_json, parse_yaml};
use crate::machinery::patch::{json_patch, merge_patch, strategic_merge_patch};
use crate::status::{ApiError, Cause};

/// A patch as it was sent.
#[derive(Debug)]
pub(crate) struct Patch {
    kind: Kind,
    value: Value,
    faults: Vec<String>,
    force: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Json,
    Merge,
    Strategic,
    Apply,
}

const BUILT_IN: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const CUSTOM: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
];

impl Patch {
    /// Reads the patch of a request.
    pub(crate) fn read(call: &Call) -> Result<Self, ApiError> {
        let is_custom = call.resource.custom().is_some();
        let kind = match call.content_type() {
            "application/json-patch+json" => Kind::Json,
            "application/merge-patch+json" => Kind::Merge,
            "application/strategic-merge-patch+json" if !is_custom => Kind::Strategic,
            "application/apply-patch+yaml" => Kind::Apply,
            _ => {
                return Err(ApiError::unsupported_media_type(if is_custom {
                    CUSTOM
                } else {
                    BUILT_IN
                }));
            }
        };
        let refuse = |error: ParseError| {
            ApiError::bad_request(format!("error decoding patch: {}", error.message))
        };
        let parsed = match kind {
            Kind::Apply => parse_yaml(&call.body).map_err(|error| {
                ApiError::bad_request(format!("error decoding YAML: {}", error.message))
            })?,
            Kind::Json | Kind::Merge | Kind::Strategic => parse_json(&call.body).map_err(refuse)?,
        };
        let force = call.query.is_true("force");
        let refuse = |cause| {
            Err(ApiError::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ))
        };
        if kind == Kind::Apply && call.query.get("fieldManager").is_none() {
            return refuse(Cause::required(
                "fieldManager",
                "is required for apply patch",
            ));
        }
        if kind != Kind::Apply && call.query.get("force").is_some() {
            return refuse(Cause::forbidden(
                "force",
                "may not be specified for non-apply patch",
            ));
        }
        Ok(Self {
            kind,
            value: parsed.value,
            faults: parsed.duplicates,
            force,
        })
    }

    pub(super) fn is_apply(&self) -> bool {
        self.kind == Kind::Apply
    }

    /// Whether the patch itself demands a resource version.
    pub(super) fn names_version(&self) -> bool {
        match self.kind {
            Kind::Json => {
                let operations = self.value.as_array().into_iter().flatten();
                operations
                    .into_iter()
                    .any(|operation| operation["path"] == "/metadata/resourceVersion")
            }
            Kind::Merge | Kind::Strategic | Kind::Apply => {
                self.value["metadata"]["resourceVersion"].is_string()
            }
        }
    }

    /// The object that an apply creates; nothing for the other kinds, which need one.
    pub(super) fn create(
        &self,
        call: &mut Call,
        options: &WriteOptions,
    ) -> Result<Option<Value>, ApiError> {
        if !self.is_apply() || call.target.subresource.is_some() {
            return Ok(None);
        }
        self.check_applied(call)?;
        if let Some(uid) = self.value["metadata"]["uid"]
            .as_str()
            .filter(|uid| !uid.is_empty())
        {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            );
            return Err(ApiError::conflict(
                &call.resource.group,
                &call.resource.plural,
                call.name(),
                &why,
            ));
        }
        super::create::place(call, &mut self.value.clone())?;
        let mut object = self.merge(call, None, &self.value, options)?;
        super::create::place(call, &mut object)?;
        let faults = complete::prune(&call.resource, &mut object, Vec::new());
        report(call, options, faults);
        complete::default(&call.resource, &mut object);
        Ok(Some(object))
    }

    /// What the patch makes of an object.
    pub(super) fn apply(
        &self,
        call: &mut Call,
        old: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let resource = std::sync::Arc::clone(&call.resource);
        let mut new = match self.kind {
            Kind::Json => json_patch(old, &self.value)?,
            Kind::Merge => {
                if !self.value.is_object() {
                    return Err(ApiError::bad_request(
                        "error decoding patch: json: cannot unmarshal into Go value of type map[string]interface {}",
                    ));
                }
                merge_patch(old, &self.value)
            }
            Kind::Strategic => match resource.schema() {
                Some(schema) => strategic_merge_patch(old, &self.value, schema)?,
                None => merge_patch(old, &self.value),
            },
            Kind::Apply => {
                self.check_applied(call)?;
                super::create::place(call, &mut self.value.clone())?;
                self.merge(call, Some(old), &self.value, options)?
            }
        };
        if !new.is_object() {
            return Err(ApiError::unprocessable_patch());
        }
        let shown = (options.field_validation == FieldValidation::Strict).then(|| new.clone());
        let faults = complete::prune(&resource, &mut new, self.faults.clone());
        if let (Some(shown), false) = (shown, faults.is_empty()) {
            let shown = if self.kind == Kind::Strategic {
                go_map(&self.value)
            } else {
                shown.to_string()
            };
            let why = format!("strict decoding error: {}", faults.join(", "));
            let cause = Cause::invalid("patch", &json!(shown), &why);
            return Err(ApiError::invalid("", "", "", vec![cause]));
        }
        report(call, options, faults);
        if let Err(fault) = complete::check_types(&resource, &new) {
            let why = fault.message.split(" cannot be handled as a ").nth(1);
            let why = why
                .and_then(|rest| rest.split_once(": "))
                .map_or("", |(_, why)| why);
            let cause = Cause::invalid("patch", &json!(new.to_string()), why);
            return Err(ApiError::invalid("", "", "", vec![cause]));
        }
        complete::default(&resource, &mut new);
        Ok(new)
    }

    fn merge(
        &self,
        call: &Call,
        live: Option<&Value>,
        applied: &Value,
        options: &WriteOptions,
    ) -> Result<Value, ApiError> {
        let resource = &call.resource;
        let Some(schema) = resource.schema() else {
            return Ok(merge_patch(live.unwrap_or(&Value::Null), applied));
        };
        let api_version = resource.api_version();
        let subresource = call.target.subresource.as_deref();
        let write = apply::Write {
            schema,
            manager: &options.field_manager,
            api_version: &api_version,
            subresource,
            force: self.force,
            now: &clock::now(),
            reset: update::reset_fields(resource, subresource),
        };
        let mut applied = applied.clone();
        if live.is_none() {
            applied["metadata"]["name"] = json!(call.name());
        }
        // The configuration's own version is a precondition, not a field.
        let version = applied["metadata"].get("resourceVersion").cloned();
        let merged = apply::apply(live, &applied, &write);
        let mut merged = match merged {
            Err(conflict)
                if write.manager == "kubectl" && only_with_last_applied(live, &conflict) =>
            {
                apply::apply(
                    live,
                    &applied,
                    &apply::Write {
                        force: true,
                        ..write
                    },
                )?
            }
            merged => merged?,
        };
        if let (Some(version), Some(_)) = (version, live) {
            merged["metadata"]["resourceVersion"] = version;
        }
        Ok(merged)
    }

    fn check_applied(&self, call: &Call) -> Result<(), ApiError> {
        let resource = &call.resource;
        let text = |name: &str| self.value[name].as_str().unwrap_or_default();
        if text("apiVersion").is_empty() || text("kind").is_empty() {
            let missing = if text("kind").is_empty() {
                "Kind"
            } else {
                "apiVersion"
            };
            let shown = self.value.to_string();
            return Err(ApiError::bad_request(format!(
                "error decoding YAML: Object '{missing}' is missing in '{shown}'"
            )));
        }
        let expected = resource.api_version();
        if text("apiVersion") != expected || text("kind") != resource.kind {
            return Err(ApiError::bad_request(format!(
                "invalid object type: {}, Kind={}: expected {expected}, Kind={}",
                text("apiVersion"),
                text("kind"),
                resource.kind
            )));
        }
        let name = self.value["metadata"]["name"].as_str().unwrap_or_default();
        if !name.is_empty() && name != call.name() {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.name()
            )));
        }
        Ok(())
    }
}

/// Whether an apply conflicts only with what the same tool applied on the client's side before.
fn only_with_last_applied(live: Option<&Value>, conflict: &ApiError) -> bool {
    let annotations = live.map_or(&Value::Null, |live| &live["metadata"]["annotations"]);
    let applied_before =
        annotations["kubectl.kubernetes.io/last-applied-configuration"].is_string();
    let causes = conflict
        .details
        .as_ref()
        .map(|details| details.causes.as_slice())
        .unwrap_or_default();
    let own = |cause: &Cause| {
        cause
            .message
            .starts_with("conflict with \"kubectl-client-side-apply\"")
    };
    applied_before && !causes.is_empty() && causes.iter().all(own)
}

fn report(call: &mut Call, options: &WriteOptions, faults: Vec<String>) {
    if options.field_validation == FieldValidation::Warn {
        call.warnings.extend(faults);
    }
}

/// A map as Go prints it.
fn go_map(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut pairs: Vec<String> = fields
                .iter()
                .map(|(name, value)| format!("{name}:{}", go_map(value)))
                .collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(go_map).collect::<Vec<_>>().join(" ")
        ),
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
}
