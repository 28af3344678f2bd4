//! The state of a run: a fold over the records of its finished steps.

use protocol::openai::Usage;
use serde_json::{Map, Value};
use thiserror::Error;

use super::{CompiledGraph, CompiledStep, InvalidWrite, MESSAGES, conversation, reduce};
use crate::definition::initial;

/// Most bytes of all channels together, as JSON.
const STATE_BYTES_MAX: usize = 8 << 20;

/// What one finished step did.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct StepRecord {
    pub(crate) number: u32,
    pub(crate) node: String,
    /// Channel to write.
    pub(crate) writes: Map<String, Value>,
    pub(crate) tool_calls: u32,
    pub(crate) usage: Option<Usage>,
}

/// Why a record does not follow from the state.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidRecord {
    #[error("step {number} follows step {last}")]
    OutOfOrder { number: u32, last: i64 },
    #[error("the definition has no node `{node}`")]
    UnknownNode { node: String },
    #[error(transparent)]
    Write(#[from] InvalidWrite),
}

/// Where a run stands.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunState {
    /// The channels; `input` is one of them.
    pub(crate) values: Map<String, Value>,
    /// The node that finished last, as an index of the graph.
    pub(crate) last: Option<usize>,
    /// Finished steps.
    pub(crate) steps: u32,
    /// Model calls.
    pub(crate) turns: u32,
    pub(crate) tool_calls: u32,
    pub(crate) usage: Usage,
    bytes: usize,
}

impl RunState {
    /// The state before the first step.
    pub(crate) fn new(graph: &CompiledGraph, input: Value) -> Self {
        let mut values = Map::new();
        for (name, channel) in &graph.channels {
            values.insert(name.clone(), initial(channel));
        }
        if graph.turns_max.is_some() {
            values.insert(MESSAGES.to_owned(), conversation::opening(&input));
        }
        let bytes = size(&Value::Object(values.clone())) + size(&input);
        values.insert("input".to_owned(), input);
        Self {
            values,
            last: None,
            steps: 0,
            turns: 0,
            tool_calls: 0,
            usage: Usage::default(),
            bytes,
        }
    }

    /// Takes a finished step; nothing changes if it does not fit.
    pub(crate) fn apply(
        &mut self,
        graph: &CompiledGraph,
        record: &StepRecord,
    ) -> Result<(), InvalidRecord> {
        if record.number != self.steps {
            return Err(InvalidRecord::OutOfOrder {
                number: record.number,
                last: i64::from(self.steps) - 1,
            });
        }
        let Some(place) = graph.nodes.iter().position(|node| node.name == record.node) else {
            return Err(InvalidRecord::UnknownNode {
                node: record.node.clone(),
            });
        };
        let mut written = Vec::with_capacity(record.writes.len());
        let mut bytes = self.bytes;
        for (name, write) in &record.writes {
            let Some(channel) = graph.channels.get(name) else {
                return Err(InvalidWrite::UnknownChannel {
                    channel: name.clone(),
                }
                .into());
            };
            // An upper bound: what a write replaces is not taken off, or each step would measure the whole state.
            bytes += size(write);
            let current = self.values.get(name).cloned().unwrap_or(Value::Null);
            written.push((
                name.clone(),
                reduce(name, channel.reducer, current, write.clone())?,
            ));
        }
        if STATE_BYTES_MAX < bytes {
            bytes = self.exact_size(&written);
            if STATE_BYTES_MAX < bytes {
                return Err(InvalidWrite::TooLarge {
                    limit: STATE_BYTES_MAX,
                }
                .into());
            }
        }
        self.values.extend(written);
        self.bytes = bytes;
        self.last = Some(place);
        self.steps += 1;
        self.turns += u32::from(matches!(graph.nodes[place].step, CompiledStep::Model(_)));
        self.tool_calls += record.tool_calls;
        if let Some(usage) = record.usage {
            self.usage.prompt_tokens += usage.prompt_tokens;
            self.usage.completion_tokens += usage.completion_tokens;
            self.usage.total_tokens += usage.total_tokens;
        }
        Ok(())
    }

    fn exact_size(&self, written: &[(String, Value)]) -> usize {
        let untouched = self
            .values
            .iter()
            .filter(|(name, _)| written.iter().all(|(other, _)| other != *name));
        untouched.map(|(_, value)| size(value)).sum::<usize>()
            + written.iter().map(|(_, value)| size(value)).sum::<usize>()
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 12,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(map) => {
            2 + map
                .iter()
                .map(|(key, item)| key.len() + 4 + size(item))
                .sum::<usize>()
        }
    }
}
