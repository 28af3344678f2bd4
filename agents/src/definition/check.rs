//! Checks of a definition's shape: names, references, limits; the first fault is reported with its place.

use std::collections::BTreeSet;

use protocol::agent::{
    Channel, Definition, END, Graph, ModelChoice, Node, Program, Reducer, START, Step, ToolSource,
};
use serde_json::Value;

use super::InvalidDefinition;

/// Most nodes of a graph.
const NODES_MAX: usize = 200;
/// Most tools of an agent.
const TOOLS_MAX: usize = 64;
/// Most attempts of a step.
const ATTEMPTS_MAX: u32 = 10;
/// Longest attempt; the workspace daemon allows no more either.
const TIMEOUT_SECONDS_MAX: u64 = 3600;
/// Most steps of a run.
const STEPS_MAX: u32 = 10_000;
/// Longest name of a tool; models allow 64 bytes for `NAME__FUNCTION`.
const TOOL_NAME_BYTES_MAX: usize = 32;
/// Longest name of a node or a channel.
const NAME_BYTES_MAX: usize = 63;
/// The channel that holds the run's input.
const INPUT: &str = "input";

type Checked = Result<(), InvalidDefinition>;

fn refuse(place: impl Into<String>, reason: impl Into<String>) -> Checked {
    Err(InvalidDefinition::shape(place, reason))
}

/// Checks everything but the graph.
pub(super) fn definition(definition: &Definition) -> Checked {
    model("model", &definition.model)?;
    tools(definition)?;
    let limits = &definition.limits;
    if !(1..=STEPS_MAX).contains(&limits.steps_max) {
        return refuse("limits.stepsMax", format!("must be 1 to {STEPS_MAX}"));
    }
    if limits.wall_seconds == 0 {
        return refuse("limits.wallSeconds", "must be at least 1");
    }
    match &definition.program {
        Program::Loop { max_turns: 0 } => refuse("loop.maxTurns", "must be at least 1"),
        Program::Loop { .. } | Program::Graph(_) => Ok(()),
    }
}

fn model(place: &str, choice: &ModelChoice) -> Checked {
    if choice.name.trim().is_empty() {
        return refuse(format!("{place}.name"), "names no model");
    }
    match choice.temperature {
        Some(temperature) if !(0.0..=2.0).contains(&temperature) => {
            refuse(format!("{place}.temperature"), "must be 0 to 2")
        }
        _ if choice.max_tokens == Some(0) => {
            refuse(format!("{place}.maxTokens"), "must be at least 1")
        }
        _ => Ok(()),
    }
}

fn tools(definition: &Definition) -> Checked {
    if TOOLS_MAX < definition.tools.len() {
        return refuse("tools", format!("there are more than {TOOLS_MAX}"));
    }
    let mut names = BTreeSet::new();
    for tool in &definition.tools {
        let place = format!("tools.{}", tool.name);
        if !is_name(&tool.name, TOOL_NAME_BYTES_MAX) || tool.name.contains("__") {
            let reason = format!(
                "a tool's name has 1 to {TOOL_NAME_BYTES_MAX} letters, digits, `_` or `-`, and no `__`"
            );
            return refuse(place, reason);
        }
        if !names.insert(&tool.name) {
            return refuse(place, "two tools have this name");
        }
    }
    Ok(())
}

/// Checks a graph against the tools of its agent.
pub(super) fn graph(definition: &Definition, graph: &Graph) -> Checked {
    if graph.nodes.is_empty() {
        return refuse("graph.nodes", "there are none");
    }
    if NODES_MAX < graph.nodes.len() {
        return refuse("graph.nodes", format!("there are more than {NODES_MAX}"));
    }
    for (name, channel) in &graph.state {
        channel_shape(name, channel)?;
    }
    for (name, node) in &graph.nodes {
        node_shape(definition, graph, name, node)?;
    }
    edges(graph)?;
    reachable(graph)
}

fn channel_shape(name: &str, channel: &Channel) -> Checked {
    let place = format!("graph.state.{name}");
    if !is_name(name, NAME_BYTES_MAX) {
        return refuse(place, "a channel's name has letters, digits, `_` or `-`");
    }
    if name == INPUT {
        return refuse(place, "`input` always exists and holds the run's input");
    }
    match (channel.reducer, &channel.default) {
        (Reducer::Append, Some(value)) if !value.is_array() => {
            refuse(place, "the default of `append` is a list")
        }
        (Reducer::Merge, Some(value)) if !value.is_object() => {
            refuse(place, "the default of `merge` is an object")
        }
        (Reducer::Sum, Some(value)) if !value.is_number() => {
            refuse(place, "the default of `sum` is a number")
        }
        (Reducer::Replace | Reducer::Append | Reducer::Merge | Reducer::Sum, _) => Ok(()),
    }
}

fn node_shape(definition: &Definition, graph: &Graph, name: &str, node: &Node) -> Checked {
    let place = format!("graph.nodes.{name}");
    if !is_name(name, NAME_BYTES_MAX) || name == START || name == END {
        return refuse(
            place,
            format!(
                "a node's name has letters, digits, `_` or `-`, and is not `{START}` or `{END}`"
            ),
        );
    }
    if node
        .attempts
        .is_some_and(|attempts| !(1..=ATTEMPTS_MAX).contains(&attempts))
    {
        return refuse(
            format!("{place}.attempts"),
            format!("must be 1 to {ATTEMPTS_MAX}"),
        );
    }
    if node
        .timeout_seconds
        .is_some_and(|seconds| !(1..=TIMEOUT_SECONDS_MAX).contains(&seconds))
    {
        return refuse(
            format!("{place}.timeoutSeconds"),
            format!("must be 1 to {TIMEOUT_SECONDS_MAX}"),
        );
    }
    step_shape(definition, graph, &place, &node.step)
}

fn step_shape(definition: &Definition, graph: &Graph, place: &str, step: &Step) -> Checked {
    let writes = |channel: &str| match channel {
        INPUT => refuse(place, "writes to `input`, which cannot change"),
        _ if graph.state.contains_key(channel) => Ok(()),
        _ => refuse(
            place,
            format!("writes to `{channel}`, which graph.state does not declare"),
        ),
    };
    match step {
        Step::Model {
            prompt: _,
            model: choice,
            to,
        } => {
            if let Some(choice) = choice {
                model(&format!("{place}.model.model"), choice)?;
            }
            writes(to)
        }
        Step::Exec {
            tool,
            command,
            stdin: _,
            files: _,
            to,
            check: _,
        } => {
            if command.is_empty() {
                return refuse(format!("{place}.exec.command"), "is empty");
            }
            workspace(definition, &format!("{place}.exec.tool"), tool)?;
            writes(to)
        }
        Step::Mcp {
            tool,
            function,
            arguments: _,
            to,
        } => {
            mcp(definition, &format!("{place}.mcp"), tool, function)?;
            writes(to)
        }
        Step::Template { template: _, to } => writes(to),
        Step::Set { values } => values.keys().try_for_each(|channel| writes(channel)),
    }
}

fn workspace(definition: &Definition, place: &str, tool: &str) -> Checked {
    match definition
        .tools
        .iter()
        .find(|candidate| candidate.name == tool)
        .map(|tool| &tool.source)
    {
        None => refuse(place, format!("no tool is named `{tool}`")),
        Some(ToolSource::Mcp { .. }) => {
            refuse(place, format!("`{tool}` is an MCP server, not a workspace"))
        }
        Some(ToolSource::Workspace { .. }) => Ok(()),
    }
}

fn mcp(definition: &Definition, place: &str, tool: &str, function: &str) -> Checked {
    match definition
        .tools
        .iter()
        .find(|candidate| candidate.name == tool)
        .map(|tool| &tool.source)
    {
        None => refuse(place, format!("no tool is named `{tool}`")),
        Some(ToolSource::Workspace { .. }) => {
            refuse(place, format!("`{tool}` is a workspace, not an MCP server"))
        }
        Some(ToolSource::Mcp { allow, .. }) if !crate::tools::is_allowed(allow, function) => {
            refuse(
                place,
                format!("`{function}` is not in the allow list of `{tool}`"),
            )
        }
        Some(ToolSource::Mcp { .. }) => Ok(()),
    }
}

fn edges(graph: &Graph) -> Checked {
    let mut sources = BTreeSet::new();
    for edge in &graph.edges {
        let place = format!("graph.edges.{}", edge.from);
        if edge.from != START && !graph.nodes.contains_key(&edge.from) {
            return refuse(place, "no node has this name");
        }
        if !sources.insert(edge.from.as_str()) {
            return refuse(
                place,
                "two edges have this source; put the ways out into one edge's arms",
            );
        }
        if edge.arms.is_empty() {
            return refuse(place, "the edge has no arms");
        }
        let always = edge.arms.iter().position(|arm| arm.when.is_none());
        if always.is_some_and(|position| position + 1 < edge.arms.len()) {
            return refuse(place, "arms after one without `when` are never taken");
        }
        for arm in &edge.arms {
            if arm.to != END && !graph.nodes.contains_key(&arm.to) {
                return refuse(
                    place,
                    format!("leads to `{}`, and no node has this name", arm.to),
                );
            }
        }
    }
    if !sources.contains(START) {
        return refuse("graph.edges", format!("no edge leads out of `{START}`"));
    }
    Ok(())
}

fn reachable(graph: &Graph) -> Checked {
    let mut reached = BTreeSet::from([START]);
    let mut frontier = vec![START];
    while let Some(from) = frontier.pop() {
        let arms = graph
            .edges
            .iter()
            .filter(|edge| edge.from == from)
            .flat_map(|edge| &edge.arms);
        for arm in arms {
            if reached.insert(&arm.to) {
                frontier.push(&arm.to);
            }
        }
    }
    match graph
        .nodes
        .keys()
        .find(|name| !reached.contains(name.as_str()))
    {
        Some(name) => refuse(format!("graph.nodes.{name}"), "no edge leads here"),
        None => Ok(()),
    }
}

fn is_name(name: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
}

/// Checks the addresses of a live definition's tools; a pinned one has none.
pub(crate) fn addresses(definition: &Definition) -> Checked {
    for tool in &definition.tools {
        let (ToolSource::Workspace { url, .. } | ToolSource::Mcp { url, .. }) = &tool.source;
        let is_http =
            url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !is_http {
            return refuse(format!("tools.{}.url", tool.name), "is not an HTTP address");
        }
        if let ToolSource::Mcp { headers, .. } = &tool.source {
            for (name, value) in headers {
                let valid = http::HeaderName::try_from(name.as_str()).is_ok()
                    && http::HeaderValue::try_from(value.expose()).is_ok();
                if !valid {
                    return refuse(
                        format!("tools.{}.headers.{name}", tool.name),
                        "is not an HTTP header",
                    );
                }
            }
        }
    }
    Ok(())
}

/// The value of a channel before the first write.
pub(crate) fn initial(channel: &Channel) -> Value {
    match (&channel.default, channel.reducer) {
        (Some(value), _) => value.clone(),
        (None, Reducer::Append) => Value::Array(Vec::new()),
        (None, Reducer::Sum) => Value::from(0),
        (None, Reducer::Replace | Reducer::Merge) => Value::Null,
    }
}
