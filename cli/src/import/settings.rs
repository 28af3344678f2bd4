//! Settings beside `model_list`: what of them Routes have too, and a warning for each that they have not.

use serde_json::{Map, Value, json};

use super::{Config, redis, seconds, secrets::Secrets, text};

/// What holds for all models.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// How a backend is picked, if that is said.
    pub(super) strategy: Option<&'static str>,
    /// Tries after the first.
    pub(super) retries: Option<u64>,
    /// Pause before the first retry.
    pub(super) backoff: Option<String>,
    /// How long a request may take.
    pub(super) timeout: Option<String>,
    /// How long the first token may take.
    pub(super) first_token: Option<String>,
    /// A Route's cache, if answers are given again.
    pub(super) cache: Option<Map<String, Value>>,
    /// Names that stand for others.
    pub(super) aliases: Vec<(String, String)>,
    /// What takes over: for which failures, of which model, by which models.
    pub(super) fallbacks: Vec<(&'static [&'static str], String, Vec<String>)>,
    /// What takes over for every model.
    pub(super) default_fallbacks: Vec<String>,
    credentials: Vec<(String, Map<String, Value>)>,
}

/// The kinds of fallbacks, and the failures that they are for.
const FALLBACKS: [(&str, &[&str]); 3] = [
    ("fallbacks", &["Error", "Timeout", "RateLimit"]),
    ("context_window_fallbacks", &["ContextWindow"]),
    ("content_policy_fallbacks", &["ContentPolicy"]),
];

/// Routing strategies, and a Route's.
const STRATEGIES: [(&str, &str); 6] = [
    ("simple-shuffle", "Weighted"),
    ("least-busy", "LeastBusy"),
    ("latency-based-routing", "Latency"),
    ("cost-based-routing", "Cost"),
    ("usage-based-routing", "Headroom"),
    ("usage-based-routing-v2", "Headroom"),
];

/// Settings that nothing needs to be said of: they are so here, or change how LiteLLM itself runs.
const QUIET: [&str; 8] = [
    "drop_params",
    "set_verbose",
    "json_logs",
    "num_workers",
    "telemetry",
    "enable_pre_call_checks",
    "store_model_in_db",
    "use_client_credentials_pass_through_routes",
];

impl Settings {
    /// Reads the settings.
    pub(super) fn read(config: &Config, secrets: &mut Secrets, warnings: &mut Vec<String>) -> Self {
        let mut settings = Self::default();
        for (section, value) in config {
            match (section.as_str(), value) {
                ("model_list", _) => {}
                ("credential_list", Value::Array(list)) => settings.take_credentials(list),
                (
                    "router_settings" | "litellm_settings" | "general_settings",
                    Value::Object(fields),
                ) => {
                    for (name, value) in fields {
                        if name == "cache" && value == true {
                            settings.cache = Some(cache(fields, secrets, warnings));
                        } else if !settings.take(name, value, warnings)
                            && !QUIET.contains(&name.as_str())
                        {
                            warnings.push(format!("{section}.{name} {}", advice(name)));
                        }
                    }
                }
                (_, Value::Null) => {}
                _ => warnings.push(format!("{section} {}", advice(section))),
            }
        }
        settings
    }

    /// Takes a setting; whether there is a counterpart.
    fn take(&mut self, name: &str, value: &Value, warnings: &mut Vec<String>) -> bool {
        if let Some((_, classes)) = FALLBACKS.iter().find(|(known, _)| *known == name) {
            for map in value.as_array().into_iter().flatten() {
                for (model, others) in map.as_object().into_iter().flatten() {
                    self.fallbacks.push((classes, model.clone(), names(others)));
                }
            }
            return true;
        }
        match name {
            "routing_strategy" => {
                let word = value.as_str().unwrap_or_default();
                let known = STRATEGIES.iter().find(|(known, _)| *known == word);
                self.strategy = known.map(|(_, strategy)| *strategy);
                if known.is_none() {
                    warnings.push(format!(
                        "routing_strategy `{word}` is not known; Weighted takes its place"
                    ));
                }
            }
            "num_retries" => self.retries = value.as_u64(),
            "retry_after" => self.backoff = seconds(value),
            "timeout" | "request_timeout" => self.timeout = seconds(value).or(self.timeout.take()),
            "stream_timeout" => self.first_token = seconds(value),
            "model_group_alias" => {
                for (alias, model) in value.as_object().into_iter().flatten() {
                    let model = model.as_str().map(str::to_owned);
                    let model = model.or_else(|| text(model_of(value, alias)?, "model"));
                    self.aliases
                        .extend(model.map(|model| (alias.clone(), model)));
                }
            }
            "default_fallbacks" => self.default_fallbacks = names(value),
            "cache" | "cache_params" => {}
            _ => return false,
        }
        true
    }

    fn take_credentials(&mut self, list: &[Value]) {
        for entry in list.iter().filter_map(Value::as_object) {
            let values = entry.get("credential_values").and_then(Value::as_object);
            if let (Some(name), Some(values)) = (text(entry, "credential_name"), values) {
                self.credentials.push((name, values.clone()));
            }
        }
    }

    /// An entry of `model_list` with the credentials that it names.
    pub(super) fn with_credentials(
        &self,
        entry: &Value,
        at: &str,
        warnings: &mut Vec<String>,
    ) -> Map<String, Value> {
        let mut entry = entry.as_object().cloned().unwrap_or_default();
        let Some(Value::Object(parameters)) = entry.get_mut("litellm_params") else {
            return entry;
        };
        let Some(name) = text(parameters, "litellm_credential_name") else {
            return entry;
        };
        match self.credentials.iter().find(|(known, _)| *known == name) {
            Some((_, values)) => {
                for (name, value) in values {
                    parameters
                        .entry(name.clone())
                        .or_insert_with(|| value.clone());
                }
            }
            None => warnings.push(format!(
                "{at}: there is no credential `{name}` in credential_list"
            )),
        }
        entry
    }
}

/// A Route's cache.
fn cache(
    section: &Map<String, Value>,
    secrets: &mut Secrets,
    warnings: &mut Vec<String>,
) -> Map<String, Value> {
    let empty = Map::new();
    let parameters = section.get("cache_params").and_then(Value::as_object);
    let parameters = parameters.unwrap_or(&empty);
    let ttl = parameters.get("ttl").and_then(seconds);
    let ttl = ttl.unwrap_or_else(|| "10m".to_owned());
    let mut cache = Map::from_iter([("ttl".to_owned(), json!(ttl))]);
    match text(parameters, "type").as_deref() {
        Some("local") => {}
        None => warnings.push(
            "cache_params.type is missing, which means the Redis of REDIS_HOST to LiteLLM; answers are kept in each gateway's memory"
                .to_owned(),
        ),
        Some("redis") => {
            let store = redis::store(parameters, secrets, warnings);
            cache.extend(store.map(|store| ("store".to_owned(), store)));
        }
        Some(kind) => warnings.push(format!(
            "cache_params.type `{kind}`: answers are kept in each gateway's memory"
        )),
    }
    cache
}

fn model_of<'a>(aliases: &'a Value, alias: &str) -> Option<&'a Map<String, Value>> {
    aliases.get(alias)?.as_object()
}

fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What to do about a setting without a counterpart.
fn advice(name: &str) -> &'static str {
    match name {
        "master_key" => "has no counterpart in resources; start the gateway with --admin-key-file",
        "database_url" => {
            "has no counterpart in resources; start the gateway with --ledger-url-file for a ledger in PostgreSQL. Keys lie in the gateway's data folder"
        }
        "allowed_fails" | "cooldown_time" => {
            "has no counterpart; backends that fail are left out by themselves"
        }
        "redis_host" | "redis_port" | "redis_password" | "redis_url" => {
            "is not needed; gateways share limits by themselves"
        }
        "success_callback" | "failure_callback" | "callbacks" => {
            "has no counterpart; take metrics from /metrics"
        }
        "environment_variables" => "is not read; set them where the gateway runs",
        "guardrails" | "mcp_servers" => "is not imported; write it by hand",
        _ => "has no counterpart",
    }
}
