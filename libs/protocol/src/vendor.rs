//! Vendors whose APIs are OpenAI's but for a few peculiarities, as data: where they are, what they answer, what they
//! refuse.

use std::{collections::BTreeMap, sync::LazyLock};

use serde::Deserialize;

use crate::{address::host_of, provider::Api};

/// One vendor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vendor {
    /// Its name in resources.
    pub name: String,
    /// Its name for people.
    pub title: String,
    /// The base URL of its variant of OpenAI's API; servers that people run themselves have none.
    #[serde(default, rename = "baseURL")]
    pub base_url: Option<String>,
    /// The base URL of its variant of Anthropic's API, if it has one.
    #[serde(default, rename = "anthropicURL")]
    pub anthropic_url: Option<String>,
    /// The header that carries the API key as it is, where that is not a bearer token.
    #[serde(default)]
    pub key_header: Option<String>,
    /// Headers of clients that it understands and that are passed on.
    #[serde(default)]
    pub client_headers: Vec<String>,
    /// What it answers of OpenAI's and Anthropic's APIs at its base URL.
    #[serde(default = "plain")]
    pub apis: Vec<Api>,
    /// Where it differs from OpenAI.
    #[serde(default)]
    pub quirks: Quirks,
}

/// Where a vendor's API differs from OpenAI's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Quirks {
    /// Fields of requests that it knows by another name.
    pub rename: BTreeMap<String, String>,
    /// Fields of requests that it refuses.
    pub drop: Vec<String>,
    /// Whether it knows no role `developer`, so that these messages become those of `system`.
    pub no_developer_role: bool,
}

impl Quirks {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a field is refused.
    pub fn drops(&self, field: &str) -> bool {
        self.drop.iter().any(|name| name == field)
    }
}

/// What every server with OpenAI's API is expected to answer.
pub const PLAIN: [Api; 3] = [Api::Chat, Api::Completions, Api::Embeddings];

fn plain() -> Vec<Api> {
    PLAIN.to_vec()
}

static VENDORS: LazyLock<Vec<Vendor>> = LazyLock::new(|| {
    // A test parses the file; one that does not parse knows no vendors.
    serde_json::from_str(include_str!("vendors.json")).unwrap_or_default()
});

/// All vendors, by name.
pub fn all() -> &'static [Vendor] {
    &VENDORS
}

/// The vendor of this name.
pub fn find(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

/// The vendor whose host a base URL has.
pub fn at(base_url: &str) -> Option<&'static Vendor> {
    let host = host_of(base_url)?;
    VENDORS.iter().find(|vendor| {
        let own = vendor.base_url.as_deref().and_then(host_of);
        own.is_some_and(|own| own.eq_ignore_ascii_case(host))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{Vendor, all, at, find};
    use crate::address::{host_of, is_forbidden_host};

    /// Fewer would mean that a part of the file was lost.
    const VENDORS_MIN: usize = 60;

    #[test]
    fn the_file_parses() {
        let vendors: Vec<Vendor> = serde_json::from_str(include_str!("vendors.json")).unwrap();
        assert!(VENDORS_MIN <= vendors.len(), "{}", vendors.len());
    }

    #[test]
    fn vendors_are_sorted_and_unique_in_name_and_address() {
        let names: Vec<&str> = all().iter().map(|vendor| &*vendor.name).collect();
        let sorted: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names, sorted.into_iter().collect::<Vec<_>>());
        let mut seen = BTreeSet::new();
        for url in all().iter().filter_map(|vendor| vendor.base_url.as_deref()) {
            assert!(seen.insert(host_of(url).unwrap()), "{url} is there twice");
        }
    }

    #[test]
    fn addresses_are_https_without_a_slash_at_the_end() {
        for vendor in all() {
            let urls = [&vendor.base_url, &vendor.anthropic_url];
            for url in urls.into_iter().flatten() {
                assert!(url.starts_with("https://"), "{url}");
                assert!(
                    !url.ends_with('/') && !url.contains(['?', '{', '$']),
                    "{url}"
                );
                assert!(!is_forbidden_host(host_of(url).unwrap()), "{url}");
            }
            let name = &vendor.name;
            let is_plain =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            assert!(name.bytes().all(is_plain), "{name}");
            assert!(
                !vendor.title.is_empty() && !vendor.apis.is_empty(),
                "{name}"
            );
        }
    }

    #[test]
    fn headers_are_names_that_can_be_sent_and_hold_no_credential_of_a_client() {
        for vendor in all() {
            for name in vendor.client_headers.iter().chain(&vendor.key_header) {
                let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
                assert!(!name.is_empty() && name.bytes().all(is_plain), "{name}");
            }
            let passed = |name: &str| vendor.client_headers.iter().any(|found| found == name);
            assert!(
                !passed("authorization") && !passed("x-api-key"),
                "{}",
                vendor.name
            );
        }
    }

    #[test]
    fn quirks_are_about_other_fields_than_those_the_gateway_needs() {
        for vendor in all() {
            for field in vendor.quirks.drop.iter().chain(vendor.quirks.rename.keys()) {
                assert!(
                    !["model", "messages", "stream"].contains(&&**field),
                    "{}",
                    vendor.name
                );
                let renamed = vendor.quirks.rename.get(field);
                assert!(
                    renamed.is_none() || !vendor.quirks.drops(field),
                    "{field} is renamed and dropped"
                );
            }
        }
    }

    #[test]
    fn a_vendor_is_known_by_its_name_and_by_its_host() {
        assert_eq!(find("groq"), at("https://api.groq.com/other"));
        assert!(find("groq").is_some());
        assert_eq!(at("http://vllm.models.svc:8000/v1"), None);
        assert_eq!(find("nobody"), None);
    }
}
