//! The stream of an upstream that speaks `ConverseStream`.

use protocol::sse;
use serde::{Deserialize, de::DeserializeOwned};

use super::decode::{AnyUsage, finish_of};
use crate::wire::{InvalidReply, delta::Delta, error};

#[derive(Deserialize)]
struct BlockStart {
    start: Start,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Start {
    #[serde(default)]
    tool_use: Option<ToolUseStart>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ToolUseStart {
    tool_use_id: String,
    name: String,
    /// Set for tools that Amazon runs itself.
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct BlockDelta {
    delta: AnyDelta,
}

/// A delta; of the fields there is one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDelta {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    tool_use: Option<ToolUseDelta>,
    #[serde(default)]
    reasoning_content: Option<ReasoningDelta>,
    #[serde(default)]
    image: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct ToolUseDelta {
    input: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReasoningDelta {
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    signature: Option<String>,
    #[serde(default)]
    redacted_content: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MessageStop {
    stop_reason: String,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    usage: AnyUsage,
}

/// The state of one stream.
#[derive(Debug, Default)]
pub(in crate::wire) struct Decoder {
    /// Calls that began.
    calls: u32,
    is_in_call: bool,
    /// The open call has arguments.
    has_arguments: bool,
}

impl Decoder {
    /// Reads one event.
    ///
    /// # Errors
    /// [`InvalidReply`] if it is none of this API.
    pub(in crate::wire) fn decode_event(
        &mut self,
        event: &sse::Event,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), InvalidReply> {
        match event.event.as_str() {
            "messageStart" => deltas.push(Delta::Start { id: None }),
            "contentBlockStart" => self.begin(read(event)?, deltas),
            "contentBlockDelta" => self.go_on(read(event)?, deltas)?,
            "contentBlockStop" => {
                self.stop(deltas);
            }
            "messageStop" => {
                let stop: MessageStop = read(event)?;
                deltas.push(Delta::Finish(finish_of(&stop.stop_reason)?));
            }
            "metadata" => {
                let metadata: Metadata = read(event)?;
                deltas.push(Delta::Usage(metadata.usage.into()));
                deltas.push(Delta::End);
            }
            kind if kind.ends_with("Exception") || kind.ends_with("Error") => {
                let fault = error::of_kind(kind, event.data.as_bytes());
                deltas.push(Delta::Failed(fault));
            }
            // Events from the future.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, block: BlockStart, deltas: &mut Vec<Delta>) {
        if let Some(call) = block.start.tool_use
            && call.kind.is_none()
        {
            let index = self.calls;
            self.calls = index.saturating_add(1);
            self.is_in_call = true;
            self.has_arguments = false;
            deltas.push(Delta::Call {
                index,
                id: call.tool_use_id,
                name: call.name,
            });
        }
    }

    /// Ends a block. Calls without arguments get an empty object: clients read the arguments as JSON.
    fn stop(&mut self, deltas: &mut Vec<Delta>) {
        if std::mem::take(&mut self.is_in_call) && !self.has_arguments {
            let index = self.calls.saturating_sub(1);
            let json = "{}".to_owned();
            deltas.push(Delta::Arguments { index, json });
        }
        deltas.push(Delta::Break);
    }

    fn go_on(&mut self, block: BlockDelta, deltas: &mut Vec<Delta>) -> Result<(), InvalidReply> {
        let delta = block.delta;
        if delta.image.is_some() {
            return Err(InvalidReply::Untold("a picture or sound"));
        }
        let is_said = |text: &String| !text.is_empty();
        deltas.extend(delta.text.filter(is_said).map(Delta::Text));
        if let Some(call) = delta.tool_use.filter(|_| self.is_in_call) {
            let index = self.calls.saturating_sub(1);
            let json = Some(call.input).filter(is_said);
            self.has_arguments |= json.is_some();
            deltas.extend(json.map(|json| Delta::Arguments { index, json }));
        }
        if let Some(thoughts) = delta.reasoning_content {
            deltas.extend(thoughts.text.filter(is_said).map(Delta::Thinking));
            deltas.extend(thoughts.signature.filter(is_said).map(Delta::Signature));
            deltas.extend(
                thoughts
                    .redacted_content
                    .filter(is_said)
                    .map(Delta::Redacted),
            );
        }
        Ok(())
    }
}

fn read<T: DeserializeOwned>(event: &sse::Event) -> Result<T, InvalidReply> {
    Ok(serde_json::from_str(&event.data)?)
}
