//! The state of a run: a fold over the records of its finished steps.

use protocol::{agent::Reducer, openai::Usage};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{
    CompiledGraph, CompiledStep, InvalidWrite, MESSAGES, conversation,
    reduce::{check, reduce},
};
use crate::definition::initial;

/// Most bytes of all channels together, as JSON.
const STATE_BYTES_MAX: usize = 8 << 20;

/// Most bytes that all steps of a run may write: the log keeps what later steps replace.
const LOG_BYTES_MAX: usize = 128 << 20;

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
    written_bytes: usize,
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
            written_bytes: 0,
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
        let mut bytes = self.bytes;
        let mut written_bytes = self.written_bytes;
        for (name, write) in &record.writes {
            let reducer = self.reducer(graph, name)?;
            check(name, reducer, &self.values[name], write)?;
            // An upper bound: what a write replaces is not taken off, or each step would measure the whole state.
            bytes += size(write);
            written_bytes += size(write);
        }
        if LOG_BYTES_MAX < written_bytes {
            let limit = LOG_BYTES_MAX;
            return Err(InvalidWrite::LogTooLarge { limit }.into());
        }
        if STATE_BYTES_MAX < bytes {
            bytes = self.exact_size(graph, &record.writes);
        }
        if STATE_BYTES_MAX < bytes {
            let limit = STATE_BYTES_MAX;
            return Err(InvalidWrite::TooLarge { limit }.into());
        }
        for (name, write) in &record.writes {
            let reducer = self.reducer(graph, name)?;
            // Taken out, not copied: a list that grows with each step must not cost its length each time.
            if let Some(value) = self.values.get_mut(name) {
                *value = reduce(reducer, value.take(), write.clone());
            }
        }
        self.bytes = bytes;
        self.written_bytes = written_bytes;
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

    fn reducer(&self, graph: &CompiledGraph, name: &str) -> Result<Reducer, InvalidWrite> {
        match graph.channels.get(name) {
            Some(channel) if self.values.contains_key(name) => Ok(channel.reducer),
            _ => Err(InvalidWrite::UnknownChannel {
                channel: name.to_owned(),
            }),
        }
    }

    /// The size after the writes, replaced values taken off.
    fn exact_size(&self, graph: &CompiledGraph, writes: &Map<String, Value>) -> usize {
        let replaced = |name: &str| {
            writes.contains_key(name)
                && graph
                    .channels
                    .get(name)
                    .is_some_and(|channel| channel.reducer == Reducer::Replace)
        };
        let kept = self.values.iter().filter(|(name, _)| !replaced(name));
        kept.map(|(_, value)| size(value)).sum::<usize>() + writes.values().map(size).sum::<usize>()
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
