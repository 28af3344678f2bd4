//! How a registry is asked: by a token for one repository, which its challenge says where to get, or by a password.
//!
//! Source: the distribution project's token authentication specification.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use protocol::secret::SecretString;
use reqwest::Url;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use serde::Deserialize;

use crate::source::access::secret_value;
use crate::source::client::{Client, body, refusal, shown};
use crate::source::error::FetchError;

const TOKEN_BYTES_MAX: usize = 1 << 20;

/// A user of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::source) struct Credential {
    pub(in crate::source) user: String,
    pub(in crate::source) password: SecretString,
}

/// The way into one repository.
#[derive(Debug)]
pub(in crate::source) struct Login {
    repository: String,
    credential: Option<Credential>,
    current: Mutex<Option<HeaderValue>>,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Login {
    pub(super) fn new(repository: &str, credential: Option<Credential>) -> Self {
        Self {
            repository: repository.to_owned(),
            credential,
            current: Mutex::new(None),
        }
    }

    /// What the last challenge got us; nothing before the first.
    pub(in crate::source) fn headers(&self) -> HeaderMap {
        let current = self.current.lock().clone();
        current
            .map(|value| (AUTHORIZATION, value))
            .into_iter()
            .collect()
    }

    /// Answers a challenge; says whether there is something new to show.
    pub(in crate::source) async fn answer(
        &self,
        client: &Client,
        url: &Url,
        headers: &HeaderMap,
    ) -> Result<bool, FetchError> {
        let challenges: Vec<Challenge> = headers
            .get_all(WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Challenge::parse(value.to_str().ok()?))
            .collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.is(scheme));
        let value = if let Some(challenge) = of("bearer") {
            let token = self.token(client, url, challenge).await?;
            secret_value(&format!("Bearer {token}"))?
        } else if let (Some(_), Some(credential)) = (of("basic"), &self.credential) {
            secret_value(&basic(credential))?
        } else {
            return Ok(false);
        };
        *self.current.lock() = Some(value);
        Ok(true)
    }

    async fn token(
        &self,
        client: &Client,
        url: &Url,
        challenge: &Challenge,
    ) -> Result<String, FetchError> {
        let realm = challenge.realm(url)?;
        let realm = self.request(realm, challenge);
        let mut headers = HeaderMap::new();
        if let Some(credential) = &self.credential {
            headers.insert(AUTHORIZATION, secret_value(&basic(credential))?);
        }
        // The credentials are for this address only, so no redirect is followed.
        let response = client.once(&realm, headers).await?;
        if !response.status().is_success() {
            return Err(refusal(&realm, response).await);
        }
        let broken = || {
            let what = shown(&realm);
            FetchError::Broken(format!("{what} answers without a token"))
        };
        let text = body(&realm, response, TOKEN_BYTES_MAX).await?;
        let token: Token = serde_json::from_slice(&text).map_err(|_| broken())?;
        token.token.or(token.access_token).ok_or_else(broken)
    }

    /// The address to get a token from: to pull from this repository, whatever the challenge asks for.
    fn request(&self, mut realm: Url, challenge: &Challenge) -> Url {
        let scope = format!("repository:{}:pull", self.repository);
        let mut pairs = realm.query_pairs_mut();
        if let Some(service) = challenge.parameter("service") {
            pairs.append_pair("service", service);
        }
        pairs.append_pair("scope", &scope);
        drop(pairs);
        realm
    }
}

fn basic(credential: &Credential) -> String {
    let Credential { user, password } = credential;
    format!(
        "Basic {}",
        STANDARD.encode(format!("{user}:{}", password.expose()))
    )
}

/// A `WWW-Authenticate` header (RFC 9110, section 11.6.1), with one scheme.
#[derive(Debug, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn parse(text: &str) -> Option<Self> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let mut parameters = Vec::new();
        while let Some((name, after)) = rest.split_once('=') {
            let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            parameters.push((name, value.trim().to_owned()));
            rest = next;
        }
        Some(Self {
            scheme: scheme.to_ascii_lowercase(),
            parameters,
        })
    }

    fn is(&self, scheme: &str) -> bool {
        self.scheme == scheme
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.parameters.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Where tokens are given; over TLS if the registry is.
    fn realm(&self, registry: &Url) -> Result<Url, FetchError> {
        let realm = self
            .parameter("realm")
            .and_then(|realm| realm.parse::<Url>().ok());
        let is_safe = |realm: &Url| {
            realm.scheme() == "https" || (realm.scheme() == "http" && registry.scheme() == "http")
        };
        realm.filter(is_safe).ok_or_else(|| {
            let what = shown(registry);
            FetchError::Broken(format!("{what} names no safe address to get a token from"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Challenge;

    #[track_caller]
    fn check(text: &str, expected: (&str, &[(&str, &str)])) {
        let challenge = Challenge::parse(text).unwrap();
        let parameters: Vec<(&str, &str)> = challenge
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(
            (challenge.scheme.as_str(), parameters.as_slice()),
            expected,
            "{text}"
        );
    }

    #[test]
    fn challenges_are_read() {
        let bearer = [
            ("realm", "https://auth.test/token"),
            ("service", "registry.test"),
            ("scope", "repository:a/b:pull,push"),
        ];
        let text = r#"Bearer realm="https://auth.test/token",service="registry.test",scope="repository:a/b:pull,push""#;
        check(text, ("bearer", &bearer));
        check("Basic realm=x", ("basic", &[("realm", "x")]));
        check("Negotiate", ("negotiate", &[]));
        check(
            "Bearer realm=\"a\", error = invalid",
            ("bearer", &[("realm", "a"), ("error", "invalid")]),
        );
    }

    #[test]
    fn a_realm_is_as_safe_as_its_registry() {
        let realm = |text: &str, registry: &str| {
            let challenge = Challenge::parse(&format!("Bearer realm=\"{text}\"")).unwrap();
            challenge.realm(&registry.parse().unwrap()).is_ok()
        };
        assert!(realm("https://auth.test/t", "https://registry.test"));
        assert!(realm("http://auth.test/t", "http://registry.test"));
        assert!(!realm("http://auth.test/t", "https://registry.test"));
        assert!(!realm("file:///etc/passwd", "http://registry.test"));
        assert!(!realm("/token", "https://registry.test"));
    }
}
