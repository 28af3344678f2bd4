//! The stream of an upstream that speaks `streamGenerateContent`: answers that hold a piece each.

use protocol::sse;

use super::decode::{Answer, blocks, finish_of, piece};
use crate::wire::{Exchange, InvalidReply, delta::Delta, error, reply::Finish};

/// The state of one stream; its end is the end of the bytes.
#[derive(Debug)]
pub(in crate::wire) struct Decoder {
    request_id: String,
    is_started: bool,
    /// Calls that came.
    calls: u32,
}

impl Decoder {
    /// A stream of which nothing has come yet.
    pub(in crate::wire) fn new(exchange: &Exchange) -> Self {
        Self {
            request_id: exchange.request_id.clone(),
            is_started: false,
            calls: 0,
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
        let answer: Answer = serde_json::from_str(&event.data)?;
        if answer.error.is_some() {
            let fault = error::in_stream(event.data.as_bytes());
            deltas.push(Delta::Failed(fault));
            return Ok(());
        }
        // The usage comes with each piece, so that the client's first event can have it.
        let usage = answer
            .usage_metadata
            .map(|usage| Delta::Usage(usage.into()));
        deltas.extend(usage);
        if !self.is_started {
            self.is_started = true;
            let id = answer.response_id;
            deltas.push(Delta::Start { id });
        }
        if blocks(answer.prompt_feedback.as_ref()) {
            deltas.push(Delta::Finish(Finish::Refused));
        }
        let candidates = answer.candidates.into_iter();
        for candidate in candidates.filter(|candidate| candidate.index == 0) {
            for part in candidate.content.parts {
                let index = self.calls;
                let part = piece(part, &self.request_id, &mut self.calls)?;
                deltas.extend(
                    part.into_iter()
                        .flat_map(|part| Delta::of_part(part, index)),
                );
            }
            if let Some(reason) = candidate.finish_reason {
                deltas.push(Delta::Finish(finish_of(&reason, 0 < self.calls)?));
            }
        }
        Ok(())
    }
}
