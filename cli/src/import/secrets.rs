//! Secrets with placeholders, by what their values are taken from.

use serde_json::{Map, Value, json};

use super::{object_name, unique};

/// What stands in front of the name of an environment variable.
const ENVIRONMENT: &str = "os.environ/";

/// The Secrets that Models name.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<Placeholder>);

#[derive(Debug)]
struct Placeholder {
    name: String,
    /// The Secret's keys, and where their values come from.
    values: Vec<(String, String)>,
}

impl Secrets {
    /// The name of the Secret with these keys, each of which comes from a place that people know.
    pub(super) fn name(&mut self, values: Vec<(String, String)>) -> String {
        if let Some(known) = self.0.iter().find(|known| known.values == values) {
            return known.name.clone();
        }
        let source = values.first().map_or("credentials", |(_, source)| source);
        let taken: Vec<String> = self.0.iter().map(|known| known.name.clone()).collect();
        let name = unique(object_name(source), &taken);
        self.0.push(Placeholder {
            name: name.clone(),
            values,
        });
        name
    }

    /// The Secrets.
    pub(super) fn manifests(self, namespace: &str) -> Vec<Value> {
        let secrets = self.0.into_iter().map(|placeholder| {
            let values = placeholder.values.into_iter();
            let data: Map<String, Value> = values
                .map(|(key, source)| (key, json!(format!("REPLACE: the value of {source}"))))
                .collect();
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": placeholder.name, "namespace": namespace},
                "stringData": data,
            })
        });
        secrets.collect()
    }
}

/// Where a credential comes from: its environment variable, or the place in the file where it stands in plain text.
pub(super) fn source(value: &str, at: &str, warnings: &mut Vec<String>) -> String {
    if let Some(variable) = value.strip_prefix(ENVIRONMENT) {
        return variable.to_owned();
    }
    warnings.push(format!(
        "{at} holds a credential in plain text, which is not copied; put it into the Secret"
    ));
    at.to_owned()
}
