//! An agent as the runtime knows it: instructions, tools, and a loop or a graph.
//!
//! The operator compiles an `Agent` resource into a [`Definition`]; a team without a cluster writes one in a file.
//! Templates are minijinja, conditions and values are CEL; both see `state`, `input` and `run`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::SecretString;

/// The name of the place where a graph starts.
pub const START: &str = "start";
/// The name of the place where a graph ends.
pub const END: &str = "end";

/// What an agent does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Definition {
    /// The system prompt, a template.
    #[serde(default)]
    pub instructions: String,
    /// The model that steps use unless they name another.
    pub model: ModelChoice,
    /// What the model may call, and graph nodes may use, by name.
    #[serde(default)]
    pub tools: Vec<Tool>,
    /// What runs.
    pub program: Program,
    /// When a run is stopped.
    #[serde(default)]
    pub limits: Limits,
}

/// A model and how to sample from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ModelChoice {
    /// The name in requests to the gateway.
    pub name: String,
    /// Sampling temperature, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Most tokens of one answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Seed for sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// Something an agent can use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tool {
    /// Its name; the functions of an MCP server are named `NAME__FUNCTION` (names reach models, which allow `[A-Za-z0-9_-]`).
    pub name: String,
    /// What it is.
    pub source: ToolSource,
}

/// Where a tool comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToolSource {
    /// Programs and files of a workspace.
    #[serde(rename_all = "camelCase")]
    Workspace {
        /// The daemon's base URL, as `http://10.0.0.7:7681`.
        url: String,
        /// The bearer token of the daemon.
        token: SecretString,
        /// Programs that may be run (the first word of the command); empty allows all.
        #[serde(default)]
        commands: Vec<String>,
    },
    /// A Model Context Protocol server over streamable HTTP.
    #[serde(rename_all = "camelCase")]
    Mcp {
        /// The server's URL, as `http://tools:8080/mcp`.
        url: String,
        /// Headers for every request, as `Authorization`.
        #[serde(default)]
        headers: BTreeMap<String, SecretString>,
        /// Tools that may be called; a trailing `*` matches a prefix; empty allows none.
        #[serde(default)]
        allow: Vec<String>,
    },
}

/// What runs: the model-tool loop, or a graph of steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Program {
    /// Ask the model, run the tools that it calls, repeat until it answers without a call.
    #[serde(rename_all = "camelCase")]
    Loop {
        /// Most model calls of a run.
        max_turns: u32,
    },
    /// Explicit steps and edges.
    Graph(Graph),
}

/// Steps over a shared state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Graph {
    /// The channels of the state. The channel `input` always exists and holds the run's input.
    #[serde(default)]
    pub state: BTreeMap<String, Channel>,
    /// The steps, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Which step follows which; one edge a source.
    pub edges: Vec<Edge>,
    /// CEL over the final state: the run's output. Without it the whole state is the output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
}

/// One value of the state and how writes change it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Channel {
    /// How a write meets the value that is there.
    #[serde(default)]
    pub reducer: Reducer,
    /// The value at the start (default null; `[]` for append, `0` for sum).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
}

/// How a write meets the value that is there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reducer {
    /// The write replaces the value.
    #[default]
    Replace,
    /// The write, or each element of a written list, is appended.
    Append,
    /// Objects are merged key by key.
    Merge,
    /// Numbers are added.
    Sum,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// What the step does.
    pub step: Step,
    /// How often a failing step is tried (default once).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Seconds after which one attempt is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// What a step does. Strings marked *template* are minijinja, *CEL* are CEL expressions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Step {
    /// Asks a model; the answer's text is written to a channel.
    #[serde(rename_all = "camelCase")]
    Model {
        /// The user message, a template.
        prompt: String,
        /// Another model than the agent's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<ModelChoice>,
        /// The channel that takes the answer.
        to: String,
    },
    /// Runs a program in a workspace; `{exitCode, stdout, stderr}` is written to a channel.
    #[serde(rename_all = "camelCase")]
    Exec {
        /// The workspace tool's name.
        tool: String,
        /// Program and arguments, each a template.
        command: Vec<String>,
        /// Standard input, a template.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stdin: Option<String>,
        /// Files to write before the program runs: path to content, both templates.
        #[serde(default)]
        files: BTreeMap<String, String>,
        /// The channel that takes the result.
        to: String,
        /// Whether an exit code other than 0 fails the step.
        #[serde(default)]
        check: bool,
    },
    /// Calls a tool of an MCP server; its content is written to a channel.
    #[serde(rename_all = "camelCase")]
    Mcp {
        /// The MCP tool's name in [`Definition::tools`].
        tool: String,
        /// The server's function.
        function: String,
        /// CEL that gives the arguments object.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<String>,
        /// The channel that takes the result.
        to: String,
    },
    /// Writes a rendered template to a channel.
    Template {
        /// The template.
        template: String,
        /// The channel.
        to: String,
    },
    /// Writes values to channels: channel to CEL.
    Set {
        /// The values.
        values: BTreeMap<String, String>,
    },
}

/// What follows a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edge {
    /// The step that ended, or [`START`].
    pub from: String,
    /// Where to go; the first arm whose condition holds is taken.
    pub arms: Vec<Arm>,
}

/// One way out of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Arm {
    /// CEL that must give a boolean; without it the arm is always taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The next step, or [`END`].
    pub to: String,
}

/// When a run is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Limits {
    /// Most steps of a run.
    pub steps_max: u32,
    /// Most tool calls of a run.
    pub tool_calls_max: u32,
    /// Seconds from the run's start.
    pub wall_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            steps_max: 100,
            tool_calls_max: 200,
            wall_seconds: 1800,
        }
    }
}
