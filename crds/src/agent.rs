//! Agent: instructions, a model, tools, and a loop or a graph that uses them.

mod graph;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use graph::{
    Arm, Channel, Edge, Exec, Graph, McpCall, ModelCall, Node, Reducer, Retry, Set, Template,
};

use crate::{
    condition::Condition,
    reference::SecretKeyRef,
    schema::{DECIMAL, DURATION, MODEL_NAME, TEXT_LENGTH_MAX, TOOL_NAME},
};

/// What an agent does.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "quarterdeck.dev",
    version = "v1alpha1",
    kind = "Agent",
    plural = "agents",
    shortname = "agt",
    category = "quarterdeck",
    namespaced,
    doc = "An agent: a model with instructions and tools, as a loop or as a graph of steps. The agent runtime runs it durably.",
    derive = "PartialEq",
    status = "AgentStatus",
    printcolumn = r#"{"name": "Model", "type": "string", "jsonPath": ".status.model"}"#,
    printcolumn = r#"{"name": "Suspended", "type": "boolean", "jsonPath": ".spec.suspend"}"#,
    printcolumn = r#"{"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}"#,
    printcolumn = r#"{"name": "Reason", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].reason"}"#,
    printcolumn = r#"{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name": "Description", "type": "string", "jsonPath": ".spec.description", "priority": 1}"#,
    printcolumn = r#"{"name": "Message", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].message", "priority": 1}"#
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.__loop__) != has(self.graph)",
    "message": "give either spec.loop or spec.graph",
    "fieldPath": ".loop"
}]))]
pub struct AgentSpec {
    /// What it is good for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// The model that steps use unless they name another.
    pub model: AgentModel,
    /// The system prompt, a minijinja template over input, state and run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEXT_LENGTH_MAX))]
    pub instructions: Option<String>,
    /// What the model may call and graph nodes may use, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub tools: Vec<Tool>,
    /// Ask the model, run the tools that it calls, repeat until it answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub r#loop: Option<Loop>,
    /// Explicit steps over a shared state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
    /// When a run is stopped.
    #[serde(default)]
    pub limits: Limits,
    /// Whether new runs are refused; runs under way go on.
    #[serde(default)]
    pub suspend: bool,
}

/// A model and how to sample from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "has(self.name) != has(self.ref)",
        "message": "give either name or ref",
        "fieldPath": ".name"
    },
    {
        "rule": "!has(self.temperature) || double(self.temperature) <= 2.0",
        "message": "must be at most 2",
        "fieldPath": ".temperature"
    }
]))]
pub struct AgentModel {
    /// The name in requests to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = MODEL_NAME))]
    pub name: Option<String>,
    /// A Route of the same namespace, in place of a name.
    #[serde(rename = "ref", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub route: Option<String>,
    /// Sampling temperature as a decimal, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8), regex(pattern = DECIMAL))]
    pub temperature: Option<String>,
    /// Most tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_tokens: Option<u32>,
    /// Seed for sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// Something that an agent can use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.workspace) != has(self.mcp)",
    "message": "give either workspace or mcp",
    "fieldPath": ".workspace"
}]))]
pub struct Tool {
    /// Its name; functions of an MCP server are called NAME__FUNCTION.
    #[schemars(length(min = 1, max = 32), regex(pattern = TOOL_NAME), extend("x-kubernetes-validations" = [{
        "rule": "!self.contains('__')",
        "message": "may not hold __, which parts a server's name from its function's"
    }]))]
    pub name: String,
    /// Programs and files of a workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<WorkspaceTool>,
    /// Functions of a Model Context Protocol server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpTool>,
}

/// Programs and files of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WorkspaceTool {
    /// The Workspace, of the same namespace.
    #[serde(rename = "ref")]
    #[schemars(length(min = 1, max = 253))]
    pub workspace: String,
    /// Programs that may be run; all if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "set"))]
    pub commands: Vec<String>,
}

/// Functions of a Model Context Protocol server over streamable HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpTool {
    /// The server's URL, as http://tools.default.svc:8080/mcp.
    #[schemars(length(min = 8, max = 1024), extend("x-kubernetes-validations" = [{
        "rule": "self.matches('^https?://[^/?#]+.*$')",
        "message": "must be an http or https URL"
    }]))]
    pub url: String,
    /// Headers of every request, from Secrets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub headers_from: Vec<Header>,
    /// Functions that may be called; a trailing * takes all with this start; none if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "set"))]
    pub allow: Vec<String>,
}

/// A header from a Secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The header's name, as Authorization.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9-]+$"))]
    pub name: String,
    /// The Secret's key with the whole value.
    pub secret_key_ref: SecretKeyRef,
}

/// The model-tool loop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Loop {
    /// Most model calls of a run.
    #[serde(default = "default_turns")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_turns: u32,
}

/// When a run is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Most steps of a run.
    #[serde(default = "default_steps")]
    #[schemars(range(min = 1, max = 10_000))]
    pub steps: u32,
    /// Most tool calls of a run.
    #[serde(default = "default_tool_calls")]
    #[schemars(range(min = 0, max = 10_000))]
    pub tool_calls: u32,
    /// Time from a run's start.
    #[serde(default = "default_wall")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub wall: String,
}

/// What the operator observed about an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AgentStatus {
    /// The generation that was observed; -1 before the first look.
    #[serde(default = "crate::condition::unobserved")]
    pub observed_generation: i64,
    /// The model's name in requests to the gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub model: Option<String>,
    /// The snapshot's version that first held this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub snapshot_version: Option<String>,
    /// The conditions, by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

impl Default for AgentStatus {
    fn default() -> Self {
        Self {
            observed_generation: crate::condition::unobserved(),
            model: None,
            snapshot_version: None,
            conditions: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps: default_steps(),
            tool_calls: default_tool_calls(),
            wall: default_wall(),
        }
    }
}

const fn default_turns() -> u32 {
    12
}

const fn default_steps() -> u32 {
    100
}

const fn default_tool_calls() -> u32 {
    200
}

fn default_wall() -> String {
    "30m".to_owned()
}
