//! Runs a program in a workspace.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{runs::RunEvent, workspace::ExecRequest};
use serde_json::json;

use super::{Outcome, StepContext};
use crate::{failure::Failure, graph::ExecStep, tools::live_workspace};

/// Most bytes of each output that are kept.
const OUTPUT_BYTES_MAX: usize = 256 * 1024;
/// Longest program, unless the node says otherwise.
pub(crate) const PROGRAM_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// What an attempt may need beside the program.
pub(crate) const OVERHEAD: Duration = Duration::from_secs(15);

pub(super) async fn run(
    context: StepContext<'_>,
    step: &ExecStep,
    timeout: Option<Duration>,
) -> Result<Outcome, Failure> {
    let workspace = live_workspace(&context.live.entry.definition, &step.tool)?;
    let command = step
        .command
        .iter()
        .map(|word| context.render(word))
        .collect::<Result<Vec<_>, _>>()?;
    workspace.check_command(&command)?;
    let stdin = step
        .stdin
        .as_ref()
        .map(|stdin| context.render(stdin))
        .transpose()?;
    let outbound = &context.services.outbound;
    for (path, content) in &step.files {
        workspace
            .write_file(outbound, &context.render(path)?, context.render(content)?)
            .await?;
    }
    let request = ExecRequest {
        command: command.clone(),
        stdin: stdin.map(|stdin| STANDARD.encode(stdin)),
        timeout_seconds: Some(timeout.unwrap_or(PROGRAM_TIMEOUT_DEFAULT).as_secs()),
        id: Some(context.task.to_owned()),
        ..ExecRequest::default()
    };
    let result = workspace.exec(outbound, &request, OUTPUT_BYTES_MAX).await;
    context.services.metrics.tool_called(result.is_ok());
    let result = result?;
    let value = result.to_json();
    if step.check && result.exit.code != 0 {
        return Err(Failure::transient(format!(
            "`{}` ended with {value}",
            command.join(" ")
        )));
    }
    Ok(Outcome {
        events: vec![RunEvent::ToolCalled {
            step: context.key.number,
            tool: step.tool.clone(),
            arguments: json!({ "command": command }),
            result: value.clone(),
            failed: result.exit.code != 0,
        }],
        tool_calls: 1,
        ..Outcome::write(&step.to, value)
    })
}
