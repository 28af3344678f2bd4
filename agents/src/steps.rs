//! Steps: one file a kind, each with `run`, which does the step once and says what it wrote.

mod exec;
mod mcp;
mod model;
mod set;
mod template;
mod tools;

pub(crate) use exec::{OVERHEAD as PROGRAM_OVERHEAD, PROGRAM_TIMEOUT_DEFAULT};

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use protocol::{openai::Usage, runs::RunEvent};
use serde_json::{Map, Value};

use crate::{
    catalog::{Catalog, LiveAgent},
    definition::{CompiledAgent, RunFacts, Scope, TemplateName},
    failure::Failure,
    graph::{CompiledNode, CompiledStep, RunState},
    hub::Hub,
    metrics::Metrics,
    outbound::Outbound,
    store::{CallRecord, StepKey, Store},
    tools::McpPool,
};

/// What steps use of the process.
#[derive(Debug)]
pub(crate) struct Services {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) store: Store,
    pub(crate) hub: Arc<Hub>,
    pub(crate) outbound: Outbound,
    pub(crate) pool: McpPool,
    pub(crate) metrics: Metrics,
}

/// What one attempt of a step sees.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StepContext<'a> {
    pub(crate) services: &'a Services,
    pub(crate) live: &'a LiveAgent,
    pub(crate) agent: &'a CompiledAgent,
    pub(crate) run: &'a RunFacts,
    pub(crate) state: &'a RunState,
    pub(crate) key: &'a StepKey,
    /// The idempotency id of this attempt.
    pub(crate) task: &'a str,
    /// Tool calls of this step that are done already.
    pub(crate) calls: &'a BTreeMap<u32, CallRecord>,
    /// Whether listeners hear deltas: a try after one that told some would tell them twice.
    pub(crate) tells_deltas: bool,
    /// Set when a delta is told.
    pub(crate) has_told: &'a AtomicBool,
}

impl StepContext<'_> {
    fn scope(&self) -> Scope<'_> {
        Scope {
            state: &self.state.values,
            run: self.run,
        }
    }

    fn render(&self, template: &TemplateName) -> Result<String, Failure> {
        self.agent
            .templates
            .render(template, self.scope())
            .map_err(|error| Failure::permanent(error.to_string()))
    }
}

/// What a step did.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Outcome {
    /// Channel to write.
    pub(crate) writes: Map<String, Value>,
    /// What the log tells beside the writes.
    pub(crate) events: Vec<RunEvent>,
    pub(crate) tool_calls: u32,
    pub(crate) usage: Option<Usage>,
}

impl Outcome {
    fn write(channel: &str, value: Value) -> Self {
        Self {
            writes: Map::from_iter([(channel.to_owned(), value)]),
            ..Self::default()
        }
    }
}

/// Does a step once.
pub(crate) async fn run(context: StepContext<'_>, node: &CompiledNode) -> Result<Outcome, Failure> {
    match &node.step {
        CompiledStep::Model(step) => model::run(context, step).await,
        CompiledStep::Tools => tools::run(context).await,
        CompiledStep::Exec(step) => exec::run(context, step, node.timeout).await,
        CompiledStep::Mcp(step) => mcp::run(context, step).await,
        CompiledStep::Template { template, to } => template::run(context, template, to),
        CompiledStep::Set { values } => set::run(context, values),
    }
}
