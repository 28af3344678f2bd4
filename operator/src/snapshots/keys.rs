//! Gateway keys: Secrets with the label, as hashes.

use crds::names::{
    AGENT_LABEL, ALLOWANCE_ANNOTATION, API_KEY_LABEL, KEY_EXPIRES_FIELD, KEY_FIELD, KEY_HASH_FIELD,
    TAGS_ANNOTATION, TEAM_ANNOTATION, USER_ANNOTATION,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use protocol::{allowance::Allowance, key::hash_key, snapshot::KeyEntry};

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
    let expires = field(KEY_EXPIRES_FIELD);
    // A key that says what cannot be is left out: with it no gateway would take the snapshot.
    if let Some(time) = &expires
        && time.parse::<Timestamp>().is_err()
    {
        tracing::warn!(secret = %key_id(secret), "gateway key is not used: `expires` is no RFC 3339 time");
        return None;
    }
    let allowance = allowance(secret).map_err(|reason| {
        tracing::warn!(secret = %key_id(secret), reason, "gateway key is not used: its allowance cannot be read");
    });
    let annotation = |name: &str| {
        let text = secret.annotations().get(name)?.trim();
        Some(text.to_owned()).filter(|text| !text.is_empty())
    };
    let tags = annotation(TAGS_ANNOTATION).unwrap_or_default();
    let tags = tags.split(',').map(str::trim).filter(|tag| !tag.is_empty());
    Some(KeyEntry {
        id: key_id(secret),
        hash,
        expires,
        team: annotation(TEAM_ANNOTATION),
        user: annotation(USER_ANNOTATION),
        tags: tags.map(str::to_owned).collect(),
        allowance: allowance.ok()?,
    })
}

fn allowance(secret: &Secret) -> Result<Allowance, String> {
    let Some(text) = secret.annotations().get(ALLOWANCE_ANNOTATION) else {
        return Ok(Allowance::default());
    };
    let read: Allowance = serde_norway::from_str(text).map_err(|error| error.to_string())?;
    read.check().map_err(|error| error.to_string())?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use k8s_openapi::api::core::v1::Secret;
    use protocol::{
        allowance::{Allowance, Budget, Limit, Rate},
        key::hash_key,
        snapshot::{KeyEntry, Mode},
    };
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
        let ids = |entries: &[KeyEntry]| {
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

    #[track_caller]
    fn check(annotation: (&str, &str), expires: &str, expected: Option<KeyEntry>) {
        let fields = [("key", "qd-1"), ("expires", expires)];
        let mut secret = secret("a", &["quarterdeck.dev/api-key"], &fields);
        let annotation = (annotation.0.to_owned(), annotation.1.to_owned());
        secret.metadata.annotations = Some([annotation].into());
        let (all, _) = key_entries([&secret].into_iter());
        let expected = expected.map(|expected| KeyEntry {
            id: "n/a".to_owned(),
            hash: hash_key("qd-1"),
            ..expected
        });
        assert_eq!(all, Vec::from_iter(expected));
    }

    #[test]
    fn annotations_say_whom_a_key_is_counted_for_and_what_it_may_spend() {
        let plain = KeyEntry::default;
        check(
            ("quarterdeck.dev/team", " eng "),
            "",
            Some(KeyEntry {
                team: Some("eng".to_owned()),
                ..plain()
            }),
        );
        check(
            ("quarterdeck.dev/user", "ann"),
            "",
            Some(KeyEntry {
                user: Some("ann".to_owned()),
                ..plain()
            }),
        );
        let tags = vec!["a".to_owned(), "b".to_owned()];
        check(
            ("quarterdeck.dev/tags", "a, b,"),
            "",
            Some(KeyEntry { tags, ..plain() }),
        );
        let said = "models: [chat]\nbudgets: [{amount: 12.5, window: 30d}]\nlimits: [{requests: {limit: 60, window: 1m}}]";
        let budget = Budget {
            amount: "12.5".parse().unwrap(),
            window: Some("30d".parse().unwrap()),
            model: None,
            mode: Mode::Enforce,
        };
        let limit = Limit {
            requests: Some(Rate {
                limit: 60,
                window: "1m".parse().unwrap(),
            }),
            ..Limit::default()
        };
        let allowance = Allowance {
            models: vec!["chat".to_owned()],
            budgets: vec![budget],
            limits: vec![limit],
            fallbacks: Vec::new(),
        };
        check(
            ("quarterdeck.dev/allowance", said),
            "",
            Some(KeyEntry {
                allowance,
                ..plain()
            }),
        );
    }

    #[test]
    fn a_key_that_says_what_cannot_be_is_left_out_and_the_others_stay() {
        check(("quarterdeck.dev/allowance", "models: ['a*b']"), "", None);
        check(("quarterdeck.dev/allowance", "budget: 7"), "", None);
        check(("x", "y"), "tomorrow", None);
        check(("x", "y"), "", Some(KeyEntry::default()));
    }
}
