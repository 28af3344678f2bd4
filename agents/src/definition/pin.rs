//! Pinning: the part of a definition that a run keeps, without credentials and addresses.

use protocol::{
    agent::{Definition, Tool, ToolSource},
    secret::SecretString,
    snapshot::content_hash,
};

/// The hash of a pinned definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Revision(pub(crate) String);

/// Strips what may change under a run: credentials are secret, and addresses move when a Pod restarts.
pub(crate) fn pin(definition: &Definition) -> (Revision, Definition) {
    let pinned = Definition {
        tools: definition.tools.iter().map(pin_tool).collect(),
        ..definition.clone()
    };
    (Revision(content_hash(&pinned)), pinned)
}

fn pin_tool(tool: &Tool) -> Tool {
    let source = match &tool.source {
        ToolSource::Workspace {
            url: _,
            token: _,
            commands,
        } => ToolSource::Workspace {
            url: String::new(),
            token: SecretString::new(String::new()),
            commands: commands.clone(),
        },
        ToolSource::Mcp {
            url: _,
            headers: _,
            allow,
        } => ToolSource::Mcp {
            url: String::new(),
            headers: std::collections::BTreeMap::new(),
            allow: allow.clone(),
        },
    };
    Tool {
        name: tool.name.clone(),
        source,
    }
}
