//! Import: a LiteLLM proxy's `config.yaml`, as Secrets, Models and Routes. Pure.
//!
//! What has no counterpart is told, never dropped in silence. No credential is copied: Secrets hold placeholders.

mod deployment;
mod limits;
mod prices;
mod provider;
mod redis;
mod routes;
mod secrets;
mod settings;
#[cfg(test)]
mod tests;
mod wildcard;

use serde_json::{Map, Value};

pub(crate) use self::prices::CostMap;
use self::{deployment::Deployment, secrets::Secrets, settings::Settings};

/// The file that is read, without its values.
type Config = Map<String, Value>;

/// What a file comes to.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    /// The manifests, in the order in which they are applied.
    pub(crate) manifests: Vec<Value>,
    /// What has no counterpart, a sentence each.
    pub(crate) warnings: Vec<String>,
}

/// Converts a file into manifests of a namespace.
///
/// # Errors
/// The file is no YAML, or no configuration.
pub(crate) fn import(
    text: &str,
    namespace: &str,
    costs: &CostMap,
) -> Result<Imported, serde_norway::Error> {
    let config: Config = serde_norway::from_str(text)?;
    let mut warnings = Vec::new();
    let mut secrets = Secrets::default();
    let settings = Settings::read(&config, &mut secrets, &mut warnings);
    let list = config.get("model_list").and_then(Value::as_array);
    let mut deployments: Vec<Deployment> = Vec::new();
    for (index, entry) in list.into_iter().flatten().enumerate() {
        let at = format!("model_list[{index}]");
        let entry = settings.with_credentials(entry, &at, &mut warnings);
        let read = Deployment::read(&entry, &at, costs, &mut secrets, &mut warnings);
        deployments.extend(read);
    }
    let mut manifests = secrets.manifests(namespace);
    manifests.extend(routes::manifests(
        &deployments,
        &settings,
        namespace,
        &mut warnings,
    ));
    Ok(Imported {
        manifests,
        warnings,
    })
}

/// A name for an object, from whatever people call it: letters, digits and dashes, 50 characters at most.
fn object_name(text: &str) -> String {
    const CHARACTERS_MAX: usize = 50;
    let mut name = String::new();
    for character in text.chars() {
        match character.to_ascii_lowercase() {
            letter if letter.is_ascii_alphanumeric() => name.push(letter),
            _ if !name.is_empty() && !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    name.truncate(CHARACTERS_MAX);
    match name.trim_matches('-') {
        "" => "model".to_owned(),
        name => name.to_owned(),
    }
}

/// A name that none of these has, with a number behind it if need be.
fn unique(name: String, taken: &[String]) -> String {
    if !taken.contains(&name) {
        return name;
    }
    let numbered = (2..).map(|number| format!("{name}-{number}"));
    let mut free = numbered.filter(|name| !taken.contains(name));
    free.next().unwrap_or(name)
}

/// A text of an object; numbers are texts too where people leave quotes out.
fn text(object: &Map<String, Value>, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Seconds as a duration of ours.
fn seconds(value: &Value) -> Option<String> {
    let seconds = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let millis = seconds.filter(|seconds| 0.0 < *seconds && *seconds < 604_800.0)? * 1000.0;
    let millis = millis.round() as u64;
    Some(match millis % 1000 {
        0 => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    })
}
