//! Doing a tool call that a model asked for: whatever goes wrong is told to the model, which may do better.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    agent::{Definition, ToolSource},
    openai::ToolCall,
    workspace::ExecRequest,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    McpPool,
    functions::{Function, resolve},
    live_tool, live_workspace,
    mcp::Server,
};
use crate::{definition::CompiledAgent, failure::Failure, outbound::Outbound};

/// Most bytes of an output or a file that a model is told.
const RESULT_BYTES_MAX: usize = 64 * 1024;
/// Longest call.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(600);
/// Longest program of a model.
const PROGRAM_SECONDS_MAX: u64 = 300;

/// What a call needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Invocation<'a> {
    pub(crate) outbound: &'a Outbound,
    pub(crate) pool: &'a McpPool,
    /// What the run pinned: it decides which functions there are.
    pub(crate) agent: &'a CompiledAgent,
    /// Has addresses and credentials.
    pub(crate) live: &'a Definition,
    /// Makes repeats recognisable.
    pub(crate) id: &'a str,
}

#[derive(Deserialize)]
struct ExecArguments {
    command: Vec<String>,
    #[serde(default)]
    stdin: Option<String>,
}

#[derive(Deserialize)]
struct ReadArguments {
    path: String,
}

#[derive(Deserialize)]
struct WriteArguments {
    path: String,
    content: String,
}

/// Does a call and returns what the model is told.
///
/// # Errors
/// [`Failure::Permanent`] says what the model did wrong or why the tool cannot; the others are worth another try.
pub(crate) async fn invoke(invocation: Invocation<'_>, call: &ToolCall) -> Result<Value, Failure> {
    let name = call.function.name.as_str();
    let (pinned, function) = resolve(&invocation.agent.tools, name)
        .ok_or_else(|| Failure::permanent(format!("there is no function `{name}`")))?;
    let text = match call.function.arguments.trim() {
        "" => "{}",
        text => text,
    };
    match function {
        Function::Exec => exec(invocation, &pinned.name, parse(text)?).await,
        Function::ReadFile => {
            let ReadArguments { path } = parse(text)?;
            let workspace = live_workspace(invocation.live, &pinned.name)?;
            let (content, is_cut) = workspace
                .read_file(invocation.outbound, &path, RESULT_BYTES_MAX)
                .await?;
            let mut text = String::from_utf8_lossy(&content).into_owned();
            if is_cut {
                text.push_str("\n[the file goes on]");
            }
            Ok(Value::String(text))
        }
        Function::WriteFile => {
            let WriteArguments { path, content } = parse(text)?;
            let bytes = content.len();
            let workspace = live_workspace(invocation.live, &pinned.name)?;
            workspace
                .write_file(invocation.outbound, &path, content)
                .await?;
            Ok(json!({ "path": path, "bytes": bytes }))
        }
        Function::Mcp { name } => {
            let arguments = parse(text)?;
            let ToolSource::Mcp {
                url,
                headers,
                allow,
            } = &live_tool(invocation.live, &pinned.name)?.source
            else {
                return Err(Failure::permanent(format!(
                    "tool `{}` is no MCP server any more",
                    pinned.name
                )));
            };
            if !super::is_allowed(allow, &name) {
                return Err(Failure::permanent(format!(
                    "`{name}` may not be called any more"
                )));
            }
            let server = Server { url, headers };
            let result = invocation
                .pool
                .call(invocation.outbound, server, &name, arguments, invocation.id)
                .await?;
            Ok(cut(result))
        }
    }
}

async fn exec(
    invocation: Invocation<'_>,
    tool: &str,
    arguments: ExecArguments,
) -> Result<Value, Failure> {
    let workspace = live_workspace(invocation.live, tool)?;
    let request = ExecRequest {
        command: arguments.command,
        stdin: arguments.stdin.map(|stdin| STANDARD.encode(stdin)),
        timeout_seconds: Some(PROGRAM_SECONDS_MAX),
        id: Some(invocation.id.to_owned()),
        ..ExecRequest::default()
    };
    Ok(workspace
        .exec(invocation.outbound, &request, RESULT_BYTES_MAX)
        .await?
        .to_json())
}

/// Models write invalid JSON: they are told so in words that help.
fn parse<T: for<'de> Deserialize<'de>>(arguments: &str) -> Result<T, Failure> {
    serde_json::from_str(arguments).map_err(|error| {
        Failure::permanent(format!(
            "the arguments are not the JSON object that the function takes: {error}"
        ))
    })
}

fn cut(result: Value) -> Value {
    let text = match &result {
        Value::String(text) if RESULT_BYTES_MAX < text.len() => text.clone(),
        Value::String(_) => return result,
        other => other.to_string(),
    };
    if text.len() <= RESULT_BYTES_MAX {
        return result;
    }
    let end = text.floor_char_boundary(RESULT_BYTES_MAX);
    Value::String(format!("{}\n[the result goes on]", &text[..end]))
}

#[cfg(test)]
mod tests {
    use super::{RESULT_BYTES_MAX, cut};
    use serde_json::{Value, json};

    #[test]
    fn a_long_result_is_cut_at_a_character() {
        let long = "ü".repeat(RESULT_BYTES_MAX);
        let Value::String(text) = cut(Value::String(long)) else {
            panic!("a string stays a string")
        };
        assert!(text.ends_with("[the result goes on]") && text.len() < RESULT_BYTES_MAX + 32);
        assert_eq!(cut(json!({ "a": 1 })), json!({ "a": 1 }));
    }
}
