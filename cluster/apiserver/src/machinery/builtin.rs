//! Schemas of the built-in kinds, from embedded data that is read when first needed.
//!
//! The data is made by `data/generate.py`; definitions are named as in Kubernetes' own OpenAPI documents.

mod decode;

use std::collections::HashMap;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde_json::{Map, Value};

use super::schema::{Structural, parse_definition};

pub use self::decode::decode_fault;

static COMPRESSED: &[u8] = include_bytes!("../../data/definitions.json.gz");

/// The schemas by definition, and the definitions of kinds by `group/version/kind`.
struct Builtin {
    definitions: HashMap<String, Structural>,
    kinds: HashMap<String, String>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| {
    let (mut definitions, mut kinds) = (HashMap::new(), HashMap::new());
    for (name, schema) in raw_definitions() {
        for (group, version, kind) in kinds_of(&schema) {
            kinds
                .entry(format!("{group}/{version}/{kind}"))
                .or_insert_with(|| name.clone());
        }
        definitions.insert(name, parse_definition(&schema));
    }
    Builtin { definitions, kinds }
});

/// What a reference to nowhere means: anything.
static ANYTHING: LazyLock<Structural> = LazyLock::new(|| Structural {
    preserves_unknown: true,
    ..Structural::default()
});

/// The definitions as JSON schemas; read anew each time, since only documents need them.
pub fn raw_definitions() -> Map<String, Value> {
    let mut text = String::new();
    let read = GzDecoder::new(COMPRESSED).read_to_string(&mut text);
    let parsed = read
        .ok()
        .and_then(|_| serde_json::from_str::<Value>(&text).ok());
    match parsed {
        Some(Value::Object(definitions)) => definitions,
        _ => Map::new(),
    }
}

/// The kinds that a definition describes, as group, version and kind.
pub fn kinds_of(schema: &Value) -> Vec<(String, String, String)> {
    let list = schema
        .get("x-kubernetes-group-version-kind")
        .and_then(Value::as_array);
    let text = |value: &Value, key: &str| {
        value
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    list.into_iter()
        .flatten()
        .map(|one| (text(one, "group"), text(one, "version"), text(one, "kind")))
        .collect()
}

/// A definition by its name, without the path to it.
pub(crate) fn definition(name: &str) -> &'static Structural {
    BUILTIN.definitions.get(name).unwrap_or(&ANYTHING)
}

/// The name of the definition of a kind.
pub fn definition_name(group: &str, version: &str, kind: &str) -> Option<&'static str> {
    BUILTIN
        .kinds
        .get(&format!("{group}/{version}/{kind}"))
        .map(String::as_str)
}

/// The schema of a built-in kind.
pub fn schema(group: &str, version: &str, kind: &str) -> Option<&'static Structural> {
    definition_name(group, version, kind).map(definition)
}
