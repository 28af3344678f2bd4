//! Names of objects: generated suffixes and the rules that names follow.

use std::sync::LazyLock;

use rand::Rng;
use regex::Regex;
use serde_json::json;

use crate::registry::Resource;
use crate::status::Cause;

/// Letters and digits without vowels and look-alikes, so that no words come out.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest base of a generated name: a label with room for the suffix.
const BASE_LENGTH_MAX: usize = 58;

const SUBDOMAIN_TEXT: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL_TEXT: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

static SUBDOMAIN: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok()
});
static LABEL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok());

/// Five random characters.
pub(crate) fn suffix() -> String {
    let mut random = rand::rng();
    let pick = || {
        char::from(
            ALPHABET
                .get(random.random_range(0..ALPHABET.len()))
                .copied()
                .unwrap_or(b'x'),
        )
    };
    std::iter::repeat_with(pick).take(5).collect()
}

/// A name from a base.
pub(crate) fn generate(base: &str) -> String {
    let end = base
        .char_indices()
        .map(|(index, _)| index)
        .chain([base.len()])
        .take_while(|end| *end <= BASE_LENGTH_MAX)
        .last();
    format!(
        "{}{}",
        base.get(..end.unwrap_or(0)).unwrap_or_default(),
        suffix()
    )
}

/// What is wrong with the name of an object.
pub(crate) fn check(resource: &Resource, name: &str) -> Vec<Cause> {
    let (rule, text, length_max): (&LazyLock<Option<Regex>>, &str, usize) =
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("rbac.authorization.k8s.io", _) => return check_path_segment(name),
            ("", "namespaces" | "services") => (&LABEL, LABEL_TEXT, 63),
            _ => (&SUBDOMAIN, SUBDOMAIN_TEXT, 253),
        };
    let mut causes = Vec::new();
    if name.len() > length_max {
        causes.push(Cause::invalid(
            "metadata.name",
            &json!(name),
            &format!("must be no more than {length_max} bytes"),
        ));
    }
    if rule.as_ref().is_some_and(|rule| !rule.is_match(name)) {
        causes.push(Cause::invalid("metadata.name", &json!(name), text));
    }
    causes
}

fn check_path_segment(name: &str) -> Vec<Cause> {
    let fault = match name {
        "." | ".." => Some(format!("may not be '{name}'")),
        _ => ["/", "%"]
            .iter()
            .find(|part| name.contains(**part))
            .map(|part| format!("may not contain '{part}'")),
    };
    fault
        .map(|fault| Cause::invalid("metadata.name", &json!(name), &fault))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_into_a_label() {
        for base in ["a-", "", &"x".repeat(100)] {
            let name = generate(base);
            assert!(name.len() <= 63 && name.len() >= 5, "{name}");
        }
        assert_ne!(generate("a-"), generate("a-"));
    }
}
