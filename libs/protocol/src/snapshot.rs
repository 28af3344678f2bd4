//! Snapshots: what the operator tells the data planes, and how they answer.
//!
//! `GET /v1/snapshots/{plane}?node=NODE` with a bearer token answers a stream of JSON lines, each a whole snapshot;
//! the first one comes at once, an empty line is a heartbeat. `POST /v1/snapshots/{plane}/acks` takes an [`Ack`].
//! A version is the hash of the content, so equal content has an equal version on every operator replica.

mod adapter;
mod guard;
mod jwt;
mod kv_events;
mod mirror;
mod peers;
mod prices;
mod prompts;
mod target_limits;
mod tool_prices;
mod tools;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

pub use self::{
    adapter::Adapter,
    guard::{
        Action, Guard, GuardRule, OnFailure, PATTERN_BYTES_MAX, PATTERN_LENGTH_MAX, Phases, PiiKind,
    },
    jwt::{Jwt, TokenIssuer},
    kv_events::KvEvents,
    mirror::{MIRROR_TIMEOUT_MILLIS, Mirror},
    peers::{OnPartition, Peer, Peers},
    prices::{LongPrompts, Prices, Rates},
    prompts::{PROMPT_BYTES_MAX, PromptCache, PromptMessage, PromptRole, PromptTemplate, Prompts},
    target_limits::TargetLimits,
    tool_prices::{ToolPrice, ToolPrices},
    tools::{
        A2a, A2aAgent, ClientCredentials, HeaderCredential, Mcp, McpServer, ToolRule, UpstreamAuth,
    },
};
use crate::{
    agent::Definition,
    allowance::Allowance,
    key::hex,
    provider::{Api, Credential, Header, Provider},
    routing::{Fallback, Hedging, Queue, Session},
    secret::SecretString,
};

/// The audience of the tokens that data planes show to the operator.
pub const AUDIENCE: &str = "quarterdeck";

/// Seconds between heartbeats of a snapshot stream.
pub const HEARTBEAT_SECONDS: u64 = 10;

/// Bytes of one snapshot line that a data plane accepts.
pub const LINE_BYTES_MAX: usize = 64 << 20;

/// A snapshot for one kind of data plane.
pub trait Snapshot: Serialize + DeserializeOwned + Clone + Send + Sync + 'static {
    /// The plane's name in the URL.
    const PLANE: &'static str;
    /// The content's version.
    fn version(&self) -> &str;
}

/// What a gateway routes by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewaySnapshot {
    /// Hash of the content.
    pub version: String,
    /// The routes, in order of precedence.
    pub routes: Vec<RouteEntry>,
    /// The keys.
    pub keys: Vec<KeyEntry>,
    /// The replicas of the gateway; one that knows of no others counts for itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peers: Option<Peers>,
}

/// What an agent runtime runs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AgentsSnapshot {
    /// Hash of the content.
    pub version: String,
    /// The agents.
    pub agents: Vec<AgentEntry>,
    /// Keys that may call agents.
    pub keys: Vec<KeyEntry>,
}

impl Snapshot for GatewaySnapshot {
    const PLANE: &'static str = "gateway";
    fn version(&self) -> &str {
        &self.version
    }
}

impl Snapshot for AgentsSnapshot {
    const PLANE: &'static str = "agents";
    fn version(&self) -> &str {
        &self.version
    }
}

impl GatewaySnapshot {
    /// A snapshot of this content, with its version.
    pub fn new(routes: Vec<RouteEntry>, keys: Vec<KeyEntry>) -> Self {
        let version = content_hash(&(&routes, &keys));
        Self {
            version,
            routes,
            keys,
            peers: None,
        }
    }

    /// The same, for these replicas.
    #[must_use]
    pub fn shared_by(self, peers: Option<Peers>) -> Self {
        let version = match &peers {
            Some(peers) => content_hash(&(&self.version, peers)),
            None => self.version,
        };
        Self {
            version,
            peers,
            ..self
        }
    }
}

impl AgentsSnapshot {
    /// A snapshot of this content, with its version.
    pub fn new(agents: Vec<AgentEntry>, keys: Vec<KeyEntry>) -> Self {
        let version = content_hash(&(&agents, &keys));
        Self {
            version,
            agents,
            keys,
        }
    }
}

/// Hashes content to 16 hexadecimal digits of SHA-256.
pub fn content_hash(content: &impl Serialize) -> String {
    // These types serialise to JSON without fail: string keys only, no floats but finite ones.
    let bytes = serde_json::to_vec(content).unwrap_or_default();
    hex(&Sha256::digest(&bytes)[..8])
}

/// One route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteEntry {
    /// The route's namespace.
    #[serde(default)]
    pub namespace: String,
    /// The route's name.
    pub name: String,
    /// The generation of the resource that this was compiled from.
    #[serde(default)]
    pub generation: i64,
    /// Model names that it answers: exact, or with one leading or trailing `*`.
    pub models: Vec<String>,
    /// How a target is picked.
    #[serde(default)]
    pub strategy: Strategy,
    /// How a replica of a target is picked.
    #[serde(default)]
    pub affinity: Affinity,
    /// Requests of one session go to the same target and replica; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Session>,
    /// A CEL expression: the route answers only requests for which it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Where requests go.
    pub targets: Vec<Target>,
    /// How failures are retried.
    #[serde(default)]
    pub retries: Retries,
    /// When a second replica is asked beside the first; never if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedging: Option<Hedging>,
    /// What takes over for a target that gave no answer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<Fallback>,
    /// Where copies of a share of its requests go; nowhere if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Box<Mirror>>,
    /// How long to wait.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Where requests over its concurrency wait; they are all sent at once if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// How long a request waits for a first replica, in milliseconds; not at all if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cold_start_millis: Option<u64>,
    /// Which keys may use it.
    #[serde(default)]
    pub access: Access,
    /// Whose tokens it takes besides those keys; those only that the gateway takes anyway if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// What it gives its callers in a time, and at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<Limit>,
    /// What its callers may spend.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// The answers that it gives again; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
    /// What looks at requests and answers, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guards: Vec<Guard>,
    /// What is put in front of requests; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<Box<Prompts>>,
    /// Its tool servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<Mcp>,
    /// Its agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub a2a: Option<A2a>,
}

/// Answers that are given again to equal requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cache {
    /// How long an answer is given again, in milliseconds.
    pub ttl_millis: u64,
    /// Bytes of answers that a gateway keeps; the least recently given ones go first.
    pub bytes_max: u64,
    /// Whose answers are given to whom.
    #[serde(default)]
    pub per: Per,
    /// Where all gateways keep them besides; nowhere if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<CacheStore>,
}

/// A Redis that keeps the answers of all gateways.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheStore {
    /// Its URL, with a password if it asks for one.
    pub url: SecretString,
    /// How long it may take to say whether it has an answer, in milliseconds.
    #[serde(default = "CacheStore::timeout_default")]
    pub timeout_millis: u64,
}

impl CacheStore {
    /// How long a Redis may take whose settings do not say, in milliseconds.
    pub const fn timeout_default() -> u64 {
        50
    }
}

/// What a route gives in a time, and at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    /// Its name in the route.
    pub name: String,
    /// Whose requests count together.
    #[serde(default)]
    pub per: Per,
    /// Requests in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<Rate>,
    /// Tokens of prompts and answers in a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<Rate>,
    /// Requests at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// What happens when it is reached.
    #[serde(default)]
    pub mode: Mode,
}

/// What may be spent in a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Its name in the route.
    pub name: String,
    /// Whose requests count together.
    #[serde(default)]
    pub per: Per,
    /// The amount, in nano-dollars.
    pub amount_nanos: u64,
    /// The length of a window, in milliseconds; windows begin at its multiples since 1970, UTC.
    pub window_millis: u64,
    /// What happens when it is spent.
    #[serde(default)]
    pub mode: Mode,
}

/// Whose requests count together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Per {
    /// Those of one key.
    #[default]
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

/// So many in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rate {
    /// How many; after a pause all at once.
    pub limit: u64,
    /// The time in which as many come back, in milliseconds.
    pub window_millis: u64,
}

/// What happens when a limit is reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// Requests are refused.
    #[default]
    Enforce,
    /// Requests pass; logs and metrics tell.
    Shadow,
}

/// How a target is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// By weight, at random; the others are fallbacks.
    #[default]
    Weighted,
    /// The lowest priority number that is healthy.
    Failover,
    /// Of two at random, the one with less in progress, weighed by how long its answers take.
    LeastBusy,
    /// The one whose answers begin soonest.
    Latency,
    /// The one that is cheapest for the request.
    Cost,
    /// At random by weight and by what is left of the targets' own rate limits.
    Headroom,
}

impl Strategy {
    /// Whether it depends on how targets have answered so far.
    pub const fn is_measured(self) -> bool {
        match self {
            Self::Weighted | Self::Failover => false,
            Self::LeastBusy | Self::Latency | Self::Cost | Self::Headroom => true,
        }
    }
}

/// How a replica of a target is picked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Affinity {
    /// Of two at random, the one with fewer requests in progress.
    #[default]
    None,
    /// The one that has most of the prompt in its key-value cache, unless too much waits there.
    Prefix,
}

/// A place that answers requests.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its name in the route.
    pub name: String,
    /// The model's name there; empty for the one that the client asked for.
    pub model: String,
    /// Base URLs with `/v1`, one for each ready replica; empty while none is ready.
    pub endpoints: Vec<String>,
    /// Share of the traffic under [`Strategy::Weighted`].
    #[serde(default = "whole_share")]
    pub weight: u32,
    /// Order under [`Strategy::Failover`], lowest first.
    #[serde(default)]
    pub priority: u32,
    /// A CEL expression: the target is asked only for requests for which it is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What the gateway shows to be let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
    /// Whose API the endpoints speak.
    #[serde(default, skip_serializing_if = "Provider::is_default")]
    pub provider: Provider,
    /// The name of a vendor whose peculiarities are known ([`crate::vendor::find`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// What of OpenAI's and Anthropic's APIs the endpoints answer themselves; empty means all that the provider does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apis: Vec<Api>,
    /// Headers that every request carries.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// What its tokens cost; nothing if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
    /// The Model, as `NAMESPACE/NAME`, if it has replicas only while it is wanted: the operator is told so
    /// ([`crate::demand::Demand`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_demand: Option<String>,
    /// How its replicas say what changes in their caches; they do not if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_events: Option<KvEvents>,
    /// The LoRA adapters that its engines have, or can load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<Adapter>,
    /// Who marks what of a prompt is worth caching.
    #[serde(default, skip_serializing_if = "PromptCache::is_default")]
    pub prompt_cache: PromptCache,
    /// Who runs the lines of batches that it gets.
    #[serde(default, skip_serializing_if = "Batches::is_default")]
    pub batches: Batches,
    /// What it may be sent; as much as comes if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<TargetLimits>,
}

/// Who runs the lines of batches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Batches {
    /// The gateway, line by line.
    #[default]
    Gateway,
    /// The provider, as a batch of its own.
    Provider,
}

impl Batches {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    const fn is_default(&self) -> bool {
        matches!(self, Self::Gateway)
    }
}

const fn whole_share() -> u32 {
    1
}

/// How failures are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    /// Tries after the first, over all targets.
    pub attempts: u32,
    /// Milliseconds before the first retry; doubles with each.
    pub backoff_millis: u64,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            attempts: 2,
            backoff_millis: 100,
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    /// For the whole request, in milliseconds.
    pub request_millis: u64,
    /// For a connection to a target, in milliseconds.
    #[serde(skip_serializing_if = "is_connect_default")]
    pub connect_millis: u64,
    /// For the first token of a stream, or the beginning of another answer, in milliseconds.
    pub first_byte_millis: u64,
    /// Between two chunks of a stream, in milliseconds.
    pub stream_idle_millis: u64,
}

/// How long a connection may take to come about, in milliseconds, if nothing else is said.
pub const CONNECT_MILLIS: u64 = 5000;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
const fn is_connect_default(millis: &u64) -> bool {
    *millis == CONNECT_MILLIS
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request_millis: 600_000,
            connect_millis: CONNECT_MILLIS,
            first_byte_millis: 120_000,
            stream_idle_millis: 60_000,
        }
    }
}

/// Who may use a route.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// The keys of these ids ([`KeyEntry::id`]).
    Keys(Vec<String>),
    /// Every key of the snapshot.
    #[default]
    AnyKey,
    /// Everybody, without a key.
    Open,
}

/// A key, as its hash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyEntry {
    /// `NAMESPACE/NAME` of the Secret; the ledger's account.
    pub id: String,
    /// [`crate::key::hash_key`] of the key.
    pub hash: String,
    /// RFC 3339 time after which it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// The team that it is counted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The user that it is counted for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The tags that all its requests have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it may use and spend.
    #[serde(default, skip_serializing_if = "Allowance::is_empty")]
    pub allowance: Allowance,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AgentEntry {
    /// The agent's namespace.
    pub namespace: String,
    /// The agent's name.
    pub name: String,
    /// The generation of the resource that this was compiled from.
    pub generation: i64,
    /// Whether new runs are refused.
    #[serde(default)]
    pub suspended: bool,
    /// What it does.
    pub definition: Definition,
    /// How it reaches models.
    pub gateway: GatewayAccess,
    /// Ids of the keys that may call it; empty means every key of the snapshot.
    #[serde(default)]
    pub keys: Vec<String>,
}

/// How an agent reaches models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayAccess {
    /// Base URL with `/v1`.
    pub url: String,
    /// The agent's key.
    pub key: SecretString,
}

/// A data plane's answer to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ack {
    /// Which replica answers; its Pod's name on a cluster.
    pub node: String,
    /// The snapshot's version.
    pub version: String,
    /// What of it was refused and why; for that part the last good state stays in use, the rest is applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
