//! What an Agent wants, checked: everything that the runtime would refuse is refused here, with its path.

use std::collections::BTreeMap;

use crds::{
    Agent,
    agent::{AgentModel, Header, Tool},
    condition::Reason,
};
use protocol::{
    agent::{Limits, ModelChoice, Program, ToolSource},
    secret::SecretString,
};
use thiserror::Error;

use super::{
    dereference::{World, key_in},
    graph, syntax,
};
use crate::{model::credential, quantities::duration, route};

/// Why an Agent cannot run: the path, what is wrong there and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{path}: {problem}")]
pub(crate) struct InvalidAgent {
    pub(super) path: String,
    pub(super) problem: String,
}

impl InvalidAgent {
    pub(super) fn at(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// An Agent that can run as soon as its references exist.
#[derive(Debug, Clone)]
pub(crate) struct ValidAgent {
    pub(super) model: ModelChoice,
    pub(super) program: Program,
    pub(super) limits: Limits,
    pub(super) tools: Vec<ValidTool>,
    /// The agent's key, once it is minted.
    pub(super) key: Option<SecretString>,
    /// What is named and does not exist, and why.
    pub(super) unresolved: Vec<(Reason, String)>,
    /// Workspaces that exist and cannot be used now.
    pub(super) unavailable: Vec<String>,
}

/// A tool; without an address where its workspace has never run.
#[derive(Debug, Clone)]
pub(super) enum ValidTool {
    Known {
        name: String,
        source: ToolSource,
    },
    /// A workspace without an address yet.
    Waiting {
        name: String,
        workspace: String,
        commands: Vec<String>,
    },
}

/// Checks an Agent.
pub(super) fn validate(agent: &Agent, world: &World) -> Result<ValidAgent, InvalidAgent> {
    let spec = &agent.spec;
    if let Some(instructions) = &spec.instructions {
        syntax::template("spec.instructions", instructions)?;
    }
    let mut unresolved = Vec::new();
    let model = model("spec.model", &spec.model, world, &mut unresolved)?;
    let mut tools = Vec::new();
    let mut unavailable = Vec::new();
    for (index, tool) in spec.tools.iter().enumerate() {
        let found = resolve_tool(
            &format!("spec.tools[{index}]"),
            tool,
            world,
            &mut unavailable,
        )?;
        match found {
            Ok(tool) => tools.push(tool),
            Err(fault) => unresolved.push(fault),
        }
    }
    let program = match (&spec.r#loop, &spec.graph) {
        (Some(r#loop), None) => Program::Loop {
            max_turns: r#loop.max_turns,
        },
        (None, Some(graph)) => {
            let mut choose =
                |path: &str, choice: &AgentModel| self::model(path, choice, world, &mut unresolved);
            Program::Graph(graph::compile(graph, &spec.tools, &mut choose)?)
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(InvalidAgent::at("spec", "give either loop or graph"));
        }
    };
    let wall = duration(&spec.limits.wall).filter(|wall| 0 < wall.as_secs());
    let wall =
        wall.ok_or_else(|| InvalidAgent::at("spec.limits.wall", "write a duration of 1s to 168h"))?;
    Ok(ValidAgent {
        model,
        program,
        limits: Limits {
            steps_max: spec.limits.steps,
            tool_calls_max: spec.limits.tool_calls,
            wall_seconds: wall.as_secs(),
        },
        tools,
        key: world.key_secret.as_deref().and_then(key_in),
        unresolved,
        unavailable,
    })
}

/// A model by its name, or by a Route whose first exact name is taken.
fn model(
    path: &str,
    choice: &AgentModel,
    world: &World,
    unresolved: &mut Vec<(Reason, String)>,
) -> Result<ModelChoice, InvalidAgent> {
    let temperature = match &choice.temperature {
        None => None,
        Some(text) => {
            let parsed = text
                .parse::<f64>()
                .ok()
                .filter(|temperature| (0.0..=2.0).contains(temperature));
            Some(parsed.ok_or_else(|| {
                InvalidAgent::at(
                    format!("{path}.temperature"),
                    "write a decimal from 0 to 2, as \"0.2\"",
                )
            })?)
        }
    };
    let name = match (&choice.name, &choice.route) {
        (Some(name), _) => {
            if !world
                .patterns
                .iter()
                .any(|pattern| route::matches(pattern, name))
            {
                unresolved.push((Reason::RefNotFound, format!("{path}.name is `{name}`, and no Route answers it; make a Route with this name in spec.match.models")));
            }
            name.clone()
        }
        (None, Some(route)) => match world.routes.get(route) {
            None => {
                unresolved.push((Reason::RefNotFound, format!("{path}.ref names the Route `{route}`, which does not exist in this namespace")));
                route.clone()
            }
            Some(patterns) => patterns
                .iter()
                .find(|pattern| !pattern.contains('*'))
                .cloned()
                .ok_or_else(|| {
                    InvalidAgent::at(
                        format!("{path}.ref"),
                        format!(
                            "the Route `{route}` answers only patterns; give {path}.name instead"
                        ),
                    )
                })?,
        },
        (None, None) => return Err(InvalidAgent::at(path, "give either name or ref")),
    };
    Ok(ModelChoice {
        name,
        temperature,
        max_tokens: choice.max_tokens,
        seed: choice.seed,
    })
}

type Resolved = Result<ValidTool, (Reason, String)>;

fn resolve_tool(
    path: &str,
    tool: &Tool,
    world: &World,
    unavailable: &mut Vec<String>,
) -> Result<Resolved, InvalidAgent> {
    let name = tool.name.clone();
    match (&tool.workspace, &tool.mcp) {
        (Some(wanted), None) => {
            let workspace = &wanted.workspace;
            let Some(found) = world.workspaces.get(workspace).and_then(Option::as_ref) else {
                let message = format!(
                    "{path}.workspace.ref names the Workspace `{workspace}`, which does not exist in this namespace"
                );
                return Ok(Err((Reason::RefNotFound, message)));
            };
            if let Some(trouble) = &found.trouble {
                unavailable.push(format!("the Workspace `{workspace}` {trouble}"));
            }
            let commands = wanted.commands.clone();
            Ok(Ok(match (&found.url, &found.token) {
                (Some(url), Some(token)) => ValidTool::Known {
                    name,
                    source: ToolSource::Workspace {
                        url: url.clone(),
                        token: token.clone(),
                        commands,
                    },
                },
                (None, _) | (_, None) => ValidTool::Waiting {
                    name,
                    workspace: workspace.clone(),
                    commands,
                },
            }))
        }
        (None, Some(mcp)) => {
            Ok(
                headers(path, &mcp.headers_from, world).map(|headers| ValidTool::Known {
                    name,
                    source: ToolSource::Mcp {
                        url: mcp.url.clone(),
                        headers,
                        allow: mcp.allow.clone(),
                    },
                }),
            )
        }
        (None, None) | (Some(_), Some(_)) => {
            Err(InvalidAgent::at(path, "give either workspace or mcp"))
        }
    }
}

fn headers(
    path: &str,
    wanted: &[Header],
    world: &World,
) -> Result<BTreeMap<String, SecretString>, (Reason, String)> {
    let resolve = |header: &Header| {
        let path = format!("{path}.mcp.headersFrom[name={}].secretKeyRef", header.name);
        let value = credential(&header.secret_key_ref, &path, &world.secrets)
            .map_err(|bad| (bad.reason(), bad.to_string()))?;
        Ok((header.name.clone(), value))
    };
    wanted.iter().map(resolve).collect()
}
