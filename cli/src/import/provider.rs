//! LiteLLM's providers in the words of a Model's External engine.

use protocol::vendor;
use serde_json::{Map, Value, json};

use super::{
    secrets::{Secrets, source},
    text,
};

/// Providers with an API of their own.
const KINDS: [(&str, &str); 13] = [
    ("openai", "OpenAI"),
    ("text-completion-openai", "OpenAI"),
    ("azure", "AzureOpenAI"),
    ("azure_text", "AzureOpenAI"),
    ("anthropic", "Anthropic"),
    ("anthropic_text", "Anthropic"),
    ("bedrock", "Bedrock"),
    ("bedrock_converse", "Bedrock"),
    ("vertex_ai", "VertexAI"),
    ("vertex_ai_beta", "VertexAI"),
    ("gemini", "Gemini"),
    ("ollama", "Ollama"),
    ("ollama_chat", "Ollama"),
];

/// Vendors that have another name here.
const VENDORS: [(&str, &str); 17] = [
    ("openai", "openai"),
    ("text-completion-openai", "openai"),
    ("together_ai", "together"),
    ("fireworks_ai", "fireworks"),
    ("nvidia_nim", "nvidia"),
    ("cohere_chat", "cohere"),
    ("ai21_chat", "ai21"),
    ("codestral", "mistral"),
    ("dashscope", "alibaba"),
    ("featherless_ai", "featherless"),
    ("friendliai", "friendli"),
    ("github", "github-models"),
    ("hosted_vllm", "vllm"),
    ("meta_llama", "llama"),
    ("gradient_ai", "digitalocean"),
    ("deep_infra", "deepinfra"),
    ("llamafile", "llama-cpp"),
];

/// Who is asked without a credential, unless one is given.
const WITHOUT_KEY: [&str; 9] = [
    "ollama",
    "ollama_chat",
    "hosted_vllm",
    "vllm",
    "llamafile",
    "lm_studio",
    "xinference",
    "infinity",
    "sglang",
];

/// A provider's model, as a Model's `spec.engine.external`.
#[derive(Debug)]
pub(super) struct Asked {
    /// The engine.
    pub(super) external: Value,
    /// The model's name there.
    pub(super) model: String,
    /// LiteLLM's name of the provider.
    pub(super) provider: String,
}

/// Who answers a deployment; `None` if nothing here can ask them.
pub(super) fn read(
    parameters: &Map<String, Value>,
    at: &str,
    secrets: &mut Secrets,
    warnings: &mut Vec<String>,
) -> Option<Asked> {
    let Some(full) = text(parameters, "model") else {
        warnings.push(format!(
            "{at}.litellm_params.model is missing; it is left out"
        ));
        return None;
    };
    let (provider, model) = split(&full, text(parameters, "custom_llm_provider").as_deref());
    let base_url = text(parameters, "api_base").or_else(|| text(parameters, "base_url"));
    let base_url = base_url.filter(|url| {
        let is_known = !url.starts_with("os.environ/");
        if !is_known {
            warnings.push(format!("{at}.litellm_params.api_base is an environment variable; write its value into the Model's baseURL"));
        }
        is_known
    });
    let known = KINDS.iter().find(|(name, _)| *name == provider);
    let kind = known.map_or("OpenAI", |(_, kind)| kind);
    let vendor = vendor_of(&provider);
    if known.is_none() && vendor.is_none() && base_url.is_none() {
        warnings.push(format!(
            "{at}: the provider `{provider}` is not known here and has no api_base; it is left out"
        ));
        return None;
    }
    let mut external = Map::new();
    external.insert("provider".to_owned(), json!(kind));
    if kind == "OpenAI"
        && (base_url.is_none() || !["openai", "text-completion-openai"].contains(&&*provider))
    {
        external.extend(vendor.map(|vendor| ("vendor".to_owned(), json!(vendor))));
    }
    external.extend(base_url.map(|url| ("baseURL".to_owned(), json!(url))));
    external.insert("model".to_owned(), json!(model));
    if let Some(missing) = place(kind, parameters, &mut external) {
        warnings.push(format!(
            "{at}.litellm_params.{missing} is missing; write it into the Model"
        ));
    }
    let credentials = credentials(kind, &provider, parameters, at, warnings);
    if !credentials.is_empty() {
        let name = secrets.name(credentials);
        external.insert("credentialsRef".to_owned(), json!({"name": name}));
    }
    headers(parameters, at, &mut external, warnings);
    Some(Asked {
        external: Value::Object(external),
        model,
        provider,
    })
}

/// The provider and the model of a name as `azure/gpt-4o`.
pub(super) fn split(full: &str, custom: Option<&str>) -> (String, String) {
    if let Some(custom) = custom {
        let model = full.strip_prefix(&format!("{custom}/")).unwrap_or(full);
        return (custom.to_owned(), model.to_owned());
    }
    let Some((provider, model)) = full.split_once('/') else {
        let is_claude = full.starts_with("claude");
        let provider = if is_claude { "anthropic" } else { "openai" };
        return (provider.to_owned(), full.to_owned());
    };
    // Bedrock's names may say how they are asked.
    let model = match provider {
        "bedrock" => ["converse/", "invoke/"]
            .iter()
            .find_map(|way| model.strip_prefix(way))
            .unwrap_or(model),
        _ => model,
    };
    (provider.to_owned(), model.to_owned())
}

fn vendor_of(provider: &str) -> Option<&'static str> {
    let renamed = VENDORS.iter().find(|(name, _)| *name == provider);
    let name = renamed.map_or_else(
        || provider.replace('_', "-"),
        |(_, name)| (*name).to_owned(),
    );
    vendor::find(&name).map(|vendor| vendor.name.as_str())
}

/// Where a provider is that has regions or projects; what is missing of it.
fn place(
    kind: &str,
    parameters: &Map<String, Value>,
    external: &mut Map<String, Value>,
) -> Option<&'static str> {
    let given = |name: &str| text(parameters, name).filter(|text| !text.starts_with("os.environ/"));
    match kind {
        "AzureOpenAI" => {
            if let Some(version) = given("api_version") {
                external.insert("azure".to_owned(), json!({"apiVersion": version}));
            }
            (!external.contains_key("baseURL")).then_some("api_base")
        }
        "Bedrock" => {
            let region = given("aws_region_name");
            let missing = region.is_none().then_some("aws_region_name");
            let region = region.unwrap_or_else(|| "us-east-1".to_owned());
            external.insert("bedrock".to_owned(), json!({"region": region}));
            missing
        }
        "VertexAI" => {
            let project = given("vertex_project").or_else(|| given("vertex_ai_project"));
            let location = given("vertex_location").or_else(|| given("vertex_ai_location"));
            let missing = project.is_none().then_some("vertex_project");
            let project = project.unwrap_or_else(|| "project".to_owned());
            let location = location.unwrap_or_else(|| "global".to_owned());
            external.insert(
                "vertex".to_owned(),
                json!({"project": project, "location": location}),
            );
            missing
        }
        "Ollama" => {
            external
                .entry("baseURL")
                .or_insert_with(|| json!("http://localhost:11434"));
            None
        }
        _ => None,
    }
}

/// The keys of the Secret, and where their values come from. What LiteLLM takes from the environment by itself is named
/// as it does.
fn credentials(
    kind: &str,
    provider: &str,
    parameters: &Map<String, Value>,
    at: &str,
    warnings: &mut Vec<String>,
) -> Vec<(String, String)> {
    let mut found = |key: &str, parameter: &str| {
        let at = format!("{at}.litellm_params.{parameter}");
        text(parameters, parameter).map(|value| (key.to_owned(), source(&value, &at, warnings)))
    };
    let own = |key: &str| (key.to_owned(), key.to_owned());
    match kind {
        "Bedrock" => {
            let key = found("AWS_ACCESS_KEY_ID", "aws_access_key_id");
            let secret = found("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key");
            let session = found("AWS_SESSION_TOKEN", "aws_session_token");
            let mut both = vec![
                key.unwrap_or_else(|| own("AWS_ACCESS_KEY_ID")),
                secret.unwrap_or_else(|| own("AWS_SECRET_ACCESS_KEY")),
            ];
            both.extend(session);
            both
        }
        "VertexAI" => {
            let file = found("service-account.json", "vertex_credentials");
            let default = "GOOGLE_APPLICATION_CREDENTIALS".to_owned();
            vec![file.unwrap_or_else(|| ("service-account.json".to_owned(), default))]
        }
        _ => {
            let given = found("API_KEY", "api_key");
            if given.is_none() && WITHOUT_KEY.contains(&provider) {
                return Vec::new();
            }
            let variable = format!("{}_API_KEY", provider.to_uppercase().replace('-', "_"));
            vec![given.unwrap_or_else(|| ("API_KEY".to_owned(), variable))]
        }
    }
}

fn headers(
    parameters: &Map<String, Value>,
    at: &str,
    external: &mut Map<String, Value>,
    warnings: &mut Vec<String>,
) {
    let mut headers = Vec::new();
    let organization =
        text(parameters, "organization").map(|value| ("OpenAI-Organization".to_owned(), value));
    let extra = ["extra_headers", "headers"]
        .iter()
        .filter_map(|name| parameters.get(*name)?.as_object());
    let extra = extra.flatten().map(|(name, value)| {
        let value = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), value)
    });
    for (name, value) in organization.into_iter().chain(extra) {
        let is_secret = ["key", "token", "auth"]
            .iter()
            .any(|word| name.to_lowercase().contains(word));
        if is_secret || value.starts_with("os.environ/") {
            warnings.push(format!(
                "{at}: the header `{name}` looks like a credential and is not copied"
            ));
        } else {
            headers.push(json!({"name": name, "value": value}));
        }
    }
    if !headers.is_empty() {
        external.insert("headers".to_owned(), Value::Array(headers));
    }
}
