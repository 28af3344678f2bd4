//! A snapshot from a file, as YAML or JSON, and whether the file has changed.

use std::{
    io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use protocol::snapshot::GatewaySnapshot;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::table::InvalidSnapshot;

/// Why a file cannot be used.
#[derive(Debug, Error)]
pub(crate) enum InvalidFile {
    /// It cannot be read.
    #[error("reading {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no snapshot.
    #[error("parsing {path}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why, and where in the file.
        source: serde_norway::Error,
    },
    /// It has fields that mean nothing, which are misspelt more often than not.
    #[error("parsing {path}: there is no field {}", .fields.join(", "))]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Where they are.
        fields: Vec<String>,
    },
    /// It says something that no gateway can do.
    #[error("using {path}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidSnapshot,
    },
}

/// Reads a snapshot; JSON is YAML too.
///
/// # Errors
/// [`InvalidFile`]
pub(super) fn read(path: &Path) -> Result<GatewaySnapshot, InvalidFile> {
    let path = || path.to_owned();
    let text = std::fs::read_to_string(path()).map_err(|source| InvalidFile::Unreadable {
        path: path(),
        source,
    })?;
    let (read, fields) = parse(&text).map_err(|source| InvalidFile::Malformed {
        path: path(),
        source,
    })?;
    if !fields.is_empty() {
        return Err(InvalidFile::Unknown {
            path: path(),
            fields,
        });
    }
    Ok(GatewaySnapshot::new(read.routes, read.keys))
}

/// A snapshot, and the fields that mean nothing.
fn parse(text: &str) -> Result<(GatewaySnapshot, Vec<String>), serde_norway::Error> {
    // JSON is YAML but for its escapes of characters beyond 16 bits.
    if text.trim_start().starts_with('{')
        && let Ok(read) = noting(&mut serde_json::Deserializer::from_str(text))
    {
        return Ok(read);
    }
    noting(serde_norway::Deserializer::from_str(text))
}

fn noting<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<(GatewaySnapshot, Vec<String>), D::Error> {
    let mut unknown = Vec::new();
    let mut note = |field: serde_ignored::Path<'_>| unknown.push(format!("`{field}`"));
    let noting = serde_ignored::Deserializer::new(deserializer, &mut note);
    let read = GatewaySnapshot::deserialize(noting)?;
    Ok((read, unknown))
}

/// What a file looked like when it was last read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    /// What a file looks like now; links are followed, as a mounted ConfigMap changes by one.
    pub(super) fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len()))))
    }
}

#[cfg(test)]
mod tests {
    use protocol::snapshot::{GatewaySnapshot, KvEvents, Strategy};

    use super::{Stamp, parse};

    const YAML: &str = "
routes:
- name: chat
  models: [chat, 'gpt-*']
  targets:
  - {name: own, model: m, endpoints: ['http://127.0.0.1:9/v1']}
  limits:
  - {name: burst, requests: {limit: 5, windowMillis: 1000}}
keys:
- {id: ci, hash: 'sha256:00', team: eng, allowance: {budgets: [{amount: 10, window: 30d}]}}
";

    #[test]
    fn yaml_and_json_say_the_same() {
        let (read, unknown) = parse(YAML).unwrap();
        assert_eq!(unknown, Vec::<String>::new());
        let route = &read.routes[0];
        assert_eq!(
            (route.strategy, route.targets[0].weight, route.limits.len()),
            (Strategy::Weighted, 1, 1)
        );
        assert_eq!(read.keys[0].team.as_deref(), Some("eng"));
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(parse(&json).unwrap().0, read);
        assert_eq!(parse("{}").unwrap().0, GatewaySnapshot::default());
        let escaped = r#"{"keys": [{"id": "\ud83d\ude00", "hash": "\/"}]}"#;
        assert_eq!(parse(escaped).unwrap().0.keys[0].id, "😀");
    }

    #[test]
    fn the_example_of_events_in_the_documentation_is_understood() {
        let page = include_str!("../../../docs/concepts/gateway-kv-events.md");
        let example = page.split("```yaml\n").nth(3).unwrap();
        let (example, _) = example.split_once("```").unwrap();
        let (read, unknown) = parse(example).unwrap();
        assert_eq!(unknown, Vec::<String>::new());
        let events = KvEvents::Zmq {
            port: 5557,
            topic: "kv-events".to_owned(),
        };
        assert_eq!(read.routes[0].targets[0].kv_events, Some(events));
    }

    #[track_caller]
    fn check_refused(yaml: &str, part: &str) {
        let told = match parse(yaml) {
            Ok((_, unknown)) => unknown.join(", "),
            Err(error) => error.to_string(),
        };
        assert!(told.contains(part), "{told}");
    }

    #[test]
    fn a_fault_is_told_with_its_place() {
        check_refused(
            &YAML.replace("model: m", "modle: m"),
            "routes[0].targets[0]",
        );
        check_refused(
            &YAML.replace("limit: 5", "limit: five"),
            "routes[0].limits[0].requests.limit",
        );
        check_refused(
            &YAML.replace("name: chat", "name: chat\n  cach: {}"),
            "`routes.0.cach`",
        );
        check_refused("routes: [", "line");
        check_refused("- a", "invalid type");
    }

    #[test]
    fn a_file_that_changed_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let none = Stamp::of(&path);
        std::fs::write(&path, "a").unwrap();
        let first = Stamp::of(&path);
        std::fs::write(&path, "ab").unwrap();
        let second = Stamp::of(&path);
        assert!(none != first && first != second && second == Stamp::of(&path));
    }
}
