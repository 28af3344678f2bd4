//! What the log keeps: runs, steps, calls, events.

use protocol::{
    openai::Usage,
    runs::{Run, RunEvent, RunStatus},
};
use rusqlite::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StoreError;
use crate::{clock::Millis, definition::Revision};

/// A run's id, a UUIDv7: ids sort by creation.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunId(pub(crate) String);

impl RunId {
    pub(crate) fn mint() -> Self {
        Self(uuid::Uuid::now_v7().to_string())
    }

    /// Takes an id from outside; `None` if it cannot be one.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        uuid::Uuid::try_parse(text)
            .ok()
            .map(|id| Self(id.to_string()))
    }
}

impl std::fmt::Display for RunId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Who a run belongs to: the id of a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Account(pub(crate) String);

/// A run that is to be created.
#[derive(Debug, Clone)]
pub(crate) struct NewRecord {
    pub(crate) id: RunId,
    pub(crate) namespace: String,
    pub(crate) agent: String,
    pub(crate) account: Account,
    pub(crate) revision: Revision,
    /// The pinned definition as JSON.
    pub(crate) definition: String,
    pub(crate) input: Value,
    pub(crate) idempotency_key: Option<String>,
}

/// A run as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunRecord {
    pub(crate) id: RunId,
    pub(crate) namespace: String,
    pub(crate) agent: String,
    pub(crate) account: Account,
    pub(crate) revision: Revision,
    pub(crate) status: RunStatus,
    pub(crate) input: Value,
    pub(crate) output: Option<Value>,
    pub(crate) error: Option<String>,
    pub(crate) steps: u32,
    pub(crate) resumes: u32,
    pub(crate) created: Millis,
    pub(crate) started: Option<Millis>,
    pub(crate) ended: Option<Millis>,
}

/// The columns that [`RunRecord::from_row`] reads.
pub(super) const RUN_COLUMNS: &str = "id, namespace, agent, account, revision, status, input, output, error, steps, \
     resumes, created, started, ended";

impl RunRecord {
    pub(super) fn from_row(row: &Row<'_>) -> Result<Self, StoreError> {
        let output: Option<String> = row.get(7)?;
        Ok(Self {
            id: RunId(row.get(0)?),
            namespace: row.get(1)?,
            agent: row.get(2)?,
            account: Account(row.get(3)?),
            revision: Revision(row.get(4)?),
            status: status_from(&row.get::<_, String>(5)?)?,
            input: serde_json::from_str(&row.get::<_, String>(6)?)?,
            output: output.as_deref().map(serde_json::from_str).transpose()?,
            error: row.get(8)?,
            steps: row.get(9)?,
            resumes: row.get(10)?,
            created: Millis(row.get(11)?),
            started: row.get::<_, Option<i64>>(12)?.map(Millis),
            ended: row.get::<_, Option<i64>>(13)?.map(Millis),
        })
    }
}

impl From<RunRecord> for Run {
    fn from(record: RunRecord) -> Self {
        Self {
            id: record.id.0,
            namespace: record.namespace,
            agent: record.agent,
            revision: record.revision.0,
            status: record.status,
            input: record.input,
            output: record.output,
            error: record.error,
            steps: record.steps,
            resumes: record.resumes,
            created: record.created.to_rfc3339(),
            ended: record.ended.map(Millis::to_rfc3339),
        }
    }
}

pub(super) const fn status_text(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Pending => "pending",
        RunStatus::Running => "running",
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
    }
}

fn status_from(text: &str) -> Result<RunStatus, StoreError> {
    Ok(match text {
        "pending" => RunStatus::Pending,
        "running" => RunStatus::Running,
        "succeeded" => RunStatus::Succeeded,
        "failed" => RunStatus::Failed,
        "cancelled" => RunStatus::Cancelled,
        other => {
            return Err(StoreError::Corrupt {
                reason: format!("`{other}` is no run status"),
            });
        }
    })
}

/// A step as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredStep {
    pub(crate) number: u32,
    pub(crate) node: String,
    /// The idempotency id of the step's first attempt.
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) status: StepStatus,
}

/// Whether a step is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum StepStatus {
    Started,
    Finished {
        writes: Map<String, Value>,
        tool_calls: u32,
        usage: Option<Usage>,
    },
}

/// What a tool call of a model gave; kept as soon as it is known, so that a crash repeats no finished call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CallRecord {
    /// What the model is told.
    pub(crate) result: Value,
    pub(crate) failed: bool,
}

/// An event with its number in the run, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StoredEvent {
    pub(crate) seq: u64,
    pub(crate) event: RunEvent,
}
