//! Route: which models answer to which names, for whom.

mod backend_limits;
mod cache;
mod guard;
mod jwt;
mod mirror;
mod prices;
mod prompts;
mod queue;
mod resilience;
mod tool_prices;
mod tools;

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    backend_limits::BackendLimits,
    cache::{Cache, CacheStore},
    guard::{
        Guard, GuardAction, GuardPhases, GuardType, PiiGuard, PiiKind, PromptInjectionGuard,
        RegexGuard, ToolsGuard, WebhookFailure, WebhookGuard,
    },
    jwt::Jwt,
    mirror::Mirror,
    prices::{LongPrompts, Rates},
    prompts::{PromptTemplate, Prompts},
    queue::{ColdStart, Fairness, Queue},
    resilience::{FailureClass, Fallback, Hedging, Session, SessionSource},
    tool_prices::{ToolPrice, ToolPrices},
    tools::{A2a, A2aAgent, KeyToolFilter, Mcp, McpServer, OauthClient, ToolFilter},
};
use crate::{
    condition::Condition,
    external::ExternalAdapter,
    reference::NameRef,
    schema::{DECIMAL, DNS_LABEL, DURATION, ONE_STAR, label_map},
};

/// Names, targets and access.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quarterdeck.dev",
    version = "v1alpha1",
    kind = "Route",
    plural = "routes",
    shortname = "rt",
    category = "quarterdeck",
    namespaced,
    doc = "A route in the gateway: requests for some model names go to some Models.",
    derive = "PartialEq",
    status = "RouteStatus",
    printcolumn = r#"{"name": "Models", "type": "string", "jsonPath": ".spec.match.models"}"#,
    printcolumn = r#"{"name": "Strategy", "type": "string", "jsonPath": ".spec.targets.strategy"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Snapshot", "type": "string", "jsonPath": ".status.snapshotVersion", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.match) || has(self.mcp) || has(self.a2a)",
        "message": "a Route answers for models (match and targets), tools (mcp) or agents (a2a); give at least one of them"
    },
    {
        "rule": "has(self.match) == has(self.targets)",
        "message": "match and targets belong together: which models, and where their requests go"
    }
]))]
pub struct RouteSpec {
    /// Which requests for models it answers; none if not given.
    #[serde(default, skip_serializing_if = "Match::is_empty")]
    pub r#match: Match,
    /// Where they go.
    #[serde(default, skip_serializing_if = "Targets::is_empty")]
    pub targets: Targets,
    /// How failures are retried.
    #[serde(default)]
    pub retries: Retries,
    /// What takes over when a backend gives no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub fallbacks: Vec<Fallback>,
    /// Where copies of a share of its requests go, whose answers nobody gets; nowhere if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where requests over its concurrency wait; they are all sent at once if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// How requests wait while no backend has a replica; they are refused at once if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start: Option<ColdStart>,
    /// Who may use it; every gateway key if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// What it gives its callers in a time, and at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub limits: Vec<Limit>,
    /// What its callers may spend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub budgets: Vec<Budget>,
    /// Answers that are given again to equal requests; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// What looks at requests and answers, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub guards: Vec<Guard>,
    /// What is put in front of requests; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Prompts>,
    /// The tool servers that it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// The agents that it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a2a: Option<A2a>,
}

/// Which requests a route answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Match {
    /// Model names: exact, or with one leading or trailing *. The most exact match over all routes wins, then the oldest route.
    #[schemars(
        length(min = 1, max = 64),
        inner(length(min = 1, max = 128), regex(pattern = r"^(\*?[A-Za-z0-9._:/-]+|[A-Za-z0-9._:/-]+\*|\*)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub models: Vec<String>,
    /// A CEL expression over the request: the Route answers only those for which it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
}

/// Where requests go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.strategy != 'Weighted' || self.backends.exists(backend, !has(backend.weight) || backend.weight > 0)",
    "message": "at least one backend needs a weight over 0",
    "fieldPath": ".backends"
}]))]
pub struct Targets {
    /// How a backend is picked.
    #[serde(default)]
    pub strategy: Strategy,
    /// How a replica of a backend is picked.
    #[serde(default)]
    pub affinity: Affinity,
    /// What names the session of a request; requests of one session stay together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// The backends, by name.
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub backends: Vec<Backend>,
}

/// How a backend is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// At random by weight; the others take over when it fails.
    #[default]
    Weighted,
    /// The healthy one with the lowest priority number.
    Failover,
    /// Of two at random the one with less in progress, weighed by how long its answers take.
    LeastBusy,
    /// The one whose answers begin soonest.
    Latency,
    /// The one that is cheapest for the request by its prices.
    Cost,
    /// At random by weight and by what is left of the backends' own rate limits.
    Headroom,
}

/// How a replica of a backend is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Affinity {
    /// The less busy one of two at random.
    #[default]
    None,
    /// The one that has most of the prompt in its cache, unless too much waits there.
    Prefix,
}

/// A Model, or an InferencePool, that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.modelRef) != has(self.inferencePoolRef)",
        "message": "a backend is either a Model (modelRef) or an InferencePool (inferencePoolRef)"
    },
    {
        "rule": "!has(self.adapters) || has(self.inferencePoolRef)",
        "message": "a backend names adapters of an InferencePool only; a Model says itself which it has",
        "fieldPath": ".adapters"
    }
]))]
pub struct Backend {
    /// The backend's name in this route.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// The Model, of the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_ref: Option<NameRef>,
    /// The InferencePool (inference.networking.k8s.io/v1) of the same namespace whose ready Pods answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inference_pool_ref: Option<NameRef>,
    /// LoRA adapters that the engines of the InferencePool have or can load; requests name them alone, or as MODEL:ADAPTER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub adapters: Vec<ExternalAdapter>,
    /// Share of the requests under Weighted; 1 if not given.
    // No schema default: one inside a list would show up as a difference in every client-side apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000))]
    pub weight: Option<u32>,
    /// Order under Failover, lowest first; 0 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1000))]
    pub priority: Option<u32>,
    /// A CEL expression over the request: the backend is asked only if it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub when: Option<String>,
    /// The model's name in the forwarded request; the Model's own if not given, and for an InferencePool the one that the
    /// client asked for. A * in it stands for what the * of the Route's pattern stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = ONE_STAR))]
    pub model_override: Option<String>,
    /// What its tokens cost; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// Who marks what of a prompt is worth caching, at Anthropic and Bedrock; Client if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_cache: Option<PromptCache>,
    /// Who runs the lines of batches that the route gets; Gateway if not given. With Provider they go to the batch API of
    /// this backend's provider, OpenAI or AzureOpenAI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Batches>,
    /// What it may be sent, whoever asks; requests beyond it go to the next backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BackendLimits>,
}

/// Who runs the lines of batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Batches {
    /// The gateway, line by line, at once.
    Gateway,
    /// The provider, within a day and mostly for less.
    Provider,
}

/// Who marks what of a prompt is worth caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PromptCache {
    /// The client, if anybody.
    Client,
    /// The gateway, for clients that do not: behind the tools, the system prompt and the last turn of the user.
    Automatic,
}

/// What tokens cost, in US dollars a million.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Prices {
    /// Tokens of prompts, as "0.20".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub input_per_million: String,
    /// Tokens of prompts that the backend had cached; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub cached_input_per_million: Option<String>,
    /// Tokens of answers.
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub output_per_million: String,
    /// What all tokens of a request with a long prompt cost; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long_prompts: Option<LongPrompts>,
    /// What tokens of a line of a batch cost; as others if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batches: Option<Rates>,
    /// What is added to the cost of a request, in percent of it; below zero it is taken off; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -100, max = 1000))]
    pub margin_percent: Option<i16>,
}

/// What a route gives in a time, and at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.requests) || has(self.tokens) || has(self.concurrency)",
    "message": "a limit needs requests, tokens or concurrency"
}]))]
pub struct Limit {
    /// The limit's name in this route.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// Whose requests count together: those of one key, team, user, tag or model name, or all of the route; Key if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rate>,
    /// Tokens of prompts and answers in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Rate>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub concurrency: Option<u32>,
    /// Whether requests beyond it are refused, or only told in logs and metrics; Enforce if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
}

/// So many in a time; they come back evenly, and after a pause all may come at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many.
    #[schemars(range(min = 1, max = 1_000_000_000_000_i64))]
    pub limit: i64,
    /// The time, as 1m.
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub window: String,
}

/// What may be spent in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The budget's name in this route.
    #[schemars(
        length(min = 1, max = 63),
        regex(pattern = DNS_LABEL)
    )]
    pub name: String,
    /// Whose requests count together: those of one key, team, user, tag or model name, or all of the route; Key if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per: Option<Per>,
    /// US dollars, as "500".
    #[schemars(length(min = 1, max = 16), regex(pattern = DECIMAL))]
    pub amount: String,
    /// Whole hours after which all of it is there again, as 24h or 720h; counted from 1970, UTC.
    #[schemars(length(min = 2, max = 8), regex(pattern = "^[1-9][0-9]{0,3}h$"))]
    pub window: String,
    /// Whether requests beyond it are refused, or only told in logs and metrics; Enforce if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<LimitMode>,
}

/// Whose requests count together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Per {
    /// Those of one key.
    Key,
    /// All of the route.
    Route,
    /// Those of one team; those of keys without a team count together.
    Team,
    /// Those of one user; those of keys without a user count together.
    User,
    /// Those with one tag, for each tag of a request; those without tags count together.
    Tag,
    /// Those for one model name.
    Model,
}

/// What happens beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitMode {
    /// Requests are refused.
    Enforce,
    /// Requests pass; logs and metrics tell.
    Shadow,
}

/// How failures are retried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retries {
    /// Tries after the first, over all backends.
    #[serde(default = "default_attempts")]
    #[schemars(range(min = 0, max = 10))]
    pub attempts: u32,
    /// Pause before the first retry; it doubles with each.
    #[serde(default = "default_backoff")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub backoff: String,
    /// When a second replica is asked beside a first one that is late; never if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<Hedging>,
}

/// How long to wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// For the whole request.
    #[serde(default = "default_request")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub request: String,
    /// For a connection to a backend.
    #[serde(default = "default_connect")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub connect: String,
    /// For the first token of the answer.
    #[serde(default = "default_first_token")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub first_token: String,
    /// Between two pieces of a stream.
    #[serde(default = "default_stream_idle")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub stream_idle: String,
}

/// Who may use a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(self.anonymous && (has(self.apiKeys) || has(self.jwt)))",
    "message": "a route is either open to everybody or asks for keys or tokens",
    "fieldPath": ".anonymous"
}]))]
pub struct Auth {
    /// Only these keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_keys: Option<ApiKeys>,
    /// Besides keys, the tokens of this issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Everybody, without a key.
    #[serde(default)]
    pub anonymous: bool,
    /// Whether the Agents of this namespace may use it besides the keys in apiKeys.
    #[serde(default = "default_agents")]
    pub agents: bool,
}

/// Which keys may use a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeys {
    /// Secrets of this namespace that hold gateway keys.
    pub selector: KeySelector,
}

/// Picks Secrets by labels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeySelector {
    /// Labels that a Secret must have, besides quarterdeck.dev/api-key.
    #[schemars(schema_with = "label_map")]
    pub match_labels: BTreeMap<String, String>,
}

/// What the operator observed about a route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStatus {
    /// The generation that was observed; -1 before the first look.
    #[serde(default = "crate::condition::unobserved")]
    pub observed_generation: i64,
    /// The snapshot's version that first held this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub snapshot_version: Option<String>,
    /// What is behind each backend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub backends: Vec<BackendStatus>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What is behind a backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendStatus {
    /// The backend's name.
    #[schemars(length(max = 63))]
    pub name: String,
    /// Addresses that can take requests.
    #[schemars(range(min = 0))]
    pub endpoints: i32,
}

impl Match {
    /// Whether nothing matches.
    fn is_empty(&self) -> bool {
        self.models.is_empty()
    }
}

impl Targets {
    /// Whether there is nowhere to go.
    fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }
}

impl Default for RouteStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::condition::unobserved(),
            snapshot_version: None,
            backends: Vec::new(),
            conditions: Vec::new(),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: default_attempts(),
            backoff: default_backoff(),
            hedging: None,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: default_request(),
            connect: default_connect(),
            first_token: default_first_token(),
            stream_idle: default_stream_idle(),
        }
    }
}

const fn default_attempts() -> u32 {
    2
}

const fn default_agents() -> bool {
    true
}

fn default_backoff() -> String {
    "100ms".to_owned()
}

fn default_request() -> String {
    "10m".to_owned()
}

fn default_connect() -> String {
    "5s".to_owned()
}

fn default_first_token() -> String {
    "2m".to_owned()
}

fn default_stream_idle() -> String {
    "1m".to_owned()
}
