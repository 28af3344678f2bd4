//! Compiling: a definition becomes programs, templates and a graph; a bad one is refused with the place of the fault.

use std::{collections::BTreeMap, time::Duration};

use protocol::agent::{
    Arm, Channel, Definition, END, Edge, Graph, Limits, ModelChoice, Node, Program, START, Step,
    Tool,
};
use thiserror::Error;

use super::{
    Expression, Revision, Templates, check,
    expression::InvalidExpression,
    template::{InvalidTemplate, TemplateName},
};
use crate::graph::{
    CompiledArm, CompiledGraph, CompiledNode, CompiledStep, Condition, ExecStep, MESSAGES, McpStep,
    ModelStep, Output, Prompt, Target,
};

/// Attempts of the loop's model step: the loop has no place to say it, and asking a model has no effects.
const LOOP_MODEL_ATTEMPTS: u32 = 3;

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum InvalidDefinition {
    #[error("{place}: {reason}")]
    Expression {
        place: String,
        reason: InvalidExpression,
    },
    #[error("{place}: {reason}")]
    Template {
        place: String,
        reason: InvalidTemplate,
    },
    #[error("{place}: {reason}")]
    Shape { place: String, reason: String },
}

impl InvalidDefinition {
    pub(crate) fn shape(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Shape {
            place: place.into(),
            reason: reason.into(),
        }
    }
}

/// A definition that can run.
#[derive(Debug)]
pub(crate) struct CompiledAgent {
    pub(crate) revision: Revision,
    pub(crate) instructions: Option<TemplateName>,
    /// Pinned tools: without addresses and credentials.
    pub(crate) tools: Vec<Tool>,
    pub(crate) graph: CompiledGraph,
    pub(crate) limits: Limits,
    pub(crate) templates: Templates,
}

impl CompiledAgent {
    /// Compiles a definition.
    ///
    /// # Errors
    /// [`InvalidDefinition`] names the place and the reason of the first fault.
    pub(crate) fn compile(
        revision: Revision,
        definition: &Definition,
    ) -> Result<Self, InvalidDefinition> {
        check::definition(definition)?;
        let mut compiler = Compiler {
            definition,
            templates: Templates::default(),
        };
        let instructions = match definition.instructions.trim() {
            "" => None,
            _ => Some(compiler.template("instructions", &definition.instructions)?),
        };
        let graph = match &definition.program {
            Program::Loop { max_turns } => loop_graph(*max_turns, &definition.model),
            Program::Graph(graph) => compiler.graph(graph)?,
        };
        Ok(Self {
            revision,
            instructions,
            tools: definition.tools.clone(),
            graph,
            limits: definition.limits.clone(),
            templates: compiler.templates,
        })
    }
}

/// The loop is a graph: `model` until it calls no tools, `tools` in between.
fn loop_graph(turns_max: u32, model: &ModelChoice) -> CompiledGraph {
    let step = CompiledStep::Model(ModelStep {
        prompt: Prompt::Conversation,
        model: model.clone(),
        to: MESSAGES.to_owned(),
    });
    let again = CompiledArm {
        when: Condition::CallsTools,
        to: Target::Node(1),
    };
    let answer = CompiledArm {
        when: Condition::Always,
        to: Target::End,
    };
    let back = CompiledArm {
        when: Condition::Always,
        to: Target::Node(0),
    };
    CompiledGraph {
        channels: BTreeMap::from([(
            MESSAGES.to_owned(),
            Channel {
                reducer: protocol::agent::Reducer::Append,
                default: None,
            },
        )]),
        nodes: vec![
            CompiledNode {
                name: "model".to_owned(),
                step,
                attempts: LOOP_MODEL_ATTEMPTS,
                timeout: None,
                arms: vec![again, answer],
            },
            CompiledNode {
                name: "tools".to_owned(),
                step: CompiledStep::Tools,
                attempts: 1,
                timeout: None,
                arms: vec![back],
            },
        ],
        start: vec![CompiledArm {
            when: Condition::Always,
            to: Target::Node(0),
        }],
        output: Output::LastMessage,
        turns_max: Some(turns_max),
    }
}

/// Command, standard input, and files as path and content.
type ProgramTemplates = (
    Vec<TemplateName>,
    Option<TemplateName>,
    Vec<(TemplateName, TemplateName)>,
);

struct Compiler<'a> {
    definition: &'a Definition,
    templates: Templates,
}

impl Compiler<'_> {
    fn graph(&mut self, graph: &Graph) -> Result<CompiledGraph, InvalidDefinition> {
        check::graph(self.definition, graph)?;
        let places: BTreeMap<&str, usize> = graph
            .nodes
            .keys()
            .enumerate()
            .map(|(index, name)| (name.as_str(), index))
            .collect();
        let mut nodes = Vec::with_capacity(graph.nodes.len());
        for (name, node) in &graph.nodes {
            nodes.push(self.node(name, node, &graph.edges, &places)?);
        }
        let output = match &graph.output {
            Some(source) => Output::Expression(expression("graph.output", source)?),
            None => Output::State,
        };
        Ok(CompiledGraph {
            channels: graph.state.clone(),
            nodes,
            start: arms(START, &graph.edges, &places)?,
            output,
            turns_max: None,
        })
    }

    fn node(
        &mut self,
        name: &str,
        node: &Node,
        edges: &[Edge],
        places: &BTreeMap<&str, usize>,
    ) -> Result<CompiledNode, InvalidDefinition> {
        Ok(CompiledNode {
            name: name.to_owned(),
            step: self.step(name, &node.step)?,
            attempts: node.attempts.unwrap_or(1),
            timeout: node.timeout_seconds.map(Duration::from_secs),
            arms: arms(name, edges, places)?,
        })
    }

    fn step(&mut self, node: &str, step: &Step) -> Result<CompiledStep, InvalidDefinition> {
        let place = |part: &str| format!("graph.nodes.{node}.{part}");
        Ok(match step {
            Step::Model { prompt, model, to } => CompiledStep::Model(ModelStep {
                prompt: Prompt::Template(self.template(&place("model.prompt"), prompt)?),
                model: model
                    .clone()
                    .unwrap_or_else(|| self.definition.model.clone()),
                to: to.clone(),
            }),
            Step::Exec {
                tool,
                command,
                stdin,
                files,
                to,
                check,
            } => {
                let (command, stdin, files) =
                    self.program(node, command, stdin.as_deref(), files)?;
                CompiledStep::Exec(ExecStep {
                    tool: tool.clone(),
                    command,
                    stdin,
                    files,
                    to: to.clone(),
                    check: *check,
                })
            }
            Step::Mcp {
                tool,
                function,
                arguments,
                to,
            } => CompiledStep::Mcp(McpStep {
                tool: tool.clone(),
                function: function.clone(),
                arguments: match arguments {
                    Some(source) => Some(expression(&place("mcp.arguments"), source)?),
                    None => None,
                },
                to: to.clone(),
            }),
            Step::Template { template, to } => CompiledStep::Template {
                template: self.template(&place("template.template"), template)?,
                to: to.clone(),
            },
            Step::Set { values } => {
                let mut compiled = Vec::with_capacity(values.len());
                for (channel, source) in values {
                    compiled.push((
                        channel.clone(),
                        expression(&place(&format!("set.values.{channel}")), source)?,
                    ));
                }
                CompiledStep::Set { values: compiled }
            }
        })
    }

    /// The templates of an exec step: command, standard input, files.
    fn program(
        &mut self,
        node: &str,
        command: &[String],
        stdin: Option<&str>,
        files: &BTreeMap<String, String>,
    ) -> Result<ProgramTemplates, InvalidDefinition> {
        let place = format!("graph.nodes.{node}.exec");
        let mut words = Vec::with_capacity(command.len());
        for (index, word) in command.iter().enumerate() {
            words.push(self.template(&format!("{place}.command[{index}]"), word)?);
        }
        let mut written = Vec::with_capacity(files.len());
        for (index, (path, content)) in files.iter().enumerate() {
            let path = self.template(&format!("{place}.files[{index}].path"), path)?;
            let content = self.template(&format!("{place}.files[{index}].content"), content)?;
            written.push((path, content));
        }
        let stdin = match stdin {
            Some(stdin) => Some(self.template(&format!("{place}.stdin"), stdin)?),
            None => None,
        };
        Ok((words, stdin, written))
    }

    fn template(&mut self, place: &str, source: &str) -> Result<TemplateName, InvalidDefinition> {
        self.templates
            .add(place, source)
            .map_err(|reason| InvalidDefinition::Template {
                place: place.to_owned(),
                reason,
            })
    }
}

fn expression(place: &str, source: &str) -> Result<Expression, InvalidDefinition> {
    Expression::compile(source).map_err(|reason| InvalidDefinition::Expression {
        place: place.to_owned(),
        reason,
    })
}

/// The ways out of a place; a step without an edge ends the run.
fn arms(
    from: &str,
    edges: &[Edge],
    places: &BTreeMap<&str, usize>,
) -> Result<Vec<CompiledArm>, InvalidDefinition> {
    let Some(edge) = edges.iter().find(|edge| edge.from == from) else {
        return Ok(vec![CompiledArm {
            when: Condition::Always,
            to: Target::End,
        }]);
    };
    edge.arms
        .iter()
        .enumerate()
        .map(|(index, arm)| compile_arm(from, index, arm, places))
        .collect()
}

fn compile_arm(
    from: &str,
    index: usize,
    arm: &Arm,
    places: &BTreeMap<&str, usize>,
) -> Result<CompiledArm, InvalidDefinition> {
    let when = match &arm.when {
        None => Condition::Always,
        Some(source) => Condition::Holds(expression(
            &format!("graph.edges.{from}.arms[{index}].when"),
            source,
        )?),
    };
    let to = match places.get(arm.to.as_str()) {
        Some(place) => Target::Node(*place),
        None if arm.to == END => Target::End,
        None => {
            return Err(InvalidDefinition::shape(
                format!("graph.edges.{from}.arms[{index}].to"),
                format!("no node is named `{}`", arm.to),
            ));
        }
    };
    Ok(CompiledArm { when, to })
}
