//! Picking a run up: the log is folded into the state, on the definition that the run started with.

use std::{collections::BTreeMap, sync::Arc};

use super::Workshop;
use crate::{
    catalog::compile_pinned,
    definition::CompiledAgent,
    graph::{RunFailure, RunState, StepRecord},
    store::{CallRecord, Started, StepStatus, StoredStep},
};

/// A run that can be worked on.
pub(super) struct Prepared {
    pub(super) agent: Arc<CompiledAgent>,
    pub(super) state: RunState,
    /// The step that was started and not finished.
    pub(super) open: Option<(StoredStep, BTreeMap<u32, CallRecord>)>,
}

/// Folds the log into the state.
pub(super) fn prepare(workshop: &Workshop, started: &Started) -> Result<Prepared, RunFailure> {
    let run = &started.run;
    let live = workshop.services.catalog.agent(&run.namespace, &run.agent);
    let agent =
        compile_pinned(live.as_deref(), &run.revision, &started.definition).map_err(|error| {
            RunFailure::Log {
                reason: error.to_string(),
            }
        })?;
    let mut state = RunState::new(&agent.graph, run.input.clone());
    let mut open = None;
    for step in &started.steps {
        match &step.status {
            StepStatus::Started => {
                open = Some((step.clone(), started.calls.iter().cloned().collect()));
            }
            StepStatus::Finished {
                writes,
                tool_calls,
                usage,
            } => {
                let record = StepRecord {
                    number: step.number,
                    node: step.node.clone(),
                    writes: writes.clone(),
                    tool_calls: *tool_calls,
                    usage: *usage,
                };
                state
                    .apply(&agent.graph, &record)
                    .map_err(|error| RunFailure::Log {
                        reason: error.to_string(),
                    })?;
            }
        }
    }
    Ok(Prepared { agent, state, open })
}
