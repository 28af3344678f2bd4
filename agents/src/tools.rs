//! Tools: what models may call and steps may use, in workspaces and on MCP servers.

mod functions;
mod invoke;
mod mcp;
mod workspace;

pub(crate) use functions::offered;
pub(crate) use invoke::{Invocation, TIMEOUT as TOOL_TIMEOUT, invoke};
pub(crate) use mcp::{McpPool, Server as McpServer};
pub(crate) use workspace::Workspace;

use protocol::agent::{Definition, Tool, ToolSource};

use crate::failure::Failure;

/// Between a tool's name and its function's.
const SEPARATOR: &str = "__";

/// Whether an allow list has a name; a trailing `*` matches a prefix, an empty list nothing.
pub(crate) fn is_allowed(allow: &[String], name: &str) -> bool {
    allow.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    })
}

/// A tool of the live definition, which has its address and credentials.
pub(crate) fn live_tool<'a>(definition: &'a Definition, name: &str) -> Result<&'a Tool, Failure> {
    definition
        .tools
        .iter()
        .find(|tool| tool.name == name)
        .ok_or_else(|| Failure::permanent(format!("the agent has no tool `{name}` any more")))
}

/// A tool that must be a workspace.
pub(crate) fn live_workspace<'a>(
    definition: &'a Definition,
    name: &str,
) -> Result<Workspace<'a>, Failure> {
    match &live_tool(definition, name)?.source {
        ToolSource::Workspace {
            url,
            token,
            commands,
        } => Ok(Workspace {
            url,
            token,
            commands,
        }),
        ToolSource::Mcp { .. } => Err(Failure::permanent(format!(
            "tool `{name}` is not a workspace any more"
        ))),
    }
}
