//! Pieces of schema that the derive does not write by itself.

use schemars::{Schema, SchemaGenerator, json_schema};

/// A quantity without sign or exponent.
pub(crate) const QUANTITY: &str = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$";
/// A quantity that is a whole number of MiB.
pub(crate) const MEBIBYTES: &str = "^[1-9][0-9]{0,6}(Mi|Gi)$";
/// A duration, as 90s or 1h30m.
pub(crate) const DURATION: &str = "^([0-9]+(ms|s|m|h))+$";
/// A name of a part of a resource (RFC 1123).
pub(crate) const DNS_LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// A name that reaches models as part of a function's name, and URIs as part of their scheme.
pub(crate) const SERVER_NAME: &str = "^[a-z]([-a-z0-9]*[a-z0-9])?$";
/// A name with one star at most.
pub(crate) const ONE_STAR: &str = "^[^*]*[*]?[^*]*$";
/// A decimal number without sign.
pub(crate) const DECIMAL: &str = r"^[0-9]+(\.[0-9]+)?$";
/// A model's name as clients write it.
pub(crate) const MODEL_NAME: &str = "^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$";
/// A name that reaches models as part of a function's name.
pub(crate) const TOOL_NAME: &str = "^[A-Za-z0-9_-]{1,32}$";

/// Longest text of a person: prompts, programs, instructions.
pub(crate) const TEXT_LENGTH_MAX: u32 = 32_768;

/// A map of texts: file contents, CEL expressions.
pub(crate) fn text_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": {"type": "string", "maxLength": TEXT_LENGTH_MAX}
    })
}

/// A map of labels.
pub(crate) fn label_map(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 63}
    })
}

/// Any JSON value.
pub(crate) fn any_value(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"x-kubernetes-preserve-unknown-fields": true})
}
