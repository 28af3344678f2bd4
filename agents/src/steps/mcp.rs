//! Calls a function of an MCP server.

use protocol::{agent::ToolSource, runs::RunEvent};
use serde_json::{Map, Value};

use super::{Outcome, StepContext};
use crate::{
    failure::Failure,
    graph::McpStep,
    tools::{McpServer, is_allowed, live_tool},
};

pub(super) async fn run(context: StepContext<'_>, step: &McpStep) -> Result<Outcome, Failure> {
    let arguments = match &step.arguments {
        None => Map::new(),
        Some(expression) => {
            let value = expression
                .evaluate(context.scope())
                .map_err(|error| Failure::permanent(error.to_string()))?;
            match value {
                Value::Object(arguments) => arguments,
                other => {
                    return Err(Failure::permanent(format!(
                        "the arguments are no object: {other}"
                    )));
                }
            }
        }
    };
    let definition = &context.live.entry.definition;
    let ToolSource::Mcp {
        url,
        headers,
        allow,
    } = &live_tool(definition, &step.tool)?.source
    else {
        return Err(Failure::permanent(format!(
            "tool `{}` is no MCP server any more",
            step.tool
        )));
    };
    if !is_allowed(allow, &step.function) {
        return Err(Failure::permanent(format!(
            "`{}` may not be called any more",
            step.function
        )));
    }
    let services = context.services;
    let server = McpServer { url, headers };
    let result = services
        .pool
        .call(
            &services.outbound,
            server,
            &step.function,
            arguments.clone(),
            context.task,
        )
        .await;
    services.metrics.tool_called(result.is_ok());
    let result = result?;
    Ok(Outcome {
        events: vec![RunEvent::ToolCalled {
            step: context.key.number,
            tool: format!("{}__{}", step.tool, step.function),
            arguments: Value::Object(arguments),
            result: result.clone(),
            failed: false,
        }],
        tool_calls: 1,
        ..Outcome::write(&step.to, result)
    })
}
