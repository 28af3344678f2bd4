//! A graph, compiled: every name in it exists, every step can be reached, every way out can be taken.

use std::collections::BTreeSet;

use crds::agent::{self as declared, AgentModel, Tool};
use protocol::agent::{Arm, Channel, END, Edge, Graph, ModelChoice, Node, Reducer, START, Step};

use super::{
    syntax::{expression, template},
    validate::InvalidAgent,
};
use crate::quantities::duration;

/// The channel that always exists.
const INPUT: &str = "input";
/// Longest attempt of a step, in seconds.
const TIMEOUT_SECONDS_MAX: u64 = 3600;

type Checked<T> = Result<T, InvalidAgent>;
/// Turns a declared model into what a request carries.
type Choose<'a> = dyn FnMut(&str, &AgentModel) -> Checked<ModelChoice> + 'a;

/// Compiles a graph; `tools` are the agent's.
pub(super) fn compile(
    graph: &declared::Graph,
    tools: &[Tool],
    choose: &mut Choose<'_>,
) -> Checked<Graph> {
    let mut compiled = Graph {
        output: graph.output.clone(),
        ..Graph::default()
    };
    if let Some(output) = &graph.output {
        expression("spec.graph.output", output)?;
    }
    for (name, channel) in &graph.state {
        compiled
            .state
            .insert(name.clone(), self::channel(name, channel)?);
    }
    for (name, node) in &graph.nodes {
        let compiler = NodeCompiler {
            path: format!("spec.graph.nodes.{name}"),
            graph,
            tools,
        };
        if [START, END].contains(&&**name) {
            return Err(InvalidAgent::at(
                compiler.path,
                "the names start and end are taken; rename the node",
            ));
        }
        compiled
            .nodes
            .insert(name.clone(), compiler.node(node, choose)?);
    }
    compiled.edges = graph
        .edges
        .iter()
        .map(|edge| self::edge(edge, graph))
        .collect::<Checked<_>>()?;
    check_flow(&compiled)?;
    Ok(compiled)
}

fn channel(name: &str, channel: &declared::Channel) -> Checked<Channel> {
    let path = format!("spec.graph.state.{name}");
    if name == INPUT {
        return Err(InvalidAgent::at(
            path,
            "input always exists and holds the run's input; rename the channel",
        ));
    }
    let default = channel.default.as_ref();
    let (reducer, wanted) = match channel.reducer {
        declared::Reducer::Replace => (Reducer::Replace, None),
        declared::Reducer::Append => (
            Reducer::Append,
            default.filter(|value| !value.is_array()).map(|_| "a list"),
        ),
        declared::Reducer::Merge => (
            Reducer::Merge,
            default
                .filter(|value| !value.is_object())
                .map(|_| "an object"),
        ),
        declared::Reducer::Sum => (
            Reducer::Sum,
            default
                .filter(|value| !value.is_number())
                .map(|_| "a number"),
        ),
    };
    if let Some(wanted) = wanted {
        return Err(InvalidAgent::at(
            format!("{path}.default"),
            format!("must be {wanted} for this reducer"),
        ));
    }
    Ok(Channel {
        reducer,
        default: channel.default.clone(),
    })
}

struct NodeCompiler<'a> {
    path: String,
    graph: &'a declared::Graph,
    tools: &'a [Tool],
}

impl NodeCompiler<'_> {
    fn node(&self, node: &declared::Node, choose: &mut Choose<'_>) -> Checked<Node> {
        let timeout = match &node.timeout {
            None => None,
            Some(text) => {
                let seconds = duration(text)
                    .map(|timeout| timeout.as_millis().div_ceil(1000))
                    .and_then(|seconds| u64::try_from(seconds).ok());
                let seconds = seconds.filter(|seconds| (1..=TIMEOUT_SECONDS_MAX).contains(seconds));
                Some(seconds.ok_or_else(|| self.fault("timeout", "write a duration of 1s to 1h"))?)
            }
        };
        Ok(Node {
            step: self.step(node, choose)?,
            attempts: node.retry.as_ref().map(|retry| retry.attempts),
            timeout_seconds: timeout,
        })
    }

    fn step(&self, node: &declared::Node, choose: &mut Choose<'_>) -> Checked<Step> {
        let declared::Node {
            model,
            exec,
            mcp,
            template,
            set,
            retry: _,
            timeout: _,
        } = node;
        match (model, exec, mcp, template, set) {
            (Some(call), None, None, None, None) => self.model(call, choose),
            (None, Some(exec), None, None, None) => self.exec(exec),
            (None, None, Some(call), None, None) => self.mcp(call),
            (None, None, None, Some(wanted), None) => {
                self.template("template.template", &wanted.template)?;
                Ok(Step::Template {
                    template: wanted.template.clone(),
                    to: self.channel("template.to", &wanted.to)?,
                })
            }
            (None, None, None, None, Some(set)) => {
                for (channel, value) in &set.values {
                    self.channel("set.values", channel)?;
                    expression(&format!("{}.set.values.{channel}", self.path), value)?;
                }
                Ok(Step::Set {
                    values: set.values.clone(),
                })
            }
            _ => Err(InvalidAgent::at(
                &*self.path,
                "give exactly one of model, exec, mcp, template and set",
            )),
        }
    }

    fn model(&self, call: &declared::ModelCall, choose: &mut Choose<'_>) -> Checked<Step> {
        self.template("model.prompt", &call.prompt)?;
        let path = format!("{}.model.model", self.path);
        Ok(Step::Model {
            prompt: call.prompt.clone(),
            model: call
                .model
                .as_ref()
                .map(|choice| choose(&path, choice))
                .transpose()?,
            to: self.channel("model.to", &call.to)?,
        })
    }

    fn exec(&self, exec: &declared::Exec) -> Checked<Step> {
        let tool = self.tool("exec.tool", &exec.tool)?;
        if tool.workspace.is_none() {
            return Err(self.fault(
                "exec.tool",
                format!("`{}` is an MCP server; name a workspace tool", exec.tool),
            ));
        }
        for (index, word) in exec.command.iter().enumerate() {
            self.template(&format!("exec.command[{index}]"), word)?;
        }
        for (name, content) in &exec.files {
            self.template("exec.files", name)?;
            self.template(&format!("exec.files.{name}"), content)?;
        }
        if let Some(stdin) = &exec.stdin {
            self.template("exec.stdin", stdin)?;
        }
        Ok(Step::Exec {
            tool: exec.tool.clone(),
            command: exec.command.clone(),
            stdin: exec.stdin.clone(),
            files: exec.files.clone(),
            to: self.channel("exec.to", &exec.to)?,
            check: exec.check,
        })
    }

    fn mcp(&self, call: &declared::McpCall) -> Checked<Step> {
        let tool = self.tool("mcp.tool", &call.tool)?;
        let Some(server) = &tool.mcp else {
            return Err(self.fault(
                "mcp.tool",
                format!("`{}` is a workspace; name an MCP tool", call.tool),
            ));
        };
        let is_allowed = |allowed: &String| {
            allowed.strip_suffix('*').map_or_else(
                || *allowed == call.function,
                |prefix| call.function.starts_with(prefix),
            )
        };
        if !server.allow.iter().any(is_allowed) {
            return Err(self.fault(
                "mcp.function",
                format!(
                    "the tool `{}` does not allow `{}`; add it to the tool's allow list",
                    call.tool, call.function
                ),
            ));
        }
        if let Some(arguments) = &call.arguments {
            expression(&format!("{}.mcp.arguments", self.path), arguments)?;
        }
        Ok(Step::Mcp {
            tool: call.tool.clone(),
            function: call.function.clone(),
            arguments: call.arguments.clone(),
            to: self.channel("mcp.to", &call.to)?,
        })
    }

    fn tool(&self, field: &str, name: &str) -> Checked<&Tool> {
        let tool = self.tools.iter().find(|tool| tool.name == name);
        tool.ok_or_else(|| {
            self.fault(
                field,
                format!("no tool is named `{name}`; add it to spec.tools"),
            )
        })
    }

    fn channel(&self, field: &str, name: &str) -> Checked<String> {
        if name == INPUT {
            return Err(self.fault(field, "input cannot be written; write to another channel"));
        }
        if !self.graph.state.contains_key(name) {
            return Err(self.fault(
                field,
                format!("no channel is named `{name}`; add it to spec.graph.state"),
            ));
        }
        Ok(name.to_owned())
    }

    fn template(&self, field: &str, source: &str) -> Checked<()> {
        template(&format!("{}.{field}", self.path), source)
    }

    fn fault(&self, field: &str, problem: impl Into<String>) -> InvalidAgent {
        InvalidAgent::at(format!("{}.{field}", self.path), problem)
    }
}

fn edge(edge: &declared::Edge, graph: &declared::Graph) -> Checked<Edge> {
    let path = format!("spec.graph.edges[from={}]", edge.from);
    if edge.from != START && !graph.nodes.contains_key(&edge.from) {
        return Err(InvalidAgent::at(
            path,
            format!("no node is named `{}`", edge.from),
        ));
    }
    let arms = match (&edge.to, &edge.branch) {
        (Some(to), None) => vec![Arm {
            when: None,
            to: to.clone(),
        }],
        (None, Some(branch)) if !branch.is_empty() => branch
            .iter()
            .map(|arm| Arm {
                when: arm.when.clone(),
                to: arm.to.clone(),
            })
            .collect(),
        (None | Some(_), None | Some(_)) => {
            return Err(InvalidAgent::at(path, "give either to or branch"));
        }
    };
    for (index, arm) in arms.iter().enumerate() {
        if arm.to != END && !graph.nodes.contains_key(&arm.to) {
            return Err(InvalidAgent::at(
                path,
                format!("leads to `{}`, and no node is named so", arm.to),
            ));
        }
        match &arm.when {
            Some(when) => expression(&format!("{path}.branch[{index}].when"), when)?,
            None if index + 1 < arms.len() => {
                return Err(InvalidAgent::at(
                    path,
                    format!(
                        "the arms after branch[{index}] are never taken, since it has no `when`; put it last"
                    ),
                ));
            }
            None => {}
        }
    }
    Ok(Edge {
        from: edge.from.clone(),
        arms,
    })
}

/// There is a start, and a way from it to every node.
fn check_flow(graph: &Graph) -> Checked<()> {
    let mut sources = BTreeSet::new();
    for edge in &graph.edges {
        if !sources.insert(&*edge.from) {
            return Err(InvalidAgent::at(
                format!("spec.graph.edges[from={}]", edge.from),
                "two edges have this source; use one with a branch",
            ));
        }
    }
    if !sources.contains(START) {
        return Err(InvalidAgent::at(
            "spec.graph.edges",
            "no edge leads from start; add {from: start, to: NODE}",
        ));
    }
    let mut reached = BTreeSet::from([START]);
    let mut open = vec![START];
    while let Some(from) = open.pop() {
        for arm in graph
            .edges
            .iter()
            .filter(|edge| edge.from == from)
            .flat_map(|edge| &edge.arms)
        {
            if reached.insert(&arm.to) {
                open.push(&arm.to);
            }
        }
    }
    match graph.nodes.keys().find(|name| !reached.contains(&***name)) {
        Some(name) => Err(InvalidAgent::at(
            format!("spec.graph.nodes.{name}"),
            "no edge leads here; add one or remove the node",
        )),
        None => Ok(()),
    }
}
