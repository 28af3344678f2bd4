//! The Redis of LiteLLM's cache, as a Secret with its URL.

use serde_json::{Map, Value, json};

use super::{
    secrets::{ENVIRONMENT, Secrets, source},
    text,
};

/// The Secret's key.
const KEY: &str = "url";
/// The port where none is said.
const PORT: &str = "6379";
/// Where a part of several servers is named, whose protocol the gateway does not speak.
const SEVERAL: [&str; 3] = ["redis_startup_nodes", "sentinel_nodes", "service_name"];

/// A Route's `cache.store`; `None` if it cannot be one.
pub(super) fn store(
    parameters: &Map<String, Value>,
    secrets: &mut Secrets,
    warnings: &mut Vec<String>,
) -> Option<Value> {
    const AT: &str = "cache_params";
    let several = |name: &&&str| parameters.contains_key(**name);
    if let Some(name) = SEVERAL.iter().find(several) {
        warnings.push(format!(
            "{AT}.{name}: one address is spoken to; answers are kept in each gateway's memory"
        ));
        return None;
    }
    let name = match text(parameters, "url") {
        Some(url) => {
            let source = source(&url, &format!("{AT}.url"), warnings);
            secrets.name(vec![(KEY.to_owned(), source)])
        }
        None => secrets.text("cache", KEY, &address(parameters, AT, warnings)),
    };
    Some(json!({"secretRef": {"name": name, "key": KEY}}))
}

/// The URL of a Redis that is named by its parts. Where a part is not in the file, it names what takes its place.
fn address(parameters: &Map<String, Value>, at: &str, warnings: &mut Vec<String>) -> String {
    let mut missing = Vec::new();
    let mut part = |value: String| match value.strip_prefix(ENVIRONMENT) {
        Some(variable) => {
            missing.push(variable.to_owned());
            variable.to_owned()
        }
        None => value,
    };
    let environment = |name: &str| format!("{ENVIRONMENT}{name}");
    let given = text(parameters, "host");
    // What the file does not say LiteLLM takes from its environment.
    let is_given = given.is_some();
    let host = part(given.unwrap_or_else(|| environment("REDIS_HOST")));
    let port = text(parameters, "port");
    let port = match is_given {
        true => port.unwrap_or_else(|| PORT.to_owned()),
        false => port.unwrap_or_else(|| environment("REDIS_PORT")),
    };
    let port = part(port);
    let password = text(parameters, "password").map(|password| {
        let source = source(&password, &format!("{at}.password"), warnings);
        environment(&source)
    });
    let password = password.or_else(|| (!is_given).then(|| environment("REDIS_PASSWORD")));
    let password = password.map(|password| format!(":{}@", part(password)));
    let database = text(parameters, "db").map_or_else(|| "0".to_owned(), part);
    let is_sealed = parameters.get("ssl").is_some_and(|ssl| ssl == true);
    let scheme = if is_sealed { "rediss" } else { "redis" };
    let password = password.unwrap_or_default();
    let url = format!("{scheme}://{password}{host}:{port}/{database}");
    match missing.is_empty() {
        true => url,
        false => format!("REPLACE: {url} with the values of {}", missing.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::address;

    #[track_caller]
    fn check(parameters: &Value, expected: &str) {
        let mut warnings = Vec::new();
        let found = address(
            parameters.as_object().unwrap(),
            "cache_params",
            &mut warnings,
        );
        assert_eq!(found, expected);
        assert!(!found.contains("hunter2"));
    }

    #[test]
    fn what_is_in_the_file_is_in_the_url_but_for_passwords() {
        check(
            &json!({"host": "cache", "port": 6380, "db": 2}),
            "redis://cache:6380/2",
        );
        check(
            &json!({"host": "cache", "ssl": true}),
            "rediss://cache:6379/0",
        );
        check(
            &json!({"host": "cache", "port": "os.environ/PORT", "password": "hunter2"}),
            "REPLACE: redis://:cache_params.password@cache:PORT/0 with the values of PORT, cache_params.password",
        );
        check(
            &json!({}),
            "REPLACE: redis://:REDIS_PASSWORD@REDIS_HOST:REDIS_PORT/0 with the values of REDIS_HOST, REDIS_PORT, REDIS_PASSWORD",
        );
    }
}
