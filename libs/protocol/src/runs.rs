//! The runs API of the agent runtime.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/agents/{namespace}/{name}/runs` with [`NewRun`] | 201 [`Run`]; an `Idempotency-Key` header makes a repeat answer the first run |
//! | `GET /v1/agents/{namespace}/{name}/runs` | [`RunList`], newest first |
//! | `GET /v1/runs/{id}` | [`Run`] |
//! | `GET /v1/runs/{id}/events` | server-sent [`RunEvent`]s from the start or after `Last-Event-ID`, until the run ends |
//! | `POST /v1/runs/{id}/cancel` | [`Run`] |
//!
//! Errors have the shape of [`crate::openai::ErrorBody`]. All need a bearer key.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What starts a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewRun {
    /// The input: text, or any JSON that the graph reads as `input`.
    pub input: Value,
}

/// One run of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// UUIDv7.
    pub id: String,
    /// The agent's namespace.
    pub namespace: String,
    /// The agent's name.
    pub agent: String,
    /// The hash of the definition that the run is pinned to.
    pub revision: String,
    /// How it stands.
    pub status: RunStatus,
    /// What it was given.
    pub input: Value,
    /// What it gave, once it succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Steps committed so far.
    pub steps: u32,
    /// How often a process picked it up again after a crash.
    pub resumes: u32,
    /// RFC 3339.
    pub created: String,
    /// RFC 3339, once ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// Waits for a worker.
    Pending,
    /// Is being worked on.
    Running,
    /// Ended with an output.
    Succeeded,
    /// Ended with an error.
    Failed,
    /// Was stopped on request.
    Cancelled,
}

impl RunStatus {
    /// Whether the run can change no more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// The runs of an agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunList {
    /// Newest first, at most 100.
    pub data: Vec<Run>,
}

/// Something that happened in a run; the SSE `id` is its number, `event` its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunEvent {
    /// A worker took the run up, at first or again after a crash.
    Started {
        /// 0 at first.
        resumes: u32,
    },
    /// A step began.
    StepStarted {
        /// Its number in the run, from 0.
        step: u32,
        /// The node's name; `model` and `tools` in a loop.
        node: String,
    },
    /// New text of a model; not stored, so a reconnecting client sees only the whole answer.
    Delta {
        /// The step.
        step: u32,
        /// The text.
        text: String,
    },
    /// The model called a tool, or a program ran.
    ToolCalled {
        /// The step.
        step: u32,
        /// The tool.
        tool: String,
        /// What it was given.
        arguments: Value,
        /// What it gave.
        result: Value,
        /// Whether it failed.
        failed: bool,
    },
    /// A step was committed.
    StepFinished {
        /// Its number in the run.
        step: u32,
        /// The node's name.
        node: String,
        /// What it wrote to the state.
        writes: Value,
    },
    /// The run ended.
    Finished {
        /// How.
        status: RunStatus,
        /// The output.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// The error.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
