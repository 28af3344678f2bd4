//! Graphs: what runs, as a pure machine over values; the loop is one of them.
//!
//! Nothing here does I/O: [`plan::next`] says what to do, [`RunState::apply`] takes what was done.

mod conversation;
mod plan;
mod reduce;
mod state;

use std::{collections::BTreeMap, time::Duration};

use protocol::agent::{Channel, ModelChoice};

use crate::definition::{Expression, TemplateName};

pub(crate) use conversation::{MESSAGES, last_message, pending_calls};
pub(crate) use plan::{Next, RunFailure, next};
pub(crate) use reduce::InvalidWrite;
pub(crate) use state::{RunState, StepRecord};

/// Steps and edges that can run.
#[derive(Debug)]
pub(crate) struct CompiledGraph {
    pub(crate) channels: BTreeMap<String, Channel>,
    pub(crate) nodes: Vec<CompiledNode>,
    /// The ways out of the start.
    pub(crate) start: Vec<CompiledArm>,
    pub(crate) output: Output,
    /// Most model calls; set for a loop.
    pub(crate) turns_max: Option<u32>,
}

/// One step and what follows it.
#[derive(Debug)]
pub(crate) struct CompiledNode {
    pub(crate) name: String,
    pub(crate) step: CompiledStep,
    pub(crate) attempts: u32,
    /// For one attempt; `None` takes the default of the step's kind.
    pub(crate) timeout: Option<Duration>,
    pub(crate) arms: Vec<CompiledArm>,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum CompiledStep {
    Model(ModelStep),
    /// Runs the calls of the last message.
    Tools,
    Exec(ExecStep),
    Mcp(McpStep),
    Template {
        template: TemplateName,
        to: String,
    },
    Set {
        values: Vec<(String, Expression)>,
    },
}

impl CompiledStep {
    /// The bounded label of metrics.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Model(_) => "model",
            Self::Tools => "tools",
            Self::Exec(_) => "exec",
            Self::Mcp(_) => "mcp",
            Self::Template { .. } => "template",
            Self::Set { .. } => "set",
        }
    }
}

/// Asks a model.
#[derive(Debug)]
pub(crate) struct ModelStep {
    pub(crate) prompt: Prompt,
    pub(crate) model: ModelChoice,
    pub(crate) to: String,
}

/// What a model is asked.
#[derive(Debug)]
pub(crate) enum Prompt {
    /// One user message; the answer's text is written.
    Template(TemplateName),
    /// The conversation so far, with tools; the answer's message is written.
    Conversation,
}

/// Runs a program.
#[derive(Debug)]
pub(crate) struct ExecStep {
    pub(crate) tool: String,
    pub(crate) command: Vec<TemplateName>,
    pub(crate) stdin: Option<TemplateName>,
    /// Path and content.
    pub(crate) files: Vec<(TemplateName, TemplateName)>,
    pub(crate) to: String,
    pub(crate) check: bool,
}

/// Calls a function of an MCP server.
#[derive(Debug)]
pub(crate) struct McpStep {
    pub(crate) tool: String,
    pub(crate) function: String,
    pub(crate) arguments: Option<Expression>,
    pub(crate) to: String,
}

/// One way out of a step.
#[derive(Debug)]
pub(crate) struct CompiledArm {
    pub(crate) when: Condition,
    pub(crate) to: Target,
}

/// When an arm is taken.
#[derive(Debug)]
pub(crate) enum Condition {
    Always,
    Holds(Expression),
    /// The last message of the conversation calls tools.
    CallsTools,
}

/// Where an arm leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An index of [`CompiledGraph::nodes`].
    Node(usize),
    End,
}

/// What a run gives.
#[derive(Debug)]
pub(crate) enum Output {
    /// All channels.
    State,
    Expression(Expression),
    /// The text of the conversation's last message.
    LastMessage,
}

#[cfg(test)]
mod tests;
