//! Gateway keys: Secrets with the label, as hashes.

use crds::names::{AGENT_LABEL, API_KEY_LABEL, KEY_EXPIRES_FIELD, KEY_FIELD, KEY_HASH_FIELD};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use protocol::{key::hash_key, snapshot::KeyEntry};

/// Bytes of `sha256:` and the digits.
const HASH_LENGTH: usize = 71;

/// Whether a Secret is meant to hold a gateway key.
pub(crate) fn has_key_label(secret: &Secret) -> bool {
    secret
        .labels()
        .get(API_KEY_LABEL)
        .is_some_and(|value| value == "true")
}

/// The key's id, the ledger's account.
pub(crate) fn key_id(secret: &Secret) -> String {
    format!(
        "{}/{}",
        secret.namespace().unwrap_or_default(),
        secret.name_any()
    )
}

/// The keys of all Secrets, and of these the keys of people and programs outside, by id.
pub(crate) fn key_entries<'a>(
    secrets: impl Iterator<Item = &'a Secret>,
) -> (Vec<KeyEntry>, Vec<KeyEntry>) {
    let mut all = Vec::new();
    let mut outside = Vec::new();
    for secret in secrets.filter(|secret| has_key_label(secret)) {
        if let Some(entry) = key_entry(secret) {
            if !secret.labels().contains_key(AGENT_LABEL) {
                outside.push(entry.clone());
            }
            all.push(entry);
        }
    }
    all.sort_by(|left, right| left.id.cmp(&right.id));
    outside.sort_by(|left, right| left.id.cmp(&right.id));
    (all, outside)
}

/// A key in plain text is hashed here and goes no further.
fn key_entry(secret: &Secret) -> Option<KeyEntry> {
    let field = |name: &str| {
        let bytes = secret.data.as_ref()?.get(name)?;
        Some(String::from_utf8_lossy(&bytes.0).trim().to_owned()).filter(|text| !text.is_empty())
    };
    let hash = field(KEY_HASH_FIELD)
        .filter(|hash| hash.len() == HASH_LENGTH && hash.starts_with("sha256:"))
        .or_else(|| field(KEY_FIELD).map(|key| hash_key(&key)));
    let Some(hash) = hash else {
        tracing::warn!(secret = %key_id(secret), "Secret is labelled as a gateway key and has neither `key` nor a valid `hash`");
        return None;
    };
    Some(KeyEntry {
        id: key_id(secret),
        hash,
        expires: field(KEY_EXPIRES_FIELD),
        ..KeyEntry::default()
    })
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use k8s_openapi::api::core::v1::Secret;
    use protocol::key::hash_key;
    use serde_json::json;

    use super::key_entries;

    fn secret(name: &str, labels: &[&str], fields: &[(&str, &str)]) -> Secret {
        let labels: serde_json::Map<_, _> = labels
            .iter()
            .map(|label| ((*label).to_owned(), json!("true")))
            .collect();
        let data: serde_json::Map<_, _> = fields
            .iter()
            .map(|(key, text)| ((*key).to_owned(), json!(STANDARD.encode(text))))
            .collect();
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "n", "labels": labels}, "data": data}),
        )
        .expect("a secret")
    }

    #[test]
    fn a_key_is_a_labelled_secret_and_leaves_as_a_hash() {
        let hash = hash_key("qd-1");
        let secrets = [
            secret(
                "plain",
                &["quarterdeck.dev/api-key"],
                &[("key", "qd-1\n"), ("expires", "2030-01-01T00:00:00Z")],
            ),
            secret("hashed", &["quarterdeck.dev/api-key"], &[("hash", &hash)]),
            secret(
                "agent",
                &["quarterdeck.dev/api-key", "quarterdeck.dev/agent"],
                &[("key", "qd-2")],
            ),
            secret("empty", &["quarterdeck.dev/api-key"], &[("hash", "md5:1")]),
            secret("other", &[], &[("key", "qd-3")]),
        ];
        let (all, outside) = key_entries(secrets.iter());
        let ids = |entries: &[protocol::snapshot::KeyEntry]| {
            entries
                .iter()
                .map(|entry| entry.id.clone())
                .collect::<Vec<_>>()
        };
        assert_eq!(ids(&all), ["n/agent", "n/hashed", "n/plain"]);
        assert_eq!(ids(&outside), ["n/hashed", "n/plain"]);
        assert_eq!((&all[1].hash, &all[2].hash), (&hash, &hash));
        assert_eq!(all[2].expires.as_deref(), Some("2030-01-01T00:00:00Z"));
    }
}
