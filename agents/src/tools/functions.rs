//! The functions that tools offer to models, and which tool and function a model's call means.

use protocol::agent::{Tool, ToolSource};
use serde_json::{Value, json};

use super::{McpPool, SEPARATOR, is_allowed, mcp::Server};
use crate::{definition::CompiledAgent, failure::Failure, outbound::Outbound};

/// Longest name that models accept.
const NAME_BYTES_MAX: usize = 64;
/// Most functions that are offered to a model.
const FUNCTIONS_MAX: usize = 128;

/// What a call of a model means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Function {
    Exec,
    ReadFile,
    WriteFile,
    Mcp { name: String },
}

/// The tool and function behind a name that a model wrote.
pub(super) fn resolve<'a>(tools: &'a [Tool], name: &str) -> Option<(&'a Tool, Function)> {
    let (tool, function) = name.split_once(SEPARATOR)?;
    let tool = tools.iter().find(|candidate| candidate.name == tool)?;
    let function = match (&tool.source, function) {
        (ToolSource::Workspace { .. }, "exec") => Function::Exec,
        (ToolSource::Workspace { .. }, "read_file") => Function::ReadFile,
        (ToolSource::Workspace { .. }, "write_file") => Function::WriteFile,
        (ToolSource::Workspace { .. }, _) => return None,
        (ToolSource::Mcp { allow, .. }, name) if is_allowed(allow, name) => Function::Mcp {
            name: name.to_owned(),
        },
        (ToolSource::Mcp { .. }, _) => return None,
    };
    Some((tool, function))
}

/// The functions that a model may call: those of the tools that the run pinned and that still exist.
pub(crate) async fn offered(
    outbound: &Outbound,
    pool: &McpPool,
    agent: &CompiledAgent,
    live: &[Tool],
) -> Result<Vec<Value>, Failure> {
    let mut functions = Vec::new();
    for pinned in &agent.tools {
        let Some(tool) = live.iter().find(|tool| tool.name == pinned.name) else {
            continue;
        };
        match &tool.source {
            ToolSource::Workspace { commands, .. } => {
                functions.extend(workspace_functions(&tool.name, commands));
            }
            ToolSource::Mcp {
                url,
                headers,
                allow,
            } => {
                for function in pool
                    .functions(outbound, Server { url, headers })
                    .await?
                    .iter()
                {
                    if is_allowed(allow, &function.name) {
                        functions.extend(mcp_function(&tool.name, function));
                    }
                }
            }
        }
    }
    functions.truncate(FUNCTIONS_MAX);
    Ok(functions)
}

fn workspace_functions(tool: &str, commands: &[String]) -> [Value; 3] {
    let allowed = match commands {
        [] => String::new(),
        commands => format!(" Programs that may be run: {}.", commands.join(", ")),
    };
    let path = json!({ "type": "string", "description": "Path relative to the workspace's home." });
    [
        function(
            &format!("{tool}{SEPARATOR}exec"),
            &format!(
                "Runs a program in the workspace and returns its exit code and output.{allowed}"
            ),
            &json!({
                "type": "object",
                "properties": {
                    "command": {
                        "type": "array",
                        "items": { "type": "string" },
                        "description": "Program and arguments; no shell interprets them."
                    },
                    "stdin": { "type": "string", "description": "Standard input." }
                },
                "required": ["command"]
            }),
        ),
        function(
            &format!("{tool}{SEPARATOR}read_file"),
            "Reads a text file of the workspace.",
            &json!({ "type": "object", "properties": { "path": path }, "required": ["path"] }),
        ),
        function(
            &format!("{tool}{SEPARATOR}write_file"),
            "Writes a text file of the workspace; parent folders are created.",
            &json!({
                "type": "object",
                "properties": { "path": path, "content": { "type": "string" } },
                "required": ["path", "content"]
            }),
        ),
    ]
}

/// A function of an MCP server; none if models could not name it.
fn mcp_function(tool: &str, listed: &rmcp::model::Tool) -> Option<Value> {
    let name = format!("{tool}{SEPARATOR}{}", listed.name);
    let is_nameable = name.len() <= NAME_BYTES_MAX
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_nameable {
        tracing::warn!(function = %name, "a function of an MCP server has a name that models do not accept");
        return None;
    }
    let description = listed.description.as_deref().unwrap_or_default();
    Some(function(&name, description, &json!(listed.input_schema)))
}

fn function(name: &str, description: &str, parameters: &Value) -> Value {
    json!({
        "type": "function",
        "function": { "name": name, "description": description, "parameters": parameters }
    })
}
