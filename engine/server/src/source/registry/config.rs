//! Docker's `config.json`: which user of which registry. Programs that keep credentials elsewhere are not run.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use protocol::secret::SecretString;
use serde::Deserialize;

use super::login::Credential;
use crate::source::error::FetchError;

const CONFIG_BYTES_MAX: u64 = 1 << 20;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, User>,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

/// The user for a repository of a registry, if the file names one.
pub(in crate::source) fn credential(
    path: &Path,
    registry: &str,
    repository: &str,
) -> Result<Option<Credential>, FetchError> {
    let broken = |reason: &str| {
        let path = path.display();
        FetchError::Setup(format!(
            "the registry credentials in {path} cannot be used: {reason}"
        ))
    };
    let metadata = fs::metadata(path).map_err(|error| broken(&error.to_string()))?;
    if CONFIG_BYTES_MAX < metadata.len() {
        return Err(broken("the file is too long"));
    }
    let text = fs::read(path).map_err(|error| broken(&error.to_string()))?;
    find(&text, registry, repository).map_err(|reason| broken(&reason))
}

fn find(text: &[u8], registry: &str, repository: &str) -> Result<Option<Credential>, String> {
    // The parser's own message would show what is in the file.
    let config: Config = serde_json::from_slice(text)
        .map_err(|error| format!("line {} is not right", error.line()))?;
    let wanted = format!("{registry}/{repository}");
    let covers = |key: &&String| {
        let place = place_of(key);
        wanted == place || wanted.starts_with(&format!("{place}/"))
    };
    // The longest place is the most particular one.
    let key = config
        .auths
        .keys()
        .filter(covers)
        .max_by_key(|key| place_of(key).len());
    let Some((key, user)) = key.and_then(|key| config.auths.get_key_value(key)) else {
        return Ok(None);
    };
    let User {
        auth,
        username,
        password,
    } = user;
    if auth.is_empty() {
        return Ok((!username.is_empty()).then(|| Credential {
            user: username.clone(),
            password: SecretString::new(password.clone()),
        }));
    }
    let decoded = STANDARD.decode(auth.trim()).ok();
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let (user, password) = decoded
        .as_deref()
        .and_then(|text| text.split_once(':'))
        .ok_or_else(|| format!("the entry {key:?} is not USER:PASSWORD in base64"))?;
    Ok(Some(Credential {
        user: user.to_owned(),
        password: SecretString::new(password.trim_end_matches('\0').to_owned()),
    }))
}

/// A key without its scheme and the path of an old API.
fn place_of(key: &str) -> &str {
    let (_, place) = key.split_once("://").unwrap_or(("", key));
    let place = place.trim_end_matches('/');
    ["/v1", "/v2"]
        .iter()
        .find_map(|api| place.strip_suffix(api))
        .unwrap_or(place)
}

#[cfg(test)]
mod tests {
    use super::find;

    #[track_caller]
    fn check(registry: &str, repository: &str, expected: Result<Option<(&str, &str)>, &str>) {
        // `dTpw` is `u:p`, `eDp5` is `x:y`.
        let config = br#"{"auths": {
            "registry.test": {"auth": "dTpw"},
            "registry.test/team": {"auth": "eDp5"},
            "https://old.test/v1/": {"username": "a", "password": "b"},
            "empty.test": {},
            "bad.test": {"auth": "!"}
        }, "credsStore": "desktop"}"#;
        let found = find(config, registry, repository).map(|credential| {
            credential.map(|credential| (credential.user, credential.password.expose().to_owned()))
        });
        let expected = expected
            .map(|pair| pair.map(|(user, password)| (user.to_owned(), password.to_owned())))
            .map_err(str::to_owned);
        assert_eq!(found, expected, "{registry}/{repository}");
    }

    #[test]
    fn the_most_particular_entry_counts() {
        check("registry.test", "other/m", Ok(Some(("u", "p"))));
        check("registry.test", "team/m", Ok(Some(("x", "y"))));
        check("registry.test", "teams/m", Ok(Some(("u", "p"))));
        check("old.test", "m", Ok(Some(("a", "b"))));
        check("registry.test.evil.test", "m", Ok(None));
        check("empty.test", "m", Ok(None));
        check(
            "bad.test",
            "m",
            Err("the entry \"bad.test\" is not USER:PASSWORD in base64"),
        );
        assert!(find(b"{\"auths\": 1}", "a", "b").is_err());
    }
}
