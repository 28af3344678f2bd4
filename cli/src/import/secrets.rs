//! Secrets with placeholders, by what their values are taken from.

use serde_json::{Map, Value, json};

use super::{object_name, unique};

/// What stands in front of the name of an environment variable.
pub(super) const ENVIRONMENT: &str = "os.environ/";

/// The Secrets that Models name.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<Placeholder>);

#[derive(Debug)]
struct Placeholder {
    name: String,
    /// The Secret's keys and values.
    values: Vec<(String, String)>,
}

impl Secrets {
    /// The name of the Secret with these keys, each of which comes from a place that people know.
    pub(super) fn name(&mut self, values: Vec<(String, String)>) -> String {
        let source = values.first();
        let source = source.map_or_else(|| "credentials".to_owned(), |(_, source)| source.clone());
        let replaced = |(key, source)| (key, format!("REPLACE: the value of {source}"));
        self.add(&source, values.into_iter().map(replaced).collect())
    }

    /// The name of the Secret that holds this text under this key, called so if nothing else is.
    pub(super) fn text(&mut self, name: &str, key: &str, text: &str) -> String {
        self.add(name, vec![(key.to_owned(), text.to_owned())])
    }

    fn add(&mut self, name: &str, values: Vec<(String, String)>) -> String {
        if let Some(known) = self.0.iter().find(|known| known.values == values) {
            return known.name.clone();
        }
        let taken: Vec<String> = self.0.iter().map(|known| known.name.clone()).collect();
        let name = unique(object_name(name), &taken);
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
            let data: Map<String, Value> = values.map(|(key, text)| (key, json!(text))).collect();
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
