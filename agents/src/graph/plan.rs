//! The planner: what a run does next, from its state alone.

use serde_json::Value;
use thiserror::Error;

use super::{
    CompiledArm, CompiledGraph, CompiledNode, CompiledStep, Condition, MESSAGES, Output, RunState,
    Target, last_message, pending_calls,
};
use crate::definition::{CompiledAgent, RunFacts, Scope};

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next<'a> {
    /// Do this step.
    Step { number: u32, node: &'a CompiledNode },
    /// The run ended well.
    Succeeded { output: Value },
    /// The run cannot go on.
    Failed { reason: RunFailure },
}

/// Why a run failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RunFailure {
    #[error("the limit of {limit} steps is reached")]
    StepsLimit { limit: u32 },
    #[error("the limit of {limit} tool calls is reached")]
    ToolCallsLimit { limit: u32 },
    #[error("the model still calls tools after {limit} turns")]
    TurnsLimit { limit: u32 },
    #[error("the limit of {seconds} seconds is reached")]
    WallLimit { seconds: u64 },
    #[error("no arm of the edge from `{from}` holds")]
    NoArm { from: String },
    #[error("step `{node}`: {reason}")]
    Step { node: String, reason: String },
    #[error("after `{from}`: {reason}")]
    Condition { from: String, reason: String },
    #[error("output: {reason}")]
    Output { reason: String },
    #[error("the run log does not fit the definition: {reason}")]
    Log { reason: String },
}

/// Says what a run does next.
pub(crate) fn next<'a>(agent: &'a CompiledAgent, state: &RunState, run: &RunFacts) -> Next<'a> {
    match plan(agent, state, run) {
        Ok(next) => next,
        Err(reason) => Next::Failed { reason },
    }
}

fn plan<'a>(
    agent: &'a CompiledAgent,
    state: &RunState,
    run: &RunFacts,
) -> Result<Next<'a>, RunFailure> {
    let scope = Scope {
        state: &state.values,
        run,
    };
    let node = match target(&agent.graph, state, scope)? {
        Target::End => {
            return Ok(Next::Succeeded {
                output: output(&agent.graph, state, scope)?,
            });
        }
        Target::Node(place) => &agent.graph.nodes[place],
    };
    let limits = &agent.limits;
    if limits.steps_max <= state.steps {
        return Err(RunFailure::StepsLimit {
            limit: limits.steps_max,
        });
    }
    match (&node.step, agent.graph.turns_max) {
        (CompiledStep::Model(_), Some(limit)) if limit <= state.turns => {
            return Err(RunFailure::TurnsLimit { limit });
        }
        _ => {}
    }
    let calls = match &node.step {
        CompiledStep::Tools => {
            u32::try_from(pending_calls(state.values.get(MESSAGES)).len()).unwrap_or(u32::MAX)
        }
        CompiledStep::Exec(_) | CompiledStep::Mcp(_) => 1,
        CompiledStep::Model(_) | CompiledStep::Template { .. } | CompiledStep::Set { .. } => 0,
    };
    if limits.tool_calls_max < state.tool_calls.saturating_add(calls) {
        return Err(RunFailure::ToolCallsLimit {
            limit: limits.tool_calls_max,
        });
    }
    Ok(Next::Step {
        number: state.steps,
        node,
    })
}

fn target(graph: &CompiledGraph, state: &RunState, scope: Scope<'_>) -> Result<Target, RunFailure> {
    let (from, arms) = match state.last {
        None => (protocol::agent::START, &graph.start),
        Some(place) => (graph.nodes[place].name.as_str(), &graph.nodes[place].arms),
    };
    for arm in arms {
        if is_taken(arm, state, scope).map_err(|reason| RunFailure::Condition {
            from: from.to_owned(),
            reason,
        })? {
            return Ok(arm.to);
        }
    }
    Err(RunFailure::NoArm {
        from: from.to_owned(),
    })
}

fn is_taken(arm: &CompiledArm, state: &RunState, scope: Scope<'_>) -> Result<bool, String> {
    match &arm.when {
        Condition::Always => Ok(true),
        Condition::Holds(expression) => expression.holds(scope).map_err(|error| error.to_string()),
        Condition::CallsTools => Ok(!pending_calls(state.values.get(MESSAGES)).is_empty()),
    }
}

fn output(graph: &CompiledGraph, state: &RunState, scope: Scope<'_>) -> Result<Value, RunFailure> {
    match &graph.output {
        Output::State => Ok(Value::Object(state.values.clone())),
        Output::Expression(expression) => {
            expression
                .evaluate(scope)
                .map_err(|error| RunFailure::Output {
                    reason: error.to_string(),
                })
        }
        Output::LastMessage => {
            let text = last_message(state.values.get(MESSAGES)).map(|message| message.to_text());
            Ok(Value::String(text.unwrap_or_default()))
        }
    }
}
