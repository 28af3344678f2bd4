//! The stream of an upstream that speaks chat completions.

use protocol::{openai::Logprobs, sse};
use serde::Deserialize;

use super::{AnyUsage, finish_of, usage_of};
use crate::wire::{Exchange, InvalidReply, delta::Delta, error, json::Json, reply::Finish};

/// Calls of one answer that are accepted.
const CALLS_MAX: usize = 1024;

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    choices: Option<Vec<Choice>>,
    #[serde(default)]
    usage: Option<AnyUsage>,
    #[serde(default)]
    error: Option<Json>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u32,
    #[serde(default)]
    delta: Option<ChunkDelta>,
    #[serde(default)]
    finish_reason: Option<String>,
    #[serde(default)]
    stop_reason: Option<serde_json::Value>,
    #[serde(default)]
    logprobs: Option<Logprobs>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ChunkDelta {
    content: Option<String>,
    refusal: Option<String>,
    reasoning_content: Option<String>,
    reasoning: Option<String>,
    tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CallDelta {
    index: Option<u32>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

/// A call on its way.
#[derive(Debug, Default)]
struct CallState {
    /// The upstream's place of it.
    index: u32,
    id: String,
    name: String,
    /// Arguments that came before the name.
    held: String,
    is_begun: bool,
}

/// The state of one stream.
#[derive(Debug)]
pub(in crate::wire) struct Decoder {
    request_id: String,
    is_started: bool,
    calls: Vec<CallState>,
}

impl Decoder {
    /// A stream of which nothing has come yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            request_id: exchange.request_id.clone(),
            is_started: false,
            calls: Vec::new(),
        }
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`InvalidReply`] if it is none of this API.
    pub(in crate::wire) fn decode_event(
        &mut self,
        event: &sse::Event,
        deltas: &mut Vec<Delta>,
    ) -> Result<(), InvalidReply> {
        if event.data == sse::DONE {
            deltas.push(Delta::End);
            return Ok(());
        }
        let chunk: Chunk = serde_json::from_str(&event.data)?;
        if chunk.error.is_some_and(|error| error.text() != "null") {
            let fault = error::in_stream(event.data.as_bytes());
            deltas.push(Delta::Failed(fault));
            return Ok(());
        }
        if !self.is_started {
            self.is_started = true;
            deltas.push(Delta::Start { id: chunk.id });
        }
        let choices = chunk.choices.unwrap_or_default();
        for choice in choices.into_iter().filter(|choice| choice.index == 0) {
            self.choice(choice, deltas)?;
        }
        if let Some(usage) = chunk.usage {
            deltas.push(Delta::Usage(usage_of(usage)));
        }
        Ok(())
    }

    fn choice(&mut self, choice: Choice, deltas: &mut Vec<Delta>) -> Result<(), InvalidReply> {
        let delta = choice.delta.unwrap_or_default();
        let is_said = |text: &String| !text.is_empty();
        let thoughts = delta.reasoning_content.or(delta.reasoning);
        deltas.extend(choice.logprobs.map(Delta::Logprobs));
        deltas.extend(thoughts.filter(is_said).map(Delta::Thinking));
        deltas.extend(delta.content.filter(is_said).map(Delta::Text));
        deltas.extend(delta.refusal.filter(is_said).map(Delta::Refusal));
        for call in delta.tool_calls.into_iter().flatten() {
            self.call(call, deltas)?;
        }
        if let Some(reason) = choice.finish_reason {
            let stop = choice
                .stop_reason
                .and_then(|stop| stop.as_str().map(str::to_owned));
            let mut finish = finish_of(&reason, stop);
            if finish == Finish::Stop && !self.calls.is_empty() {
                finish = Finish::Calls;
            }
            deltas.push(Delta::Finish(finish));
        }
        Ok(())
    }

    fn call(&mut self, delta: CallDelta, deltas: &mut Vec<Delta>) -> Result<(), InvalidReply> {
        let place = self.place(&delta)?;
        let Some(call) = self.calls.get_mut(place) else {
            return Ok(());
        };
        let index = u32::try_from(place).unwrap_or(u32::MAX);
        let function = delta.function.unwrap_or_default();
        // Some servers repeat both in each piece.
        if let Some(id) = delta.id
            && call.id.is_empty()
        {
            call.id = id;
        }
        if let Some(name) = function.name
            && !call.is_begun
        {
            call.name.push_str(&name);
        }
        call.held
            .push_str(function.arguments.as_deref().unwrap_or_default());
        if call.name.is_empty() {
            return Ok(());
        }
        if !call.is_begun {
            call.is_begun = true;
            if call.id.is_empty() {
                call.id = format!("call_{}_{index}", self.request_id);
            }
            deltas.push(Delta::Call {
                index,
                id: call.id.clone(),
                name: call.name.clone(),
            });
        }
        if !call.held.is_empty() {
            let json = std::mem::take(&mut call.held);
            deltas.push(Delta::Arguments { index, json });
        }
        Ok(())
    }

    /// The place of a piece's call; a piece without an index belongs to the last call unless it has a new id.
    fn place(&mut self, delta: &CallDelta) -> Result<usize, InvalidReply> {
        let is_same = |call: &CallState| match (delta.index, &delta.id) {
            (Some(index), _) => call.index == index,
            (None, Some(id)) if !id.is_empty() => call.id == *id,
            (None, _) => true,
        };
        if let Some(place) = self.calls.iter().rposition(is_same) {
            return Ok(place);
        }
        if CALLS_MAX <= self.calls.len() {
            return Err(InvalidReply::TooLong);
        }
        let next = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
        self.calls.push(CallState {
            index: delta.index.unwrap_or(next),
            ..CallState::default()
        });
        Ok(self.calls.len() - 1)
    }
}
