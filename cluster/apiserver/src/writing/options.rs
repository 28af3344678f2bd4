//! The options of a write, from its query.

use serde_json::json;

use crate::api::call::Call;
use crate::status::{ApiError, Cause};

/// What is done about fields that no schema knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldValidation {
    Ignore,
    Warn,
    Strict,
}

/// How a write is to be made.
#[derive(Debug, Clone)]
pub(crate) struct WriteOptions {
    pub(crate) dry_run: bool,
    pub(crate) field_manager: String,
    pub(crate) field_validation: FieldValidation,
}

const MANAGER_LENGTH_MAX: usize = 128;

impl WriteOptions {
    /// Reads and checks the options; `kind` is how the real server calls them.
    pub(crate) fn of(call: &Call, kind: &str) -> Result<Self, ApiError> {
        let mut causes = Vec::new();
        let dry_run = dry_run(call.query.all("dryRun"), &mut causes);
        let field_manager = call.field_manager();
        if call
            .query
            .get("fieldManager")
            .is_some_and(|manager| manager.len() > MANAGER_LENGTH_MAX)
        {
            causes.push(Cause::too_long(
                "fieldManager",
                "may not be more than 128 bytes",
            ));
        }
        let field_validation = match call.query.get("fieldValidation") {
            Some("Ignore") => FieldValidation::Ignore,
            None | Some("Warn") => FieldValidation::Warn,
            Some("Strict") => FieldValidation::Strict,
            Some(other) => {
                let supported = ["", "Ignore", "Strict", "Warn"].map(str::to_owned);
                causes.push(Cause::not_supported(
                    "fieldValidation",
                    &json!(other),
                    &supported,
                ));
                FieldValidation::Warn
            }
        };
        if causes.is_empty() {
            return Ok(Self {
                dry_run,
                field_manager,
                field_validation,
            });
        }
        Err(ApiError::invalid("meta.k8s.io", kind, "", causes))
    }
}

/// Whether nothing is to be stored.
pub(crate) fn dry_run<'a>(values: impl Iterator<Item = &'a str>, causes: &mut Vec<Cause>) -> bool {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        causes.push(Cause::not_supported(
            "dryRun",
            &json!(values),
            &["All".to_owned()],
        ));
    }
    !values.is_empty()
}
