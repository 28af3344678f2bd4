//! The graph of an agent: channels, steps and edges.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::AgentModel;
use crate::schema::{DURATION, TEXT_LENGTH_MAX, TOOL_NAME, any_value, text_map};

/// Most channels, and most nodes, of a graph.
const GRAPH_SIZE_MAX: usize = 64;
/// A channel's or a step's name.
const NAME: &str = "^[A-Za-z_][A-Za-z0-9_]{0,47}$";

/// Steps over a shared state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Graph {
    /// The channels of the state, by name; the channel input always exists and holds the run's input.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "bounded_map::<Channel>")]
    pub state: BTreeMap<String, Channel>,
    /// The steps, by name.
    #[schemars(schema_with = "bounded_map::<Node>")]
    pub nodes: BTreeMap<String, Node>,
    /// Which step follows which, one edge for each source; the first starts at start, the last lead to end.
    #[schemars(length(min = 1, max = 65), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["from"]))]
    pub edges: Vec<Edge>,
    /// CEL over the final state that gives the run's output; the whole state if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = TEXT_LENGTH_MAX))]
    pub output: Option<String>,
}

/// One value of the state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// How a write meets the value that is there.
    #[serde(default)]
    pub reducer: Reducer,
    /// The value at the start; null, [] for append or 0 for sum if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_value")]
    pub default: Option<Value>,
}

/// How a write meets the value that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Reducer {
    /// It replaces the value.
    #[default]
    Replace,
    /// It, or each element of a list, is appended.
    Append,
    /// Objects are merged key by key.
    Merge,
    /// Numbers are added.
    Sum,
}

/// One step: exactly one of model, exec, mcp, template and set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.model), has(self.exec), has(self.mcp), has(self.template), has(self.set)].filter(given, given).size() == 1",
    "message": "give exactly one of model, exec, mcp, template and set"
}]))]
pub struct Node {
    /// Asks a model and writes the answer's text to a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelCall>,
    /// Runs a program in a workspace and writes {exitCode, stdout, stderr} to a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// Calls a function of an MCP server and writes its content to a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpCall>,
    /// Writes a rendered template to a channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,
    /// Writes values to channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Set>,
    /// What happens when the step fails.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
    /// Time of one attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32), regex(pattern = DURATION))]
    pub timeout: Option<String>,
}

/// Asks a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelCall {
    /// The user message, a minijinja template.
    #[schemars(length(min = 1, max = TEXT_LENGTH_MAX))]
    pub prompt: String,
    /// Another model than the agent's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<AgentModel>,
    /// The channel that takes the answer.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: String,
}

/// Runs a program in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Exec {
    /// The workspace tool's name.
    #[schemars(length(min = 1, max = 32), regex(pattern = TOOL_NAME))]
    pub tool: String,
    /// Program and arguments, each a minijinja template.
    #[schemars(length(min = 1, max = 64), inner(length(max = TEXT_LENGTH_MAX)))]
    pub command: Vec<String>,
    /// Standard input, a minijinja template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = TEXT_LENGTH_MAX))]
    pub stdin: Option<String>,
    /// Files to write before the program runs, path to content, both minijinja templates.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map")]
    pub files: BTreeMap<String, String>,
    /// The channel that takes the result.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: String,
    /// Whether an exit code other than 0 fails the step.
    #[serde(default)]
    pub check: bool,
}

/// Calls a function of an MCP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct McpCall {
    /// The MCP tool's name.
    #[schemars(length(min = 1, max = 32), regex(pattern = TOOL_NAME))]
    pub tool: String,
    /// The server's function.
    #[schemars(length(min = 1, max = 128))]
    pub function: String,
    /// CEL that gives the arguments, an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = TEXT_LENGTH_MAX))]
    pub arguments: Option<String>,
    /// The channel that takes the result.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: String,
}

/// Renders a template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The minijinja template.
    #[schemars(length(max = TEXT_LENGTH_MAX))]
    pub template: String,
    /// The channel that takes the text.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: String,
}

/// Computes values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Set {
    /// The values: channel to CEL.
    #[schemars(schema_with = "text_map")]
    pub values: BTreeMap<String, String>,
}

/// What happens when a step fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// How often the step is tried in all.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u32,
}

/// What follows a step: one step, or the first arm whose condition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.to) != has(self.branch)",
    "message": "give either to or branch",
    "fieldPath": ".to"
}]))]
pub struct Edge {
    /// The step that ended, or start.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub from: String,
    /// The next step, or end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: Option<String>,
    /// The ways out; the first whose condition holds is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub branch: Option<Vec<Arm>>,
}

/// One way out of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Arm {
    /// CEL that must give a boolean; the arm is always taken if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = TEXT_LENGTH_MAX))]
    pub when: Option<String>,
    /// The next step, or end.
    #[schemars(length(min = 1, max = 48), regex(pattern = NAME))]
    pub to: String,
}

/// A map with names as keys and at most [`GRAPH_SIZE_MAX`] entries.
fn bounded_map<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<BTreeMap<String, T>>();
    schema.insert("maxProperties".to_owned(), json!(GRAPH_SIZE_MAX));
    schema
}
