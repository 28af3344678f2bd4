//! What Go says when it cannot decode a built-in object: the first value that does not fit its field.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::machinery::quantity::Quantity;
use crate::machinery::schema::{Additional, Kind, Node, Structural};

/// The first fault of an object of a kind, in the words of Go's decoder.
pub fn decode_fault(kind: &str, schema: &Structural, object: &Value) -> Option<String> {
    let place = Place {
        structure: kind.to_owned(),
        path: String::new(),
    };
    structure(schema, object, &place)
}

/// A field as Go names it: the structure that has it, and the names on the way to it.
#[derive(Debug, Clone)]
struct Place {
    structure: String,
    path: String,
}

impl Place {
    fn fault(&self, given: &str, wanted: &str) -> String {
        let Self { structure, path } = self;
        format!(
            "json: cannot unmarshal {given} into Go struct field {structure}.{path} of type {wanted}"
        )
    }
}

fn structure(schema: &Structural, object: &Value, place: &Place) -> Option<String> {
    for (name, value) in object.as_object()? {
        let Some(node) = schema.properties.get(name) else {
            continue;
        };
        let path = match place.path.as_str() {
            "" => name.clone(),
            path => format!("{path}.{name}"),
        };
        let at = Place {
            path,
            ..place.clone()
        };
        let fault = field(node, value, &at);
        if fault.is_some() {
            return fault;
        }
    }
    None
}

fn field(node: &Node, value: &Value, place: &Place) -> Option<String> {
    if value.is_null() {
        return None;
    }
    let schema = node.schema();
    if let Some(fault) = special(node, value) {
        return fault;
    }
    let mismatch = || Some(place.fault(&given(value), &go_type(node)));
    match (schema.kind, value) {
        (Some(Kind::Object), Value::Object(fields)) => match &schema.additional {
            Additional::Schema(values) => fields
                .values()
                .find_map(|value| field(values, value, place)),
            Additional::None | Additional::Any => {
                let structure_name = node.name().map_or(place.structure.as_str(), short);
                let inner = Place {
                    structure: structure_name.to_owned(),
                    ..place.clone()
                };
                structure(schema, value, &inner)
            }
        },
        (Some(Kind::Array), Value::Array(items)) => {
            let item = schema.items.as_ref()?;
            items.iter().find_map(|value| field(item, value, place))
        }
        (Some(Kind::Integer), Value::Number(number)) if !number.is_f64() => {
            let is_small = schema.limits.format.as_deref() == Some("int32");
            let fits = number
                .as_i64()
                .is_some_and(|number| !is_small || i32::try_from(number).is_ok());
            if fits { None } else { mismatch() }
        }
        (Some(Kind::String), Value::String(text))
            if schema.limits.format.as_deref() == Some("byte") =>
        {
            bytes_fault(text)
        }
        (Some(Kind::String), Value::String(_))
        | (Some(Kind::Number), Value::Number(_))
        | (Some(Kind::Boolean), Value::Bool(_))
        | (None, _) => None,
        _ => mismatch(),
    }
}

/// Types that decode themselves; the outer `None` says that this one does not.
fn special(node: &Node, value: &Value) -> Option<Option<String>> {
    const QUANTITY: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
    match (short(node.name()?), value) {
        ("Quantity", Value::String(text)) => {
            Some(Quantity::parse(text).is_none().then(|| QUANTITY.to_owned()))
        }
        ("Quantity", Value::Number(_)) | ("IntOrString", Value::String(_) | Value::Number(_)) => {
            Some(None)
        }
        ("Quantity", _) => Some(Some(QUANTITY.to_owned())),
        ("IntOrString", other) => {
            let given = given(other);
            Some(Some(format!(
                "json: cannot unmarshal {given} into Go value of type int32"
            )))
        }
        ("Time", Value::String(text)) => Some(time_fault(text, "2006-01-02T15:04:05Z07:00")),
        ("MicroTime", Value::String(text)) => {
            Some(time_fault(text, "2006-01-02T15:04:05.000000Z07:00"))
        }
        ("Time" | "MicroTime", other) => {
            let given = given(other);
            Some(Some(format!(
                "json: cannot unmarshal {given} into Go value of type string"
            )))
        }
        _ => None,
    }
}

fn time_fault(text: &str, layout: &str) -> Option<String> {
    if text.parse::<Timestamp>().is_ok() {
        return None;
    }
    let part = layout.get(..4).unwrap_or_default();
    Some(format!(
        "parsing time \"{text}\" as \"{layout}\": cannot parse \"{text}\" as \"{part}\""
    ))
}

fn bytes_fault(text: &str) -> Option<String> {
    use base64::DecodeError;
    let at = match STANDARD.decode(text).err()? {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
        DecodeError::InvalidLength(length) => length - length % 4,
        DecodeError::InvalidPadding => text.len(),
    };
    Some(format!("illegal base64 data at input byte {at}"))
}

fn given(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if number.is_f64() => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The last part of a definition's name.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// The type of a field as Go names it.
fn go_type(node: &Node) -> String {
    let schema = node.schema();
    let format = schema.limits.format.as_deref();
    if let (Some(name), Some(Kind::Object)) = (node.name(), schema.kind) {
        let mut parts = name.rsplit('.');
        let (kind, version) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        return format!("{version}.{kind}");
    }
    match schema.kind {
        Some(Kind::Object) => match &schema.additional {
            Additional::Schema(values)
                if values.name().is_some_and(|name| short(name) == "Quantity") =>
            {
                "v1.ResourceList".to_owned()
            }
            Additional::Schema(values) => format!("map[string]{}", go_type(values)),
            Additional::None | Additional::Any => "map[string]interface {}".to_owned(),
        },
        Some(Kind::Array) => format!(
            "[]{}",
            schema.items.as_ref().map(go_type).unwrap_or_default()
        ),
        Some(Kind::Integer) => format.unwrap_or("int32").to_owned(),
        Some(Kind::Number) => "float64".to_owned(),
        Some(Kind::Boolean) => "bool".to_owned(),
        Some(Kind::String) if format == Some("byte") => "[]uint8".to_owned(),
        Some(Kind::String) | None => "string".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::machinery::builtin;

    #[track_caller]
    fn check(group: &str, kind: &str, object: &Value, expected: Option<&str>) {
        let schema = builtin::schema(group, "v1", kind).unwrap();
        assert_eq!(decode_fault(kind, schema, object).as_deref(), expected);
    }

    #[test]
    fn what_does_not_fit_is_named_as_go_names_it() {
        let with = |spec: Value| json!({"metadata": {"name": "d"}, "spec": spec});
        check(
            "apps",
            "Deployment",
            &with(json!({"replicas": 1, "selector": null})),
            None,
        );
        check(
            "",
            "ConfigMap",
            &json!({"data": {"a": 1}}),
            Some(
                "json: cannot unmarshal number into Go struct field ConfigMap.data of type string",
            ),
        );
        check(
            "",
            "ConfigMap",
            &json!({"data": []}),
            Some(
                "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string",
            ),
        );
        check(
            "",
            "Secret",
            &json!({"data": {"k": "***"}}),
            Some("illegal base64 data at input byte 0"),
        );
        check("", "Secret", &json!({"data": {"k": "YQ=="}}), None);
        check(
            "apps",
            "Deployment",
            &with(json!({"replicas": "three"})),
            Some(
                "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
            ),
        );
    }

    #[test]
    fn what_is_deep_inside_is_named_by_its_structure() {
        let with = |spec: Value| json!({"metadata": {"name": "d"}, "spec": spec});
        let containers =
            |container: Value| with(json!({"template": {"spec": {"containers": container}}}));
        check(
            "apps",
            "Deployment",
            &containers(json!({"name": "c"})),
            Some(
                "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
            ),
        );
        check(
            "apps",
            "Deployment",
            &containers(json!([{"resources": {"limits": {"cpu": "lots"}}}])),
            Some(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        );
        check(
            "apps",
            "Deployment",
            &containers(
                json!([{"resources": {"limits": {"cpu": 1}}, "livenessProbe": {"httpGet": {"port": "x"}}}]),
            ),
            None,
        );
        check(
            "coordination.k8s.io",
            "Lease",
            &json!({"spec": {"renewTime": "yesterday"}}),
            Some(
                "parsing time \"yesterday\" as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse \"yesterday\" as \"2006\"",
            ),
        );
    }
}
