//! Deployments: entries of `model_list`, each of which comes to a Model and a backend.

use serde_json::{Map, Value};

use super::{
    limits::limits,
    prices::{CostMap, prices},
    provider, seconds,
    secrets::Secrets,
    text,
    wildcard::{self, Models},
};

/// What is read of `litellm_params`.
const KNOWN: [&str; 30] = [
    "model",
    "custom_llm_provider",
    "api_base",
    "base_url",
    "api_key",
    "api_version",
    "aws_access_key_id",
    "aws_secret_access_key",
    "aws_session_token",
    "aws_region_name",
    "vertex_project",
    "vertex_ai_project",
    "vertex_location",
    "vertex_ai_location",
    "vertex_credentials",
    "organization",
    "extra_headers",
    "headers",
    "weight",
    "order",
    "timeout",
    "stream_timeout",
    "input_cost_per_token",
    "output_cost_per_token",
    "cache_read_input_token_cost",
    "litellm_credential_name",
    "drop_params",
    "rpm",
    "tpm",
    "max_parallel_requests",
];

/// An entry of `model_list`.
#[derive(Debug)]
pub(super) struct Deployment {
    /// The name that requests carry.
    pub(super) name: String,
    /// The Model's engine.
    pub(super) external: Value,
    /// What the backend makes of the names that are asked for, if it stands for many models.
    pub(super) model_override: Option<String>,
    /// What the backend may be sent.
    pub(super) limits: Option<Value>,
    /// The backend's share.
    pub(super) weight: Option<u64>,
    /// The backend's place in the order of failover.
    pub(super) priority: Option<u64>,
    /// What its tokens cost.
    pub(super) prices: Option<Value>,
    /// How long a request may take, if that is said.
    pub(super) timeout: Option<String>,
    /// How long the first token may take, if that is said.
    pub(super) first_token: Option<String>,
}

impl Deployment {
    /// Reads an entry; `None` if nothing here can serve it.
    pub(super) fn read(
        entry: &Map<String, Value>,
        at: &str,
        costs: &CostMap,
        secrets: &mut Secrets,
        warnings: &mut Vec<String>,
    ) -> Option<Self> {
        let empty = Map::new();
        let object = |name: &str| entry.get(name).and_then(Value::as_object).unwrap_or(&empty);
        let (parameters, info) = (object("litellm_params"), object("model_info"));
        let Some(name) = text(entry, "model_name") else {
            warnings.push(format!("{at}.model_name is missing; it is left out"));
            return None;
        };
        let full = text(parameters, "model").unwrap_or_default();
        let custom = text(parameters, "custom_llm_provider");
        let (provider, model) = provider::split(&full, custom.as_deref());
        let models = wildcard::models(&name, &full, (&provider, &model), at, warnings);
        if models == Models::Unnamable {
            return None;
        }
        let mut asked = provider::read(parameters, at, secrets, warnings)?;
        let model_override = match models {
            Models::Many(model) => {
                // The Route says what is asked for.
                asked.external.as_object_mut()?.remove("model");
                Some(model)
            }
            Models::One | Models::Unnamable => None,
        };
        for parameter in parameters
            .keys()
            .filter(|name| !KNOWN.contains(&name.as_str()))
        {
            warnings.push(format!(
                "{at}.litellm_params.{parameter} has no counterpart"
            ));
        }
        let base = text(info, "base_model").unwrap_or_default();
        let qualified = format!("{}/{}", asked.provider, asked.model);
        let names = [base.as_str(), &full, &qualified, &asked.model];
        let number = |name: &str| parameters.get(name).and_then(Value::as_u64);
        let prices = prices(&[info, parameters], costs, &names, at, warnings);
        if model_override.is_some() && prices.is_none() {
            warnings.push(format!(
                "{at}: the models of `{full}` have no prices of their own; write those of the backend"
            ));
        }
        Some(Self {
            prices,
            model_override,
            limits: limits(parameters, at, warnings),
            external: asked.external,
            weight: number("weight"),
            priority: number("order"),
            timeout: parameters.get("timeout").and_then(seconds),
            first_token: parameters.get("stream_timeout").and_then(seconds),
            name,
        })
    }
}
